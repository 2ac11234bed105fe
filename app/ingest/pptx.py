"""PowerPoint: each slide's text under its title, its tables row by row, and its notes."""

import io
from collections.abc import Iterator
from typing import Any

import pptx

from app.ingest.limits import Limits
from app.ingest.outline import Outline, Parsed, Section, UnreadableError

# What PowerPoint writes when nobody gave a title.
_NO_TITLE = {"", "powerpoint presentation", "powerpoint-präsentation", "presentation", "slide 1", "folie 1"}
_NOTES = "Notes"


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """Every slide with its number; the title is the presentation's own, else its first slide's, else the file's."""
    presentation = pptx.Presentation(io.BytesIO(content))
    slides = list(presentation.slides)
    if len(slides) > limits.pages:
        raise UnreadableError(f"{file_name} = {len(slides)} slides; at most {limits.pages}, so split it")
    sections = [section for number, slide in enumerate(slides, start=1) for section in _sections(number, slide)]
    own = (presentation.core_properties.title or "").strip()
    if own.lower() in _NO_TITLE:
        own = next((section.headings[0] for section in sections if section.headings), "")
    return Parsed(own or file_name, tuple(sections))


def _sections(number: int, slide: Any) -> tuple[Section, ...]:
    outline = Outline({"slide": number})
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        outline.heading(1, _plain(title.text_frame.text))
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                outline.paragraph(_plain(paragraph.text))
        if getattr(shape, "has_table", False):
            for row in shape.table.rows:
                outline.paragraph(" | ".join(text for text in (_plain(cell.text) for cell in row.cells) if text))
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if notes is not None:
        outline.heading(2, _NOTES)
        for paragraph in notes.paragraphs:
            outline.paragraph(_plain(paragraph.text))
    return outline.sections()


def _shapes(shapes: Any) -> Iterator[Any]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _plain(text: str) -> str:
    return " ".join(text.split())
