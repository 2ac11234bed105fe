"""Comma-separated values, whatever separates them."""

import csv
import io
import itertools
from collections.abc import Iterator

from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.rows import Row, lines

_SEPARATORS = ",;\t|"
_SAMPLE, _SAMPLED = 64 * 1024, 50
# A text in one cell is longer than the module expects, and a file with a quote too many is one cell.
_LONGEST_CELL = 1_000_000


def parse(content: str, file_name: str, limits: Limits) -> Parsed:
    """The rows, each with its number, which counts the header too."""
    csv.field_size_limit(_LONGEST_CELL)
    try:
        numbered = list(lines(_rows(content, file_name, limits.rows)))
    except csv.Error as error:
        raise UnreadableError(f"{file_name} = no table ({error}); a copy saved anew by its program") from None
    texts, numbers = tuple(text for _, text in numbered), tuple(number for number, _ in numbered)
    return Parsed(file_name, (Section((), {}, texts, numbers),))


def _rows(content: str, file_name: str, most: int) -> Iterator[Row]:
    for number, values in enumerate(_records(content, _separator(content)), start=1):
        if number > most:
            raise UnreadableError(f"{file_name} = more than {most} rows; at most so many, so split it")
        yield number, [" ".join(value.split()) for value in values]


def _separator(content: str) -> str:
    """The one by which most records have as many values as the first; csv.Sniffer is led astray by short tables."""

    def fitting(separator: str) -> tuple[int, int]:
        widths = [len(record) for record in itertools.islice(_records(content[:_SAMPLE], separator), _SAMPLED)]
        return (widths.count(widths[0]), widths[0]) if widths and widths[0] > 1 else (0, 0)

    return max(_SEPARATORS, key=fitting)


def _records(content: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(content, newline=""), delimiter=separator)
