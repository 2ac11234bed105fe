"""The words of a question: counted on the way or known, the same passages come first, in the same order."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, text

from app.retrieve.weights import Frequencies
from app.store import matching, passages
from app.store.matching import Match, Only, Scope
from app.store.passages import NewPassage, passage_id
from tests.app.ollama_standin import DIMENSION, EMBED
from tests.app.site import Site

WORDS = [f"w{number}x" for number in range(12)]
PASSAGES, LIMIT = 80, 15
OFTEN = text(
    "select document_id, ordinal, ts_rank(cast(array[1, 1, 1, 1] as real[]), words, cast(:word as tsquery)) as often"
    " from passages where collection_id = :collection and words @@ cast(:word as tsquery)"
)


def hold(connection: Connection, texts: Sequence[str]) -> UUID:
    """A new collection of these passages."""
    name, document_id = uuid4().hex, uuid4()
    statement = text("insert into collections (name) values (:name) returning id")
    collection_id: UUID = connection.execute(statement, {"name": name}).scalar_one()
    connection.execute(
        text(
            "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
            " values (:id, :collection, 'Made', :name, 'text/plain', :name, 1, 'x', 'indexed')"
        ),
        {"id": document_id, "collection": collection_id, "name": name},
    )
    vector = np.zeros(DIMENSION, dtype=np.float32)
    new = [NewPassage(place, one, (), {}, vector) for place, one in enumerate(texts)]
    passages.replace(connection, collection_id, document_id, EMBED, new)
    return collection_id


@pytest.fixture
def filled(site: Site) -> Iterator[tuple[Connection, UUID]]:
    """A collection of passages of few words, of which many weigh the same; never committed."""
    made = random.Random(4)  # noqa: S311 - the same passages each time
    texts = [" ".join(made.choices(WORDS, range(1, 13), k=made.randrange(3, 9))) for _ in range(PASSAGES)]
    with site.database.connect() as connection:
        yield connection, hold(connection, texts)
        connection.rollback()


def best(connection: Connection, scope: Scope, question: str) -> list[Match]:
    """As it is promised: those whose words weigh most together, in the order of how often they have them."""
    present = Frequencies().asked(connection, scope.collections, question).present
    rank: defaultdict[tuple[str, int], float] = defaultdict(float)
    for word, weight in present.items():
        for row in connection.execute(OFTEN, {"word": word, "collection": scope.collections[0]}):
            rank[passage_id(row.document_id, row.ordinal), row.ordinal] += weight * row.often
    places = {id_: (-round(often, 9), ordinal) for (id_, ordinal), often in rank.items()}
    shared = matching.shared(connection, scope, present, list(places))
    first = sorted(shared, key=lambda one: (-one.score, places[one.id]))[:LIMIT]
    return sorted(first, key=lambda one: (places[one.id][0], -one.score, places[one.id][1]))


@pytest.mark.parametrize("words", [WORDS[:1], WORDS[3:6], ["w1x", "absent", "w1x", "w9x"], WORDS[::-1]])
def test_the_best_passages_are_the_same_whether_the_words_were_counted_before_or_not(
    filled: tuple[Connection, UUID], words: list[str]
) -> None:
    connection, collection_id = filled
    scope, question, known = Scope((collection_id,)), " ".join(words), Frequencies()
    expected = best(connection, scope, question)
    if len(words) > 1:
        # One is known and the others are not.
        known.asked(connection, scope.collections, words[-1])

    first = known.matching(connection, scope, question, LIMIT)
    again = known.matching(connection, scope, question, LIMIT)
    limited = known.matching(connection, Scope(scope.collections, Only(media_types=("text/plain",))), question, LIMIT)

    assert first[1] == again[1] == limited[1] == expected != []
    assert first[0] == again[0] == Frequencies().asked(connection, scope.collections, question)


def test_a_passage_that_comes_back_to_what_is_asked_comes_before_one_that_has_each_word_once(site: Site) -> None:
    by_the_way = "The crane stands by the gate, and whoever wants to lift it asks the harbour master."
    about = "A crane lifts. The crane of the harbour lifts more than a crane of that size lifts elsewhere."
    one_word = "Crane, crane, crane, crane and crane."
    with site.database.connect() as connection:
        scope = Scope((hold(connection, [by_the_way, one_word, about, *["Nothing."] * 20]),))

        _, found = Frequencies().matching(connection, scope, "harbour crane lifts", 2)

        connection.rollback()
    assert [one.id.rsplit(":")[1] for one in found] == ["2", "0"]
    assert found[0].score == found[1].score


def test_what_was_counted_on_the_way_is_not_counted_again(
    filled: tuple[Connection, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, collection_id = filled
    scope, known = Scope((collection_id,)), Frequencies()
    first = known.matching(connection, scope, "w2x w7x", LIMIT)

    monkeypatch.setattr(matching, "frequencies", None)
    monkeypatch.setattr(matching, "counting", None)

    assert known.matching(connection, scope, "w2x w7x", LIMIT) == first


def test_a_question_without_a_word_that_any_passage_has_finds_nothing(filled: tuple[Connection, UUID]) -> None:
    connection, collection_id = filled

    asked, found = Frequencies().matching(connection, Scope((collection_id,)), "absent words", LIMIT)

    assert (list(asked.weights), asked.present, found) == (["absent", "words"], {}, [])
    assert Frequencies().matching(connection, Scope((collection_id,)), "the", LIMIT)[1] == []
