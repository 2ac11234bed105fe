"""A colleague's day: upload, ask, open the citation, be refused what is not in the documents."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]


def ready_everywhere(site: Site, run: Run) -> bool:
    """Every app host has what the database has and would serve."""
    return all(
        '"status":"ready"' in run(machine, "curl -s --max-time 5 http://127.0.0.1:8080/health/ready; true")
        for machine in site.having("app")
    )


@contextmanager
def remembered(platform: httpx.Client, file_name: str, content: bytes) -> Iterator[str]:
    """A collection with one indexed document; the document goes at the end."""
    name = f"test-{uuid4().hex[:8]}"
    platform.post("/api/collections", json={"name": name}).raise_for_status()
    document = upload(platform, name, file_name, content)
    try:
        yield name
    finally:
        platform.delete(f"/api/documents/{document}").raise_for_status()


def found_on(fleet: Fleet, platform: httpx.Client, machine: str, asked: dict[str, str]) -> dict[str, Any]:
    """What one app host's own program finds, past the balancers."""
    source = """
from urllib.parse import urlencode
from urllib.request import Request, urlopen
url = "http://127.0.0.1:8080/api/search?" + urlencode(values["asked"])
print(urlopen(Request(url, headers={"Authorization": values["token"]}), timeout=30).read().decode())
"""
    found: dict[str, Any] = fleet.python(machine, source, asked=asked, token=platform.headers["Authorization"])
    return found


def upload(platform: httpx.Client, collection: str, file_name: str, content: bytes) -> str:
    """Upload and wait until it is indexed; give its id."""
    sent = platform.post(f"/api/collections/{collection}/documents", files={"file": (file_name, content)})
    sent.raise_for_status()
    document = str(sent.json()["id"])

    def state() -> str:
        return str(platform.get(f"/api/documents/{document}").raise_for_status().json()["state"])

    until(lambda: state() in {"indexed", "failed"}, f"{file_name} indexed", 120)
    assert state() == "indexed"
    return document


def pdf(text: str) -> bytes:
    """A PDF of two pages; the text is on the second."""
    writer = PdfWriter()
    for words in ("An empty introduction without facts.", text):
        page = writer.add_blank_page(width=595, height=842)
        font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                                 NameObject("/BaseFont"): NameObject("/Helvetica")})  # fmt: skip
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 50 700 Td ({words}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    written = BytesIO()
    writer.write(written)
    return written.getvalue()


def ask(platform: httpx.Client, collection: str, question: str) -> dict[str, object]:
    """The whole answer."""
    said = platform.post("/api/questions", json={"collection": collection, "question": question, "stream": False})
    said.raise_for_status()
    answer: dict[str, object] = said.json()
    return answer


DOCUMENTS = (
    ("lease.md", b"# Lease\n\n## Notice\n\nThe notice period of the warehouse lease is ninety days.\n",
     "How long is the notice period of the warehouse lease?", "ninety days"),
    ("pump.html", b"<html><head><title>Pump</title></head><body><h1>Pump</h1><h2>Pressure</h2>"
     b"<p>The working pressure of the cellar pump is seven bar.</p></body></html>",
     "What is the working pressure of the cellar pump?", "seven bar"),
    ("boiler.pdf", pdf("The boiler inspection takes place every second Tuesday in March."),
     "When does the boiler inspection take place?", "every second Tuesday in March"),
)  # fmt: skip


def test_each_kind_of_document_is_answered_from_with_a_citation_that_opens(platform: httpx.Client) -> None:
    for file_name, content, question, fact in DOCUMENTS:
        with remembered(platform, file_name, content) as collection:
            answer = until(lambda c=collection, q=question: (a := ask(platform, c, q))["supported"] and a, file_name)

            assert fact in str(answer["answer"])
            for citation in answer["citations"]:
                passage = platform.get(f"/api{citation['url']}").raise_for_status().json()
                assert citation["quote"] in passage["text"]
            quoted = " ".join(citation["quote"] for citation in answer["citations"])
            assert fact in quoted
            if file_name.endswith(".pdf"):
                assert answer["citations"][0]["page"] == 2


def test_a_new_document_is_in_the_index_of_every_app_host(site: Site, fleet: Fleet, platform: httpx.Client) -> None:
    with remembered(platform, *DOCUMENTS[0][:2]) as collection:
        # No word of it stands in the document: only the vectors can find it.
        asked = {"collection": collection, "q": "rental contract termination time"}
        for machine in site.having("app"):

            def found(name: str = machine.name) -> bool:
                said = found_on(fleet, platform, name, asked)
                return said["degraded"] is None and "ninety days" in "".join(one["text"] for one in said["results"])

            until(found, f"the document in the index of {machine.name}", 30)


def test_what_no_document_says_is_refused(platform: httpx.Client) -> None:
    with remembered(platform, *DOCUMENTS[0][:2]) as collection:
        answer = ask(platform, collection, "Who won the football world championship in 1974?")

    assert answer["supported"] is False
    assert answer["citations"] == []


def test_an_answer_streams(platform: httpx.Client) -> None:
    _, content, question, _ = DOCUMENTS[0]
    with remembered(platform, "lease.md", content) as collection:
        asked = {"collection": collection, "question": question, "stream": True}
        with platform.stream("POST", "/api/questions", json=asked) as stream:
            events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]

    assert events[0] == "passages"
    assert "token" in events
    assert events[-1] == "answer"


def test_strangers_are_refused(site: Site, platform: httpx.Client) -> None:
    wrong = platform.post("/api/token", json={"username": "admin", "password": "wrong"})
    forged = platform.get("/api/me", headers={"Authorization": "Bearer abc.def.ghi"})
    nobody = httpx.get(platform.base_url.join("/api/collections"), verify=False, trust_env=False)  # noqa: S501

    assert (wrong.status_code, forged.status_code, nobody.status_code) == (401, 401, 401)


def test_a_deleted_document_is_found_no_more(site: Site, run: Run, platform: httpx.Client) -> None:
    with remembered(platform, *DOCUMENTS[1][:2]) as collection:
        until(
            lambda: platform.get("/api/search", params={"collection": collection, "q": "pump"}).json()["results"], "it"
        )

    until(
        lambda: not platform.get("/api/search", params={"collection": collection, "q": "pump"}).json()["results"],
        "nothing found",
    )
