"""Excel: every sheet row by row, with the values stored when it was last calculated; nothing is calculated here."""

import datetime
import io
from collections.abc import Iterator
from typing import Any

import openpyxl

from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.rows import Row, lines

NOT_CALCULATED = "This sheet holds formulas without stored values."


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """Each sheet under its name; the title is the workbook's own, else the file's name."""
    workbook = _opened(content, data_only=True)
    names = [sheet.title for sheet in workbook.worksheets]
    if len(names) > limits.sheets:
        raise UnreadableError(f"{file_name} = {len(names)} sheets; at most {limits.sheets}, so split it")
    counted = _Counter(file_name, limits.rows)
    sections = [_section(sheet, counted) for sheet in workbook.worksheets]
    empty = {section.headings[0] for section in sections if not section.paragraphs}
    uncalculated = _with_formulas(content, empty) if empty else set()
    if uncalculated and len(empty) == len(names):
        raise UnreadableError(
            f"{file_name} = formulas without stored values; a copy that Excel or LibreOffice calculated and saved"
        )
    noted = [
        Section(section.headings, section.place, (NOT_CALCULATED,)) if section.headings[0] in uncalculated else section
        for section in sections
    ]
    return Parsed((workbook.properties.title or "").strip() or file_name, tuple(noted))


class _Counter:
    """Rows of all sheets together, against the limit."""

    def __init__(self, file_name: str, most: int) -> None:
        self._file_name, self._most = file_name, most
        self._seen = 0

    def count(self) -> None:
        self._seen += 1
        if self._seen > self._most:
            raise UnreadableError(f"{self._file_name} = more than {self._most} rows; at most so many, so split it")


def _opened(content: bytes, *, data_only: bool) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only, keep_links=False)


def _section(sheet: Any, counted: _Counter) -> Section:
    numbered = list(lines(_rows(sheet, counted)))
    return Section(
        (sheet.title,),
        {"sheet": sheet.title},
        tuple(text for _, text in numbered),
        tuple(number for number, _ in numbered),
    )


def _rows(sheet: Any, counted: _Counter) -> Iterator[Row]:
    # The size that the sheet states may be a lie, by which every row would be filled up.
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        values = [_written(cell) for cell in cells]
        if any(values):
            counted.count()
            yield number, values


def _written(cell: Any) -> str:
    """The value as the sheet shows it, nearly."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "minutes") if value.time() != datetime.time() else value.date().isoformat()
    if isinstance(value, (int, float)) and "%" in (cell.number_format or ""):
        return f"{value * 100:.10g}%"
    if isinstance(value, float):
        return f"{value:.15g}"
    return " ".join(str(value).split())


def _with_formulas(content: bytes, names: set[str]) -> set[str]:
    """Those of the sheets that hold formulas."""
    workbook = _opened(content, data_only=False)
    return {name for name in names if _has_formula(workbook[name])}


def _has_formula(sheet: Any) -> bool:
    sheet.reset_dimensions()
    return any(cell.data_type == "f" for cells in sheet.iter_rows() for cell in cells)
