"""How `rag` speaks: tables and bars on a terminal, plain lines elsewhere, never a document's control characters."""

import sys
import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from app.client.results import Answer, Place

out = Console(highlight=False, markup=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def plain(text: object) -> str:
    """The text without what could move a terminal's cursor or colour what follows."""
    return "".join(c for c in str(text) if c in "\n\t" or unicodedata.category(c) != "Cc")


def line(*words: object) -> None:
    """One line of the result."""
    out.print(Text(plain(" ".join(map(str, words)))))


def note(text: object) -> None:
    """One line about the work, on stderr."""
    notes.print(Text(plain(text)))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under heads; without a terminal one line each, with tabs between."""
    if not out.is_terminal:
        for row in rows:
            sys.stdout.write("\t".join(plain(value).replace("\t", " ").replace("\n", " ") for value in row) + "\n")
        return
    drawn = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*(Text(plain(value)) for value in row))
    out.print(drawn)


def progress() -> Progress:
    """Bars on stderr, gone when they are full; nothing without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)


def place(of: Place) -> str:
    """Where it stands: title, section, page or whatever else the document is divided into."""
    where = [of.title, of.section] if of.section != of.title else [of.title]
    parts = of.place or {"page": of.page}
    where += [f"{name} {value}" for name, value in parts.items() if value is not None]
    return ", ".join(part for part in where if part)


def answer(given: Answer) -> None:
    """The checked answer and what it rests on."""
    line(given.answer)
    for citation in given.citations:
        line(f'[{citation.number}] {place(citation)}: "{" ".join(citation.quote.split())}"')
