"""A document's journey in, a question's journey out."""

from typing import Any

import pytest

from tests.app import formats
from tests.app.servers import wait_for
from tests.app.site import Person, Site

QUESTION = "How long is the notice period of the Halden contract?"


def plain(text: str) -> str:
    return " ".join(text.split())


PLACES = {
    "contract.txt": {},
    "contract.md": {},
    "contract.html": {},
    "contract.pdf": {"page": 2},
    "contract.docx": {},
    "contract.pptx": {"slide": 2},
    "contract.xlsx": {"sheet": "Contracts", "rows": [1, 3]},
    "contract.csv": {"rows": [1, 3]},
    "contract.eml": {},
}


@pytest.mark.parametrize("name", PLACES)
def test_a_document_of_each_format_is_answered_from_with_a_quote_that_stands_in_it(
    site: Site, admin: Person, collection: str, name: str
) -> None:
    document = admin.settled(admin.upload(collection, name, formats.contract(name)))
    assert (document["state"], document["error"]) == ("indexed", None)
    site.wait_until_in_step()

    answer = admin.ask(collection, QUESTION)

    assert answer["supported"], answer
    assert "90 days" in answer["answer"]
    assert "[1]" in answer["answer"]
    citation = answer["citations"][0]
    assert citation["document_id"] == document["id"]
    assert "90 days" in citation["quote"]
    # In a table the name of the column stands before the value.
    assert plain(citation["quote"]).removeprefix("part: b | text: ") in plain(formats.TEXT)
    passage = admin.get(f"/api/v1/documents/{document['id']}/passages/{citation['passage']}")
    assert citation["quote"] in passage["text"]
    assert citation["page"] == (2 if name.endswith(".pdf") else None)
    assert citation["place"] == passage["place"] == PLACES[name]
    if name.endswith((".md", ".html", ".docx")):
        assert citation["section"] == "Halden contract > Termination"
        assert citation["headings"] == passage["headings"] == ["Halden contract", "Termination"]


def test_what_the_documents_do_not_say_is_refused(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()

    unknown = admin.ask(collection, "Who is the king of France?")
    site.ollama.says = "The notice period is 30 days. Penguins guard the archive at night."
    invented = admin.ask(collection, QUESTION)

    for answer in (unknown, invented):
        assert answer["answer"] == "not found in the documents"
        assert (answer["supported"], answer["refused"], answer["citations"]) == (False, True, [])


def test_what_only_the_model_says_is_left_out_of_a_supported_answer(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.ollama.says = "The notice period is 90 days [1]. Penguins guard the archive at night [1]."

    answer = admin.ask(collection, QUESTION)

    assert answer["answer"] == "The notice period is 90 days [1]."
    assert answer["unsupported"] == ["Penguins guard the archive at night."]


def test_an_answer_streams_as_events(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))

    events = streamed(admin, collection)

    names = [name for name, _ in events]
    assert names[0] == "passages"
    assert names[-1] == "answer"
    assert set(names[1:-1]) == {"token"}
    raw = "".join(data["text"] for name, data in events if name == "token")
    assert "90 days" in raw
    assert events[-1][1]["supported"]


def test_a_host_that_fails_in_the_middle_costs_a_restart_and_no_answer(
    site: Site, admin: Person, collection: str
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.ollama.breaks_off = 1

    events = streamed(admin, collection)

    assert "restart" in [name for name, _ in events]
    assert events[-1][0] == "answer"
    assert events[-1][1]["supported"]


def test_the_same_bytes_twice_are_one_document(admin: Person, collection: str) -> None:
    first = admin.upload(collection, "a.txt", b"The same bytes.")
    second = admin.upload(collection, "b.txt", b"The same bytes.")

    assert first["id"] == second["id"]
    assert len(admin.get(f"/api/v1/collections/{collection}/documents")["items"]) == 1


def test_a_new_version_replaces_the_old_one(site: Site, admin: Person, collection: str) -> None:
    old = admin.settled(admin.upload(collection, "rota.txt", b"On Friday the cook is Ada."))
    new = admin.settled(admin.upload(collection, "rota.txt", b"On Friday the cook is Grace."))
    site.wait_until_in_step()

    answer = admin.ask(collection, "Who is the cook on Friday?")

    assert admin.call("GET", f"/api/v1/documents/{old['id']}").status_code == 404
    assert [found["id"] for found in admin.get(f"/api/v1/collections/{collection}/documents")["items"]] == [new["id"]]
    assert "Grace" in answer["answer"]


def test_a_deleted_document_is_found_no_more(site: Site, admin: Person, collection: str) -> None:
    document = admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    assert admin.search(collection, "notice period")["results"]

    assert admin.call("DELETE", f"/api/v1/documents/{document['id']}").status_code == 204

    assert admin.search(collection, "notice period")["results"] == []
    assert admin.call("GET", f"/api/v1/documents/{document['id']}").status_code == 404


def test_a_list_in_pages_leaves_out_no_document_of_a_name_that_others_have_too(
    site: Site, admin: Person, collection: str
) -> None:
    # Versions of one document are there side by side until the newest is indexed.
    site.worker.stop()
    names = ["a.txt", "rota.txt", "rota.txt", "rota.txt", "z.txt"]
    uploaded = [admin.upload(collection, name, f"Version {n}".encode()) for n, name in enumerate(names)]

    listed: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        path = f"/api/v1/collections/{collection}/documents"
        page = admin.get(path, params={"after": after, "limit": 2})
        listed, after = [*listed, *page["items"]], page["next"]

    assert [document["file_name"] for document in listed] == names
    assert {document["id"] for document in listed} == {document["id"] for document in uploaded}
    refused = admin.call("GET", path, params={"after": "rota.txt"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "after = rota.txt; the next of an earlier answer")


def test_the_source_comes_back_as_it_was_uploaded(admin: Person, collection: str) -> None:
    content = formats.contract("contract.pdf")
    document = admin.upload(collection, "contract.pdf", content)

    answer = admin.call("GET", f"/api/v1/documents/{document['id']}/source")

    assert answer.content == content
    assert answer.headers["content-disposition"].startswith("attachment")


def test_a_question_is_on_record_afterwards(site: Site, admin: Person, collection: str) -> None:
    question = f"What stands in {collection}?"
    admin.ask(collection, question)

    wait_for("the record", lambda: question in [one["question"] for one in admin.get("/api/v1/questions")["items"]])


def streamed(person: Person, collection: str) -> list[tuple[str, dict[str, Any]]]:
    with person.asking(collection, QUESTION) as events:
        return list(events)
