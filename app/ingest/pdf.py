"""PDF: the text of each page; scanned pages have none and are refused, since nothing here reads pictures."""

import io
import re

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError

# Some programs end a line within a word with a soft hyphen.
_HYPHENATED = re.compile(r"(?<=[a-zà-ÿ])[-\u00ad]\n(?=[a-zà-ÿ])")


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """Every page's paragraphs with its number; the title is the document's own, else the file's name."""
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError(f"{file_name} = an encrypted PDF; a copy that opens without a password")
        if len(reader.pages) > limits.pages:
            raise UnreadableError(f"{file_name} = {len(reader.pages)} pages; at most {limits.pages}, so split it")
        sections = tuple(
            Section((), {"page": number}, _paragraphs(page.extract_text()))
            for number, page in enumerate(reader.pages, start=1)
        )
        title = (reader.metadata.title if reader.metadata else None) or file_name
    except PyPdfError as error:
        raise UnreadableError(f"{file_name} = a damaged PDF ({error}); a copy that a PDF viewer opens") from None
    if not any(section.paragraphs for section in sections):
        raise UnreadableError(
            f"{file_name} = a PDF that has no text, only pictures; a copy that went through text recognition (OCR)"
        )
    return Parsed(str(title), sections)


def _paragraphs(text: str) -> tuple[str, ...]:
    blocks = re.split(r"\n\s*\n", _HYPHENATED.sub("", text))
    return tuple(" ".join(block.split()) for block in blocks if block.strip())
