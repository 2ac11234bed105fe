"""Reading documents: what each format's text, headings and title come out as."""

import pytest

from app.ingest.clean import clean
from app.ingest.formats import parse
from app.ingest.parse import parse as parse_apart
from app.settings import Ingest
from tests.app import formats
from tests.app.site import Person

LIMITS = Ingest().limits


def test_a_document_may_speak_of_the_nul_character(admin: Person, collection: str) -> None:
    text = rb"# In \u0000 JSON" + b"\n\n" + rb"A NUL is written \u0000 in JSON, and a path C:\u0000."

    document = admin.settled(admin.upload(collection, "nul.md", text))

    assert (document["state"], document["title"]) == ("indexed", r"In \u0000 JSON")
    passage = admin.get(f"/api/v1/documents/{document['id']}/passages/0")
    assert passage["text"] == r"A NUL is written \u0000 in JSON, and a path C:\u0000."


def test_a_pdf_with_a_broken_character_map_is_read_as_far_as_it_goes(admin: Person, collection: str) -> None:
    content = formats.pdf(["The \x01otice period is 90 days.\x02"], unicode_map={1: "d83d", 2: "0000"})

    document = admin.settled(admin.upload(collection, "map.pdf", content))

    assert (document["state"], document["error"]) == ("indexed", None)
    passage = admin.get(f"/api/v1/documents/{document['id']}/passages/0")
    assert passage["text"] == "The \ufffdotice period is 90 days."


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Ku\u0308ndigungsfrist", "Kündigungsfrist"),
        ("o\ufb03ce e\ufb00ect \ufb01le \ufb02oor ba\ufb04e \ufb05 \ufb06", "office effect file floor baffle st st"),
        ("Kün\u00addigungs\u200bfrist\ufeff", "Kündigungsfrist"),
        ("a\0b", "ab"),
        ("lone \ud83d, whole \U0001f600, halves \ud83d\ude00", "lone \ufffd, whole \U0001f600, halves \U0001f600"),
        ("² ½ ﬁ Å", "² ½ fi Å"),
    ],
)
def test_what_looks_the_same_is_kept_the_same(written: str, kept: str) -> None:
    assert clean(written) == kept


def test_title_headings_and_paragraphs_are_all_clean() -> None:
    page = "<title>\u200b</title><h1>O\ufb03\u00adce</h1><p>Ku\u0308ndigung</p><p>\u200b</p>".encode()

    parsed = parse(page, "office.html", LIMITS)

    assert parsed.title == "office.html"
    assert [(section.headings, section.paragraphs) for section in parsed.sections] == [(("Office",), ("Kündigung",))]


def test_a_chapter_that_somebody_made_a_heading_does_not_stand_beside_every_passage() -> None:
    heading = "Everything is important. " * 4000

    parsed = parse(f"# {heading}\n\n## Rest\n\nThe canteen opens at noon.\n".encode(), "memo.md", LIMITS)

    assert [len(heading) <= 300 for heading in parsed.sections[0].headings] == [True, True]
    assert parsed.sections[0].headings[0].endswith("…")
    assert len(parsed.title) <= 300


def test_a_word_that_a_pdf_breaks_with_a_soft_hyphen_is_one_word() -> None:
    line = "Die K\xfcndi\xad) Tj 0 -14 Td (gungsfrist betr\xe4gt drei Monate."
    content = formats.pdf([line], unicode_map={0xAD: "00ad"})

    parsed = parse_apart(content, "frist.pdf", LIMITS)

    assert parsed.sections[0].paragraphs == ("Die Kündigungsfrist beträgt drei Monate.",)


@pytest.mark.parametrize(
    ("page", "read"),
    [
        (
            "<form><h1>Leave</h1>Ask early. <button>Send</button><select><option>May</option></select>"
            "<textarea>x</textarea></form>Ask Ada.",
            [("Leave", "Ask early."), ("Leave", "Ask Ada.")],
        ),
        (
            "<header><nav>Home</nav>Halden</header><article><header><h1>Crane</h1>New.</header>Nine tonnes.</article>"
            "<footer><h2>Imprint</h2>Halden</footer>",
            [("Crane", "New."), ("Crane", "Nine tonnes.")],
        ),
        ("<table><tr><td>Admin<ul><li>read<li>write</ul><td>yes</table>", [("", "Admin read write | yes")]),
        ("<dl><dt>Admin<ul><li>read</ul><dd>May read.</dl>", [("Admin read", "May read.")]),
        ("<h2>Crane<div>new</div>model</h2><p>Nine tonnes.", [("Crane new model", "Nine tonnes.")]),
        (
            "<table><tr><td><h1>Crane</h1>Nine tonnes.<h2>Use</h2><p>Daily.<td>Beside</table>",
            [("Crane", "Nine tonnes."), ("Crane > Use", "Daily."), ("Crane > Use", "Beside")],
        ),
        ("<table><tr><td><table><tr><td>a<td>b</table><td>beside</table>", [("", "a | b"), ("", "beside")]),
        (
            "<table><thead><tr><th>a<th>b<tbody><tr><td><h3>Caution</h3>Hot.<td>c</table>",
            [("", "a | b"), ("", "Caution Hot. | c")],
        ),
    ],
    ids=["form", "header", "list in a cell", "list in a term", "block in a heading", "layout", "nested", "table"],
)
def test_a_web_page_is_read_as_a_person_reads_it(page: str, read: list[tuple[str, str]]) -> None:
    parsed = parse(f"<!doctype html><body>{page}".encode(), "page.html", LIMITS)

    found = [(" > ".join(section.headings), text) for section in parsed.sections for text in section.paragraphs]
    assert found == read


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title> Crane </title><svg><title>Arrow</title></svg><p>x", "Crane"),
        ("<body><svg><title>Arrow</title></svg><p>x", "page.html"),
        ("<title></title><p>x", "page.html"),
    ],
)
def test_a_web_page_without_a_title_of_its_own_is_called_by_its_file(page: str, title: str) -> None:
    assert parse(page.encode(), "page.html", LIMITS).title == title


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "Die Kündigungsfrist beträgt drei Monate.".encode().replace(b"drei", b"\xff drei"),
            "Kündigungsfrist beträgt \ufffd",
        ),
        ("Die Kündigungsfrist beträgt drei Monaté".encode()[:-1], "Kündigungsfrist beträgt drei Monat\ufffd"),
        (b"Das Caf\xe9 schlie\xdft um neun.", "Café schließt um neun."),
        ("Das Café.".encode() + b" Das Caf\xe9 schlie\xdft um neun.", "schließt um neun."),
    ],
    ids=["a damaged byte", "cut off", "cp1252", "mostly cp1252"],
)
def test_one_damaged_byte_spoils_no_other_word(content: bytes, text: str) -> None:
    assert text in parse(content, "frist.txt", LIMITS).sections[0].paragraphs[0]


@pytest.mark.parametrize("before", [b"", b"\n", b"\xef\xbb\xbf", b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 900])
def test_a_pdf_with_something_before_it_is_read(before: bytes) -> None:
    parsed = parse(before + formats.contract("contract.pdf"), "contract.PDF", LIMITS)

    assert [section.place for section in parsed.sections] == [{"page": 1}, {"page": 2}]


def test_a_text_about_pdf_is_no_pdf() -> None:
    parsed = parse(b"A PDF file begins with %PDF-1.7 and a line of bytes.", "about.txt", LIMITS)

    assert parsed.sections[0].paragraphs == ("A PDF file begins with %PDF-1.7 and a line of bytes.",)


@pytest.mark.parametrize(
    ("text", "title", "read"),
    [
        (
            "# Use\n```make demo```\n# Next\nText.\n",
            "Use",
            [("Use", "```make demo```"), ("Next", "Text.")],
        ),
        (
            "````\n```sh\n# no heading\n```\n````\n# Next\nText.\n",
            "Next",
            [("", "```sh\n# no heading\n```"), ("Next", "Text.")],
        ),
        (
            "Crane | Tonnes\n--- | ---\nA | nine\nB | ten\n\nEither a | b.\n",
            "a.md",
            [("", "Crane | Tonnes"), ("", "A | nine"), ("", "B | ten"), ("", "Either a | b.")],
        ),
        (
            "Crane\n=====\n\nNew.\n\nUse\n---\nDaily.\n\n---\n\n- Oil it\n---\nOne\ntwo\n---\n",
            "Crane",
            [("Crane", "New."), ("Crane > Use", "Daily."), ("Crane > Use", "- Oil it"), ("Crane > Use", "One two")],
        ),
        (
            "---\ntitle: 'The new crane'\ntags: [crane]\n---\n# Use\nDaily.\n",
            "The new crane",
            [("Use", "Daily.")],
        ),
        ("---\n\nNo front matter.\n\n---\n", "a.md", [("", "No front matter.")]),
    ],
    ids=["code in one line", "fence in a fence", "table", "underlined", "front matter", "rules"],
)
def test_markdown_is_read_as_its_writer_meant_it(text: str, title: str, read: list[tuple[str, str]]) -> None:
    parsed = parse(text.encode(), "a.md", LIMITS)

    found = [(" > ".join(section.headings), text) for section in parsed.sections for text in section.paragraphs]
    assert (parsed.title, found) == (title, read)
