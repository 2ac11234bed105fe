"""Which parser reads a document: decided by its bytes first, by its name only between formats of plain text.

The libraries take longer to load than most documents to parse, so each is loaded where it is needed.
"""

from pathlib import PurePath

from app.ingest import html, markdown
from app.ingest.clean import cleaned
from app.ingest.limits import Limits
from app.ingest.older import OLE, refused_ole
from app.ingest.outline import Parsed, UnreadableError
from app.ingest.text import decoded

ACCEPTED = "PDF, Word, PowerPoint, Excel, HTML, Markdown, CSV, e-mail (.eml) or plain text in UTF-8 or UTF-16"

# More text than this from one file is a bomb, or a book shelf that should come as books.
MOST_CHARACTERS = 20_000_000
# A message may be attached to a message that is attached to one.
_MOST_NESTED = 3

_PDF = b"%PDF-"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What a name of these promises, its bytes have to begin with.
_PROMISES = {
    ".pdf": "no PDF in spite of its name; a file that begins with %PDF-",
    ".docx": "no Word document in spite of its name; a copy saved by Word as .docx",
    ".pptx": "no presentation in spite of its name; a copy saved by PowerPoint as .pptx",
    ".xlsx": "no workbook in spite of its name; a copy saved by Excel as .xlsx",
}


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """The document's text, clean; raise UnreadableError when it has none or is of no known format."""
    if not content:
        raise UnreadableError(f"{file_name} = 0 bytes; a file with content")
    parsed = cleaned(_parse(content, file_name, limits), file_name)
    characters = sum(len(paragraph) for section in parsed.sections for paragraph in section.paragraphs)
    if not characters:
        raise UnreadableError(f"{file_name} = no text; a file with text in it")
    _refuse_if_too_long(characters, file_name)
    return parsed


def _refuse_if_too_long(characters: int, file_name: str) -> None:
    if characters > MOST_CHARACTERS:
        raise UnreadableError(f"{file_name} = {characters} characters; at most {MOST_CHARACTERS}, so split it")


def _parse(content: bytes, file_name: str, limits: Limits, nested: int = 0) -> Parsed:
    suffix = PurePath(file_name).suffix.lower()
    # Some programs write something before the PDF, which readers pass over; a text may speak of the mark.
    start = content[:1024].find(_PDF)
    if start == 0 or (start > 0 and suffix == ".pdf"):
        from app.ingest import pdf  # noqa: PLC0415

        return pdf.parse(content[start:], file_name, limits)
    if content.startswith(_ZIP):
        return _office(content, file_name, limits)
    if content.startswith(OLE):
        raise refused_ole(content, file_name)
    if suffix in _PROMISES:
        raise UnreadableError(f"{file_name} = {_PROMISES[suffix]}")
    if suffix == ".eml":
        return _mail(content, file_name, limits, nested)
    return _text(content, file_name, suffix, limits)


def _office(content: bytes, file_name: str, limits: Limits) -> Parsed:
    from app.ingest import archive  # noqa: PLC0415

    kind, unpacked = archive.office(content, file_name, limits)
    if kind == "docx":
        from app.ingest import docx  # noqa: PLC0415

        return docx.parse(unpacked, file_name)
    if kind == "pptx":
        from app.ingest import pptx  # noqa: PLC0415

        return pptx.parse(unpacked, file_name, limits)
    from app.ingest import xlsx  # noqa: PLC0415

    return xlsx.parse(unpacked, file_name, limits)


def _mail(content: bytes, file_name: str, limits: Limits, nested: int) -> Parsed:
    from app.ingest import mail  # noqa: PLC0415

    def attached(inner: bytes, name: str) -> Parsed:
        if nested >= _MOST_NESTED:
            raise UnreadableError(f"{name} = attached to a message within messages; the message itself")
        return _parse(inner, name, limits, nested + 1)

    return mail.parse(content, file_name, limits, attached)


def _text(content: bytes, file_name: str, suffix: str, limits: Limits) -> Parsed:
    text = decoded(content)
    if text is None:
        raise UnreadableError(f"{file_name} = binary data; {ACCEPTED}")
    if suffix in {".html", ".htm", ".xhtml"} or text[:1000].lstrip().lower().startswith(("<!doctype html", "<html")):
        return html.parse(text, file_name)
    # Here the text is all there is: what is too long need not be parsed to know it.
    _refuse_if_too_long(len(text), file_name)
    if suffix in {".md", ".markdown"}:
        return markdown.parse_markdown(text, file_name)
    if suffix in {".csv", ".tsv"}:
        from app.ingest import csv  # noqa: PLC0415

        return csv.parse(text, file_name, limits)
    if suffix in {".txt", ".text", ".log", ".rst", ""}:
        return markdown.parse_text(text, file_name)
    raise UnreadableError(f"{file_name} = a format not read here; {ACCEPTED}")
