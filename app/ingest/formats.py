"""Which parser reads a document: decided by its bytes first, by its name only between formats of plain text."""

import codecs
from pathlib import PurePath

from app.ingest import html, markdown
from app.ingest.clean import cleaned
from app.ingest.outline import Parsed, UnreadableError

ACCEPTED = "PDF, HTML, Markdown or plain text in UTF-8 or UTF-16"

# More text than this from one file is a bomb, or a book shelf that should come as books.
MOST_CHARACTERS = 20_000_000


def parse(content: bytes, file_name: str, max_pages: int) -> Parsed:
    """The document's text, clean; raise UnreadableError when it has none or is of no known format."""
    if not content:
        raise UnreadableError(f"{file_name} = 0 bytes; a file with content")
    parsed = cleaned(_parse(content, file_name, max_pages), file_name)
    characters = sum(len(paragraph) for section in parsed.sections for paragraph in section.paragraphs)
    if not characters:
        raise UnreadableError(f"{file_name} = no text; a file with text in it")
    _refuse_if_too_long(characters, file_name)
    return parsed


def _refuse_if_too_long(characters: int, file_name: str) -> None:
    if characters > MOST_CHARACTERS:
        raise UnreadableError(f"{file_name} = {characters} characters; at most {MOST_CHARACTERS}, so split it")


def _parse(content: bytes, file_name: str, max_pages: int) -> Parsed:
    suffix = PurePath(file_name).suffix.lower()
    # Some programs write something before the PDF, which readers pass over; a text may speak of the mark.
    start = content[:1024].find(b"%PDF-")
    if start == 0 or (start > 0 and suffix == ".pdf"):
        # Loading the PDF library takes longer than most other documents take to parse.
        from app.ingest import pdf  # noqa: PLC0415

        return pdf.parse(content[start:], file_name, max_pages)
    if suffix == ".pdf":
        raise UnreadableError(f"{file_name} = no PDF in spite of its name; a file that begins with %PDF-")
    text = _decoded(content, file_name)
    if suffix in {".html", ".htm", ".xhtml"} or text[:1000].lstrip().lower().startswith(("<!doctype html", "<html")):
        return html.parse(text, file_name)
    # Here the text is all there is: what is too long need not be parsed to know it.
    _refuse_if_too_long(len(text), file_name)
    if suffix in {".md", ".markdown"}:
        return markdown.parse_markdown(text, file_name)
    if suffix in {".txt", ".text", ".log", ".csv", ".rst", ""}:
        return markdown.parse_text(text, file_name)
    raise UnreadableError(f"{file_name} = a format not read here; {ACCEPTED}")


def _decoded(content: bytes, file_name: str) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # What Windows programs call Unicode.
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:
        raise UnreadableError(f"{file_name} = binary data; {ACCEPTED}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", errors="replace")
    # Where most of what is not ASCII is whole, the rest is damage.
    damaged, beyond_ascii = text.count("\ufffd"), len(text) - len(text.encode("ascii", "ignore"))
    if damaged <= beyond_ascii / 2:
        return text
    # Old Western European exports; what else it might be cannot be told from the bytes.
    return content.decode("cp1252", errors="replace")
