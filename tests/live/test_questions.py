"""A colleague's day: upload, ask, open the citation, be refused what is not in the documents."""

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import httpx

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
    platform.post("/api/v1/collections", json={"name": name}).raise_for_status()
    document = upload(platform, name, file_name, content)
    try:
        yield name
    finally:
        platform.delete(f"/api/v1/documents/{document}").raise_for_status()


def found_on(fleet: Fleet, platform: httpx.Client, machine: str, asked: dict[str, str]) -> dict[str, Any]:
    """What one app host's own program finds, past the balancers."""
    source = """
from urllib.parse import urlencode
from urllib.request import Request, urlopen
url = "http://127.0.0.1:8080/api/v1/search?" + urlencode(values["asked"])
print(urlopen(Request(url, headers={"Authorization": values["token"]}), timeout=30).read().decode())
"""
    found: dict[str, Any] = fleet.python(machine, source, asked=asked, token=platform.headers["Authorization"])
    return found


def upload(platform: httpx.Client, collection: str, file_name: str, content: bytes) -> str:
    """Upload and wait until it is indexed; give its id."""
    sent = platform.post(f"/api/v1/collections/{collection}/documents", files={"file": (file_name, content)})
    sent.raise_for_status()
    document = str(sent.json()["id"])

    def state() -> str:
        return str(platform.get(f"/api/v1/documents/{document}").raise_for_status().json()["state"])

    until(lambda: state() in {"indexed", "failed"}, f"{file_name} indexed", 120)
    assert state() == "indexed"
    return document


def pdf(text: str) -> bytes:
    """A PDF of two pages, made by hand: the controller has no library for it; the text is on the second."""
    pages = [f"BT /F1 12 Tf 50 700 Td ({words}) Tj ET" for words in ("An empty introduction without facts.", text)]
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[4 0 R 6 0 R]/Count 2>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, page in enumerate(pages):
        resources = "/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 595 842]"
        objects.append(f"<</Type/Page/Parent 2 0 R{resources}/Contents {5 + 2 * number} 0 R>>")
        objects.append(f"<</Length {len(page)}>>stream\n{page}\nendstream")
    written, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(written)}\n%%EOF\n"
    return f"{written}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode()


def word(paragraphs: list[str]) -> bytes:
    """A Word file with no more in it than one must have."""
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    members = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml"'
        f' ContentType="{office}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{relation}"'
        ' Target="word/document.xml"/></Relationships>',
        "word/document.xml": '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body>{body}</w:body></w:document>",
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def ask(platform: httpx.Client, collection: str, question: str) -> dict[str, Any]:
    """The whole answer."""
    said = platform.post("/api/v1/questions", json={"collection": collection, "question": question, "stream": False})
    said.raise_for_status()
    answer: dict[str, Any] = said.json()
    return answer


DOCUMENTS = (
    ("lease.md", b"# Lease\n\n## Notice\n\nThe notice period of the warehouse lease is ninety days.\n",
     "How long is the notice period of the warehouse lease?", "ninety days"),
    ("pump.html", b"<html><head><title>Pump</title></head><body><h1>Pump</h1><h2>Pressure</h2>"
     b"<p>The working pressure of the cellar pump is seven bar.</p></body></html>",
     "What is the working pressure of the cellar pump?", "seven bar"),
    ("boiler.pdf", pdf("The boiler inspection takes place every second Tuesday in March."),
     "When does the boiler inspection take place?", "every second Tuesday in March"),
    ("roof.docx", word(["The roof garden belongs to nobody.", "The roof garden closes at nine in the evening."]),
     "When does the roof garden close?", "at nine in the evening"),
    ("keys.csv", b"key;place\ncellar key;behind the blue door\nroof key;in the porter's drawer\n",
     "Where is the cellar key?", "behind the blue door"),
    ("lift.eml", b"Subject: Lift\nFrom: ada@example.org\nTo: all@example.org\n\nThe old lift carries six people.\n",
     "How many people does the old lift carry?", "six people"),
)  # fmt: skip


def test_each_kind_of_document_is_answered_from_with_a_citation_that_opens(platform: httpx.Client) -> None:
    for file_name, content, question, fact in DOCUMENTS:
        with remembered(platform, file_name, content) as collection:

            def supported(collection: str = collection, question: str = question) -> dict[str, Any] | None:
                answer = ask(platform, collection, question)
                return answer if answer["supported"] else None

            answer = until(supported, f"an answer from {file_name}")

            assert fact in str(answer["answer"])
            for citation in answer["citations"]:
                passage = platform.get(f"/api/v1{citation['url']}").raise_for_status().json()
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

        def searchable() -> dict[str, bool]:
            listed = platform.get(f"/api/v1/collections/{collection}/documents").raise_for_status().json()
            on: dict[str, bool] = listed["items"][0]["searchable_on"]
            return on

        hosts = {machine.name for machine in site.having("app")}
        until(lambda: {host for host, there in searchable().items() if there} >= hosts, "every host tells of it", 30)


def test_what_no_document_says_is_refused(platform: httpx.Client) -> None:
    with remembered(platform, *DOCUMENTS[0][:2]) as collection:
        answer = ask(platform, collection, "Who won the football world championship in 1974?")

    assert answer["supported"] is False
    assert answer["citations"] == []


def test_an_answer_streams(platform: httpx.Client) -> None:
    _, content, question, _ = DOCUMENTS[0]
    with remembered(platform, "lease.md", content) as collection:
        asked = {"collection": collection, "question": question, "stream": True}
        with platform.stream("POST", "/api/v1/questions", json=asked) as stream:
            events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]

    assert events[0] == "passages"
    assert "token" in events
    assert events[-1] == "answer"


def test_strangers_are_refused(site: Site, platform: httpx.Client) -> None:
    wrong = platform.post("/api/v1/token", json={"username": "admin", "password": "wrong"})
    forged = platform.get("/api/v1/me", headers={"Authorization": "Bearer abc.def.ghi"})
    nobody = httpx.get(platform.base_url.join("/api/v1/collections"), verify=False, trust_env=False)  # noqa: S501

    assert (wrong.status_code, forged.status_code, nobody.status_code) == (401, 401, 401)


def test_who_has_signed_out_is_out_at_every_app_host_at_once(site: Site, fleet: Fleet) -> None:
    source = """
from urllib.error import HTTPError
from urllib.request import Request, urlopen
try:
    print(urlopen(Request("http://127.0.0.1:8080/api/v1/me", headers={"Authorization": values["token"]})).status)
except HTTPError as refused:
    print(refused.code)
"""
    with closing(fleet.signed_in()) as leaving:
        token = leaving.headers["Authorization"]

        def status(name: str) -> int:
            return int(fleet.python(name, source, token=token))

        before = fleet.each(site.having("app"), status)
        assert leaving.post("/api/v1/sign-out").status_code == 204
        after = fleet.each(site.having("app"), status)

    assert (set(before.values()), set(after.values())) == ({200}, {401})


def test_a_deleted_document_is_found_no_more(site: Site, run: Run, platform: httpx.Client) -> None:
    with remembered(platform, *DOCUMENTS[1][:2]) as collection:
        until(
            lambda: platform.get("/api/v1/search", params={"collection": collection, "q": "pump"}).json()["results"],
            "it",
        )

    until(
        lambda: not platform.get("/api/v1/search", params={"collection": collection, "q": "pump"}).json()["results"],
        "nothing found",
    )
