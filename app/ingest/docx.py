"""Word: paragraphs under their headings and tables row by row, as they stand after all changes are accepted."""

import io
import re
from collections.abc import Iterator
from typing import Any

import docx
from docx.oxml.ns import qn

from app.ingest.outline import Outline, Parsed

_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_TITLE_LEVEL = 0

_PARAGRAPH, _TABLE, _ROW, _CELL, _TEXT = (qn(f"w:{name}") for name in ("p", "tbl", "tr", "tc", "t"))
_SPACES = {qn(f"w:{name}") for name in ("tab", "br", "cr", "ptab")}
_HYPHEN = qn("w:noBreakHyphen")
# What was struck out or moved away, and the older picture of what stands beside it in a newer form.
_LEFT_OUT = {qn("w:del"), qn("w:moveFrom"), "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
_CONTENTS = 'string(.//w:docPartGallery/@w:val) = "Table of Contents"'


def parse(content: bytes, file_name: str) -> Parsed:
    """The document's text; the title is its own, else its first heading of all, else the file's name."""
    document = docx.Document(io.BytesIO(content))
    outline = Outline()
    first = _read(document, outline)
    return Parsed((document.core_properties.title or "").strip() or first or file_name, outline.sections())


def _read(document: Any, outline: Outline) -> str:
    levels = _levels(document)
    title = ""
    for block in _blocks(document.element.body):
        if block.tag == _TABLE:
            for row in block.iterchildren(_ROW):
                cells = (_text(cell) for cell in row.iter(_CELL) if _row_of(cell) is row)
                outline.paragraph(" | ".join(cell for cell in cells if cell))
            continue
        level, text = levels.get(block.style or ""), _text(block)
        if level is None:
            outline.paragraph(text)
        elif text:
            title = title or text
            # A title stands over the whole document and in every answer, so it need not be a heading too.
            if level != _TITLE_LEVEL:
                outline.heading(level, text)
    return title


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables in reading order, also within content controls; the table of contents repeats headings."""
    for child in parent:
        if child.tag in {_PARAGRAPH, _TABLE}:
            yield child
        elif child.tag == qn("w:sdt"):
            if not child.xpath(_CONTENTS):
                yield from _blocks(child.find(qn("w:sdtContent")) if child.find(qn("w:sdtContent")) is not None else ())
        elif child.tag in {qn("w:ins"), qn("w:customXml"), qn("w:moveTo")}:
            yield from _blocks(child)


def _levels(document: Any) -> dict[str, int]:
    """The level of each style that is a heading, by the style's id; a style made from a heading is one too."""
    levels: dict[str, int] = {}
    for style in document.styles:
        ancestor, steps = style, 0
        while ancestor is not None and steps < 20:
            name = ancestor.name or ""
            heading = _HEADING.fullmatch(name)
            if heading or name == "Title":
                levels[style.style_id] = int(heading.group(1)) if heading else _TITLE_LEVEL
                break
            ancestor, steps = getattr(ancestor, "base_style", None), steps + 1
    return levels


def _row_of(cell: Any) -> Any:
    # A content control may stand between the two.
    parent = cell.getparent()
    while parent is not None and parent.tag != _ROW:
        parent = parent.getparent()
    return parent


def _text(element: Any) -> str:
    return " ".join("".join(_pieces(element)).split())


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag == _TEXT:
            yield child.text or ""
        elif child.tag in _SPACES:
            yield " "
        elif child.tag == _HYPHEN:
            yield "-"
        elif child.tag not in _LEFT_OUT and isinstance(child.tag, str):
            around = " " if child.tag in {_PARAGRAPH, _CELL} else ""
            yield around
            yield from _pieces(child)
            yield around
