"""One ranking out of both halves of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.index.vectors import Near
from app.retrieve.weights import Weights
from app.sentences import content_words, parts, stem, vocabulary
from app.store.passages import Passage

# What each counts for, chosen by tests/evaluation/postgresql-manual.jsonl, where half or twice as much of any is no
# better: docs/bench.md has the figures, and those of reciprocal rank fusion.
OF_VECTOR = 0.3
OF_WORDS = 0.3
OF_HEADING = 0.2
OF_COMPANY = 0.1
# Under a heading that fits, a passage of a few words says hardly anything.
OF_SHORTNESS = 0.3
SHORT = 20


@dataclass(frozen=True)
class Halves:
    """What each half found, by passage: nearness from 0 to 1, and the share of what is asked."""

    nearness: Mapping[str, float]
    words: Mapping[str, float]


def nearness(near: Sequence[Near]) -> dict[str, float]:
    """1 for the nearest and 0 for the last of them: models differ in how far apart they put what is unrelated."""
    if not near:
        return {}
    first, last = near[0].distance, near[-1].distance
    return {one.id: (last - one.distance) / (last - first) if last > first else 1.0 for one in near}


def scores(found: Sequence[Passage], halves: Halves, asked: Weights) -> dict[str, float]:
    """How well each passage fits, by the question's words that some passage has; comparable within one search only."""
    stems = _by_stem(asked)
    titles = {title: _titled(title, stems) for title in {one.title for one in found}}
    company = _company(found, halves.nearness)
    return {one.id: _score(one, halves, stems, titles[one.title], company[one.id]) for one in found}


def _score(passage: Passage, halves: Halves, asked: Weights, titled: float, company: float) -> float:
    heading = vocabulary(passage.headings[-1:] or (passage.title,))
    headed = max(_share(asked, heading), titled)
    short = max(0.0, 1 - len(passage.text.split()) / SHORT)
    return (
        OF_VECTOR * halves.nearness.get(passage.id, 0.0)
        + OF_WORDS * halves.words.get(passage.id, 0.0)
        + OF_HEADING * headed
        + OF_COMPANY * company
        - OF_SHORTNESS * short
    )


def _by_stem(asked: Weights) -> Weights:
    found: dict[str, float] = {}
    for word, weight in asked.items():
        found[stem(word)] = found.get(stem(word), 0.0) + weight
    return found


def _share(asked: Weights, heading: frozenset[str]) -> float:
    """How much of what is asked the heading has."""
    return sum(weight for word, weight in asked.items() if word in heading) / (sum(asked.values()) or 1.0)


def _titled(title: str, asked: Weights) -> float:
    """How much of what is asked the document's title has, as far as it is about nothing else.

    Under "Description" or "Notes" only the title tells what is described; a long one shares a word by chance.
    """
    words = [word for word in content_words(title) if any(character.isalpha() for character in word)]
    about = sum(_asked(word, asked) for word in words) / len(words) if words else 0.0
    return _share(asked, vocabulary((title,))) * about


def _asked(word: str, asked: Weights) -> float:
    """1 for a word of the question; of a name such as max_connections the share of its parts that are some."""
    if stem(word) in asked:
        return 1.0
    pieces = parts(word)
    return sum(stem(piece) in asked for piece in pieces) / len(pieces) if len(pieces) > 1 else 0.0


def _company(found: Sequence[Passage], near: Mapping[str, float]) -> dict[str, float]:
    """The nearness of the nearest other passage of the same document: a lone one may be near by chance."""
    documents: dict[UUID, list[float]] = {}
    for one in found:
        documents.setdefault(one.document_id, []).append(near.get(one.id, 0.0))
    nearest = {document: sorted([*some, 0.0], reverse=True)[:2] for document, some in documents.items()}

    def of(one: Passage) -> float:
        first, second = nearest[one.document_id]
        return second if near.get(one.id, 0.0) == first else first

    return {one.id: of(one) for one in found}
