"""Splitting into passages: short enough to retrieve, whole enough to quote."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.ingest.outline import Parsed, Place, Section
from app.sentences import sentences, tokens


@dataclass(frozen=True)
class Piece:
    text: str
    headings: tuple[str, ...]
    place: Place

    @property
    def section(self) -> str:
        """The headings as one line."""
        return " > ".join(self.headings)


@dataclass(frozen=True)
class _Sentence:
    text: str
    joiner: str
    paragraph: int


@dataclass(frozen=True)
class Size:
    """The longest passage in tokens, and how much of it the next one repeats."""

    tokens: int
    overlap: int = 0


@dataclass(frozen=True)
class Split:
    title: str
    pieces: tuple[Piece, ...]


def split(parsed: Parsed, size: Size) -> Split:
    """Passages of at most that size, ending where sentences end, never across a section, page or slide.

    Each begins with the last sentences of the one before it, as far as they fit into the overlap.
    """
    pieces = (
        Piece(_joined(passage), section.headings, _place(section, passage))
        for section in parsed.sections
        for passage in _passages(section, size.tokens, size.overlap)
    )
    return Split(parsed.title, tuple(pieces))


def _passages(section: Section, most_tokens: int, overlap_tokens: int) -> Iterator[list[_Sentence]]:
    passage: list[_Sentence] = []
    for sentence in _sentences(section, most_tokens):
        longer = [*passage, sentence]
        if passage and tokens(_joined(longer)) > most_tokens:
            yield passage
            # A table's rows are whole in themselves.
            repeated = [] if section.rows else _repeated(passage, overlap_tokens)
            while repeated and tokens(_joined([*repeated, sentence])) > most_tokens:
                repeated = repeated[1:]
            passage = [*repeated, sentence]
        else:
            passage = longer
    if passage:
        yield passage


def _repeated(passage: list[_Sentence], overlap_tokens: int) -> list[_Sentence]:
    """The passage's last sentences that fit, without its first: what is repeated whole would be there twice."""
    repeated: list[_Sentence] = []
    for sentence in reversed(passage[1:]):
        if tokens(_joined([sentence, *repeated])) > overlap_tokens:
            break
        repeated.insert(0, sentence)
    return repeated


def _joined(passage: list[_Sentence]) -> str:
    return passage[0].text + "".join(f"{sentence.joiner}{sentence.text}" for sentence in passage[1:])


def _place(section: Section, passage: list[_Sentence]) -> Place:
    """The section's place; of a table the rows that the passage holds."""
    if not section.rows:
        return section.place
    return {**section.place, "rows": [section.rows[passage[0].paragraph], section.rows[passage[-1].paragraph]]}


def _sentences(section: Section, most_tokens: int) -> Iterator[_Sentence]:
    for number, paragraph in enumerate(section.paragraphs):
        joiner = "\n"
        separator = "\n" if "\n" in paragraph else " "
        for sentence in sentences(paragraph):
            for part in _cut(sentence, most_tokens):
                yield _Sentence(part, joiner, number)
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
