"""Tables as text: each row a paragraph in which every value stands behind the name of its column."""

import re
from collections.abc import Iterable, Iterator, Sequence

_FIGURES = re.compile(r"[\d.,:%+\-/ €$£]+")

Row = tuple[int, Sequence[str]]
"""A row's number, as a spreadsheet shows it, and its values."""


def lines(rows: Iterable[Row]) -> Iterator[tuple[int, str]]:
    """Number and text of every row that has any; the first row gives the names if it looks like names."""
    names: Sequence[str] | None = None
    for number, values in rows:
        if not any(values):
            continue
        if names is None:
            # One value alone is the title above a table.
            if sum(map(bool, values)) > 1:
                names = values if _are_names(values) else ()
            yield number, " | ".join(filter(None, values))
            continue
        yield number, " | ".join(_named(names, column, value) for column, value in enumerate(values) if value)


def _are_names(values: Sequence[str]) -> bool:
    given = [value for value in values if value]
    return len(given) == len(set(given)) and not any(_FIGURES.fullmatch(value) for value in given)


def _named(names: Sequence[str], column: int, value: str) -> str:
    return f"{names[column]}: {value}" if column < len(names) and names[column] else value
