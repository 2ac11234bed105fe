"""Splitting into passages: short enough to retrieve, whole enough to quote."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.ingest.outline import Parsed, Section
from app.sentences import sentences, tokens


@dataclass(frozen=True)
class Piece:
    text: str
    section: str
    page: int | None


def split(parsed: Parsed, most_tokens: int) -> list[Piece]:
    """Passages of at most ``most_tokens``, ending where sentences end, never across a section or page."""
    return [
        Piece(text, " > ".join(section.headings), section.page)
        for section in parsed.sections
        for text in _passages(section, most_tokens)
    ]


def _passages(section: Section, most_tokens: int) -> Iterator[str]:
    passage = ""
    for joiner, sentence in _sentences(section, most_tokens):
        longer = f"{passage}{joiner}{sentence}" if passage else sentence
        if passage and tokens(longer) > most_tokens:
            yield passage
            passage = sentence
        else:
            passage = longer
    if passage:
        yield passage


def _sentences(section: Section, most_tokens: int) -> Iterator[tuple[str, str]]:
    for paragraph in section.paragraphs:
        joiner = "\n"
        separator = "\n" if "\n" in paragraph else " "
        for sentence in sentences(paragraph):
            for part in _cut(sentence, most_tokens):
                yield joiner, part
                joiner = separator


def _cut(sentence: str, most_tokens: int) -> Iterator[str]:
    # Only what no reader would call a sentence is cut: a table in one line, a dump, a text without full stops.
    if tokens(sentence) <= 2 * most_tokens:
        yield sentence
        return
    part = ""
    for word in sentence.split(" "):
        for piece in (word[start : start + most_tokens] for start in range(0, len(word) or 1, most_tokens)):
            longer = f"{part} {piece}" if part else piece
            if part and tokens(longer) > most_tokens:
                yield part
                part = piece
            else:
                part = longer
    if part:
        yield part
