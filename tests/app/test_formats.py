"""Office files, tables and messages: what is read, where it stands, and what is never unpacked or fetched."""

import datetime
import io
import itertools
import struct
import zipfile
from pathlib import Path

import pytest

from app.ingest.formats import parse
from app.ingest.outline import Parsed, UnreadableError
from app.ingest.parse import parse as parse_apart
from app.ingest.split import Size, split
from app.settings import Ingest
from tests.app import formats, office

LIMITS = Ingest().limits


def read(parsed: Parsed) -> list[tuple[str, str]]:
    return [(" > ".join(section.headings), text) for section in parsed.sections for text in section.paragraphs]


def test_word_is_read_under_its_headings_and_its_tables_row_by_row() -> None:
    blocks = [
        ("Title", "Crane"),
        ("Normal", "New."),
        ("Heading 1", "Use"),
        ("Normal", "Daily."),
        ("Heading 2", "Oil"),
        ("List Bullet", "Weekly."),
    ]
    parsed = parse(office.word(blocks, table=[["part", "oil"], ["hook", "thin"]]), "crane.docx", LIMITS)

    assert (parsed.title, read(parsed)) == (
        "Crane",
        [
            ("", "New."),
            ("Use", "Daily."),
            ("Use > Oil", "Weekly."),
            ("Use > Oil", "part | oil"),
            ("Use > Oil", "hook | thin"),
        ],
    )


def test_word_is_read_as_it_stands_after_its_changes() -> None:
    plain = office.word([("Normal", "Notice is WAS.")])
    change = (
        b'90 days</w:t></w:r><w:del w:id="1" w:author="a"><w:r><w:delText>30 days</w:delText></w:r></w:del>'
        b'<w:ins w:id="2" w:author="a"><w:r><w:t>, in writing'
    )
    changed = office.main_part(plain).replace(b"WAS.</w:t></w:r>", change + b".</w:t></w:r></w:ins>")

    parsed = parse(office.with_member(plain, office.MAIN, changed), "notice.docx", LIMITS)

    assert read(parsed) == [("", "Notice is 90 days, in writing.")]


def test_slides_keep_their_number_title_table_and_notes() -> None:
    parsed = parse(office.slides([("Crane", "Nine tonnes.", ""), ("Use", "Daily.", "Say who.")]), "a.pptx", LIMITS)
    table = parse(office.slide_with_table([["item", "price"], ["hook", "12"]]), "b.pptx", LIMITS)

    assert [(section.headings, section.place, section.paragraphs) for section in parsed.sections] == [
        (("Crane",), {"slide": 1}, ("Nine tonnes.",)),
        (("Use",), {"slide": 2}, ("Daily.",)),
        (("Use", "Notes"), {"slide": 2}, ("Say who.",)),
    ]
    assert parsed.title == "Crane"
    assert read(table) == [("Prices", "item | price"), ("Prices", "hook | 12")]


def test_a_workbook_is_read_row_by_row_with_the_names_of_its_columns() -> None:
    rows = [
        ["Prices of 2026"],
        [],
        ["item", "price", "since", "tax"],
        ["hook", 12.5, datetime.datetime(2026, 3, 1), 0.19],
        ["rope", 3, None, 0.07],
    ]
    parsed = parse(office.workbook({"Prices": rows}, percent="D4"), "prices.xlsx", LIMITS)

    assert read(parsed) == [
        ("Prices", "Prices of 2026"),
        ("Prices", "item | price | since | tax"),
        ("Prices", "item: hook | price: 12.5 | since: 2026-03-01 | tax: 19%"),
        ("Prices", "item: rope | price: 3 | tax: 0.07"),
    ]
    assert parsed.sections[0].rows == (1, 3, 4, 5)


def test_passages_of_a_table_know_their_rows() -> None:
    rows = [["name", "lifts"], *([f"crane {number}", f"{number} tonnes"] for number in range(100))]
    parsed = parse(office.workbook({"Cranes": rows}), "cranes.xlsx", LIMITS)

    pieces = split(parsed, Size(200)).pieces

    places = [piece.place["rows"] for piece in pieces]
    assert places[0][0] == 1
    assert places[-1][1] == 101
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(places))
    assert all(piece.place["sheet"] == "Cranes" for piece in pieces)


def test_formulas_that_nobody_calculated_are_named() -> None:
    only = office.workbook({"Sum": [["=1+1"]]})
    mixed = office.workbook({"Sum": [["=1+1"]], "Names": [["Ada", "Grace"]]})

    with pytest.raises(UnreadableError, match=r"^sum\.xlsx = formulas without stored values; a copy that Excel"):
        parse(only, "sum.xlsx", LIMITS)
    assert read(parse(mixed, "a.xlsx", LIMITS)) == [
        ("Sum", "This sheet holds formulas without stored values."),
        ("Names", "Ada | Grace"),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_in_plain_text_is_read_whatever_separates_it(separator: str) -> None:
    lines = [["name", "lifts", "note"], ["Big one", "9 tonnes", '"two\nlines"'], ["Small", "2 tonnes", ""]]
    content = "\r\n".join(separator.join(line) for line in lines).encode()

    parsed = parse(content, "cranes.csv", LIMITS)

    assert read(parsed) == [
        ("", "name | lifts | note"),
        ("", "name: Big one | lifts: 9 tonnes | note: two lines"),
        ("", "name: Small | lifts: 2 tonnes"),
    ]
    assert [piece.place for piece in split(parsed, Size(40)).pieces] == [{"rows": [1, 3]}]


def test_a_message_is_read_with_its_attachments() -> None:
    inner = office.message("Inner", "The hook is thin.")
    mail = office.message(
        "The crane",
        "It lifts nine tonnes.",
        "<p>Not this one.</p>",
        [
            ("use.docx", office.word([("Heading 1", "Use"), ("Normal", "Daily.")])),
            ("photo.jpg", b"\xff\xd8\0\0"),
            ("inner.eml", inner.as_bytes()),
        ],
    )

    parsed = parse(mail.as_bytes(), "crane.eml", LIMITS)

    assert parsed.title == "The crane"
    assert read(parsed) == [
        ("", "Subject: The crane"),
        ("", "From: Ada Lovelace <ada@rag.test>"),
        ("", "To: crew@rag.test"),
        ("", "Date: Fri, 06 Nov 2026 09:00:00 +0000"),
        ("", "It lifts nine tonnes."),
        ("use.docx > Use", "Daily."),
        ("photo.jpg", "Attachment photo.jpg: not read (binary data)."),
        ("inner.eml", "Subject: Inner"),
        ("inner.eml", "From: Ada Lovelace <ada@rag.test>"),
        ("inner.eml", "To: crew@rag.test"),
        ("inner.eml", "Date: Fri, 06 Nov 2026 09:00:00 +0000"),
        ("inner.eml", "The hook is thin."),
    ]


def test_a_message_of_html_alone_or_in_a_broken_encoding_is_read() -> None:
    page = office.message("Page", html="<h1>Use</h1><p>Daily.</p>").as_bytes()
    broken = b"Subject: =?nonsense?q?=FF?=\nFrom: a\nContent-Type: text/plain; charset=nonsense\n\nCaf\xc3\xa9 \xff."

    assert read(parse(page, "page.eml", LIMITS))[-1] == ("Use", "Daily.")
    assert read(parse(broken, "broken.eml", LIMITS))[-1] == ("", "Café \ufffd.")


def test_what_a_file_is_decides_over_how_it_is_called() -> None:
    parsed = parse(office.word([("Normal", "Daily.")]), "use.xlsx", LIMITS)

    assert read(parsed) == [("", "Daily.")]


def bomb(size: int, lie: int | None = None) -> bytes:
    """A Word file whose text swells; with ``lie`` its directory gives that size instead."""
    made = office.with_member(office.word([("Normal", "x")]), office.MAIN, b"0" * size)
    if lie is None:
        return made
    raw = bytearray(made)
    for offset in (raw.rindex(b"PK\x01\x02") + 24, raw.rindex(b"PK\x03\x04") + 22):
        struct.pack_into("<I", raw, offset, lie)
    return bytes(raw)


def many(number: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for member in range(number):
            archive.writestr(f"{member}.xml", "")
    return written.getvalue()


def entities(reference: bytes) -> bytes:
    plain = office.word([("Normal", "SECRET")])
    main = office.main_part(plain).replace(b"SECRET", b"&x;")
    head, _, rest = main.partition(b"?>")
    return office.with_member(
        plain, office.MAIN, head + b"?>" + b"<!DOCTYPE d [<!ENTITY x " + reference + b">]>" + rest
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("locked.docx", office.ole("EncryptedPackage"), "an encrypted Office file; a copy that opens without"),
        ("old.doc", office.ole("WordDocument"), "a Word file of before 2007; a copy saved as .docx"),
        ("old.xls", office.ole("Workbook"), "an Excel file of before 2007; a copy saved as .xlsx"),
        ("old.ppt", office.ole("PowerPoint Document"), "a PowerPoint file of before 2007; a copy saved as .pptx"),
        ("mail.msg", office.ole("__properties_version1.0"), "an Outlook message; a copy saved as .eml"),
        ("script.docx", b"#!/bin/sh\necho hello\n", "no Word document in spite of its name"),
        ("cut.docx", office.word([("Normal", "x")])[:-200], "a damaged file (File is not a zip file)"),
        ("bomb.docx", bomb(300_000_000), "300"),
        ("lies.docx", bomb(50_000_000, lie=1000), "a damaged file (Bad CRC-32"),
        ("many.docx", many(10_001), "10001 files in one; at most 10000"),
        ("files.zip", many(2), "an archive; the documents in it, one by one"),
        ("fetch.docx", entities(b'SYSTEM "http://127.0.0.1:9/x"'), "XML with a document type"),
        ("laugh.docx", entities(b'"ha"'), "XML with a document type"),
        ("none.eml", b"#!/bin/sh\necho hello\n", "no e-mail in spite of its name"),
        ("program.exe", b"MZ\0\0", "binary data; PDF, Word"),
        ("quote.csv", b'a,"b\n' + b"x" * 1_100_000, "no table (field larger than field limit (1000000))"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-5:] else "",
)
def test_what_cannot_be_read_is_named_in_one_line(name: str, content: bytes, says: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        parse_apart(content, name, LIMITS)

    assert str(refused.value).startswith(f"{name} = {says}")
    assert "\n" not in str(refused.value)


def test_an_entity_that_no_document_type_announces_fetches_nothing(tmp_path: Path) -> None:
    """In another encoding the announcement is not seen by its letters; the libraries resolve none either."""
    (tmp_path / "secret").write_text("the cellar key")
    plain = office.word([("Normal", "SECRET")])
    main = office.main_part(plain).decode().replace("SECRET", "&x;")
    head = f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE d [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    content = office.with_member(plain, office.MAIN, (head + main.partition("?>")[2]).encode("utf-16"))

    with pytest.raises(UnreadableError, match=r"^sly\.docx = "):
        parse_apart(content, "sly.docx", LIMITS)


def test_limits_of_pages_slides_sheets_and_rows_are_kept() -> None:
    small = Ingest(max_pages=2, max_sheets=2, max_rows=3).limits
    sheets = office.workbook({name: [["a", "b"]] for name in ("one", "two", "three")})
    rows = office.workbook({"one": [["a", "b"]] * 4})
    slides = office.slides([("a", "b", "")] * 3)

    for name, content, says in (
        ("a.pdf", formats.pdf(["x"] * 3), "3 pages; at most 2"),
        ("a.pptx", slides, "3 slides; at most 2"),
        ("a.xlsx", sheets, "3 sheets; at most 2"),
        ("b.xlsx", rows, "more than 3 rows"),
        ("a.csv", b"a,b\n" * 4, "more than 3 rows"),
    ):
        with pytest.raises(UnreadableError, match=says):
            parse(content, name, small)


def test_a_thousand_pages_are_read_within_the_limits() -> None:
    pages = parse_apart(formats.pdf([f"This is page {number}." for number in range(1, 1001)]), "book.pdf", LIMITS)

    assert (len(pages.sections), pages.sections[-1].place) == (1000, {"page": 1000})


def test_a_web_page_of_fifty_megabytes_is_read_or_refused_by_what_it_takes() -> None:
    words = b"The crane lifts nine tonnes and no more than that. " * 20
    prose = b"<!doctype html><body>" + b"<p>%b</p><script>let a = 1</script>" % words * 48_500
    dense = b"<!doctype html><body>" + b"<p>a<b>b</b><i>c</i>" * 2_500_000
    assert min(len(prose), len(dense)) >= 50_000_000

    with pytest.raises(UnreadableError, match=r"^prose\.html = \d+ characters; at most 20000000, so split it$"):
        parse_apart(prose, "prose.html", LIMITS)
    with pytest.raises(UnreadableError, match=r"^dense\.html = over 1024 MiB to read; a simpler or smaller file$"):
        parse_apart(dense, "dense.html", LIMITS)
    scripts = b"<!doctype html><body><p>The crane.</p><script>" + b"let a = 1;" * 5_000_000 + b"</script>"
    assert read(parse_apart(scripts, "scripts.html", LIMITS)) == [("", "The crane.")]
