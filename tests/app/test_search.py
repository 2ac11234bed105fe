"""Search: its two halves, limits on documents, several collections."""

import asyncio
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from app.index.vectors import Near, Vectors
from app.retrieve import nearest
from app.retrieve.nearest import Space
from app.settings import Chroma
from app.settings_of_models import Embedder
from app.store.matching import Only, Scope
from tests.app import ollama_standin
from tests.app.ollama_standin import DIMENSION, EMBED
from tests.app.site import Person, Site

CROWD = " ".join(f"The crane number {number} lifts nine tonnes in the harbour." for number in range(1000))


def found(person: Person, *collections: str, **wanted: Any) -> list[dict[str, Any]]:
    parameters = {"collection": collections, "q": "crane in the harbour", **wanted}
    results: list[dict[str, Any]] = person.get("/api/v1/search", params=parameters)["results"]
    return results


@pytest.fixture
def crowded(site: Site, admin: Person, collection: str) -> dict[str, str]:
    """A document of more passages than any search takes as candidates, and two small ones behind it."""
    uploaded = [
        admin.upload(collection, "crowd.txt", CROWD.encode()),
        admin.upload(collection, "old.md", b"# Old cranes\n\nA harbour once had an old wooden crane, built by hand."),
        admin.upload(collection, "page.html", b"<p>Of the harbour's last crane nothing but a picture is left.</p>"),
    ]
    settled = [admin.settled(document) for document in uploaded]
    assert [document["state"] for document in settled] == ["indexed"] * 3
    assert settled[0]["passages"] > 55
    site.wait_until_in_step()
    return {document["file_name"]: document["id"] for document in settled}


def test_a_result_says_where_it_stood_in_each_half(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "crane.txt", b"The crane stands in the harbour."))
    admin.settled(admin.upload(collection, "tax.txt", b"Tax law changed in March."))
    site.wait_until_in_step()

    both, vector, lexical = (found(admin, collection, mode=mode) for mode in ("hybrid", "vector", "lexical"))

    assert [result["title"] for result in both] == ["crane.txt", "tax.txt"]
    assert both[0]["lexical"] == {"rank": 1, "score": pytest.approx(1)}
    assert (both[0]["vector"]["rank"], both[1]["vector"]["rank"]) == (1, 2)
    assert 0 <= both[0]["vector"]["distance"] < 0.5 < both[1]["vector"]["distance"]
    assert both[0]["score"] > both[1]["score"]
    assert both[1]["lexical"] is None
    assert [(result["title"], result["lexical"]) for result in vector] == [("crane.txt", None), ("tax.txt", None)]
    assert [(result["title"], result["vector"]) for result in lexical] == [("crane.txt", None)]


def test_a_document_behind_a_crowd_is_found_by_both_halves_when_it_alone_is_wanted(
    site: Site, admin: Person, collection: str, crowded: dict[str, str]
) -> None:
    assert "old.md" not in {result["title"] for result in found(admin, collection, limit=50, mode="vector")}

    results = found(admin, collection, document=crowded["old.md"])

    assert [result["document_id"] for result in results] == [crowded["old.md"]]
    assert results[0]["vector"]["rank"] == results[0]["lexical"]["rank"] == 1


def test_documents_are_told_apart_by_their_type_and_by_when_they_came(
    site: Site, admin: Person, collection: str, crowded: dict[str, str]
) -> None:
    documents = {name: admin.get(f"/api/v1/documents/{id_}") for name, id_ in crowded.items()}

    def names(**wanted: Any) -> set[str]:
        ids = {result["document_id"] for result in found(admin, collection, limit=50, **wanted)}
        return {name for name, id_ in crowded.items() if id_ in ids}

    page = documents["page.html"]
    assert names(media_type=page["media_type"]) == {"page.html"}
    assert names(document=[crowded["page.html"], crowded["old.md"]]) == {"page.html", "old.md"}
    assert names(since=page["created_at"]) == {"page.html"}
    assert "page.html" not in names(until=page["created_at"])
    assert names(until=documents["crowd.txt"]["created_at"]) == set()


def test_few_passages_compared_one_by_one_and_many_sorted_out_of_the_index_come_to_the_same(
    site: Site, admin: Person, collection: str, crowded: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.database.connect() as connection:
        statement = text("select collection_id from documents where id = :id")
        collection_id = connection.execute(statement, {"id": crowded["old.md"]}).scalar_one()
    index = Vectors(Chroma(port=int(site.environment["CHROMA_PORT"])))
    space = Space(site.database, index, Embedder(EMBED, DIMENSION))
    scope = Scope((collection_id,), Only(documents=(UUID(crowded["old.md"]), UUID(crowded["page.html"]))))
    vector = np.asarray(ollama_standin.embedding("crane in the harbour"), dtype=np.float32)

    async def both() -> tuple[list[Near], list[Near]]:
        compared = await nearest.nearest(space, scope, vector, 2)
        monkeypatch.setattr(nearest, "FEW", 0)
        return compared, await nearest.nearest(space, scope, vector, 2)

    compared, sorted_out = asyncio.run(both())

    assert len(compared) == 2
    assert [near.id for near in sorted_out] == [near.id for near in compared]
    assert [near.distance for near in sorted_out] == pytest.approx([near.distance for near in compared], abs=1e-5)


def test_several_collections_are_one_ranking_and_one_that_may_not_be_read_is_not_there(
    site: Site, admin: Person, collection: str
) -> None:
    other = admin.make_collection()
    for name in (collection, other):
        admin.settled(admin.upload(name, f"{name}.txt", f"The crane of {name} stands in the harbour.".encode()))
    site.wait_until_in_step()
    reader = site.add_user()
    admin.call(
        "PUT",
        f"/api/v1/collections/{other}/grants/users/{reader.get('/api/v1/me')['name']}",
        json={"permission": "read"},
    )

    both = found(admin, collection, other)
    refused = reader.call("GET", "/api/v1/search", params={"collection": [other, collection], "q": "crane"})

    assert {result["title"] for result in both} == {f"{collection}.txt", f"{other}.txt"}
    assert {result["vector"]["rank"] for result in both} == {1, 2}
    assert [result["title"] for result in found(reader, other)] == [f"{other}.txt"]
    assert refused.status_code == 404


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 51}, "limit"),
        ({"mode": "magic"}, "mode"),
        ({"document": "one"}, "document"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "since = 2026-02-02"),
        ({"media_type": ""}, "media_type"),
        ({"q": ""}, "q"),
        ({"langauge": "german"}, "langauge"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(
    admin: Person, collection: str, wanted: dict[str, Any], named: str
) -> None:
    answer = admin.call("GET", "/api/v1/search", params={"collection": collection, "q": "crane", **wanted})

    assert answer.status_code == 422
    assert named in answer.json()["detail"]


def test_vectors_of_another_model_are_never_compared(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "crane.txt", b"The crane stands in the harbour."))
    site.wait_until_in_step()
    with site.database.begin() as connection:
        connection.execute(text("insert into embedding_models (model, dimension) values ('another', 256)"))
    try:
        answer = admin.get("/api/v1/search", params={"collection": collection, "q": "crane"})
    finally:
        with site.database.begin() as connection:
            connection.execute(text("delete from embedding_models where model = 'another'"))

    assert answer["degraded"] == "index"
    assert [result["vector"] for result in answer["results"]] == [None]
