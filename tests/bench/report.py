"""Figures: what was measured beside what is promised, as a table and in build/bench.json."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from app import evaluate

FILE = Path("build/bench.json")


# One line of build/bench.json, for the figures that a colleague measures too.
Figure = evaluate.Figure


def machine() -> str:
    """The computer in one line: absolute figures mean nothing without it."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) / (1 << 20) for line in _lines("/proc/meminfo") if "MemTotal" in line), 0.0)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def at_most(
    area: str, what: str, value: float | None, unit: str, limit: float | None, repeats: int, where: str
) -> Figure:
    """A figure with an upper limit, or none; what could not be measured does not hold a limit."""
    holds = limit is None or (value is not None and value <= limit)
    shown = None if value is None else round(value, 3)
    must = "" if limit is None else f"≤ {limit:g}"
    return Figure(area, what, shown, unit, must, holds, None, None, repeats, where)


def at_least(area: str, what: str, value: float | None, unit: str, limit: float, repeats: int, where: str) -> Figure:
    """A figure with a lower limit; what could not be measured does not hold it."""
    shown = None if value is None else round(value, 3)
    holds = value is not None and value >= limit
    return Figure(area, what, shown, unit, f"≥ {limit:g}", holds, None, None, repeats, where)


def merge(found: Iterable[dict[str, object]], new: Sequence[Figure]) -> list[dict[str, object]]:
    """What was there and what is new; a figure of the same area and name is replaced in its place."""
    merged = {(entry.get("area"), entry.get("what")): entry for entry in found}
    merged |= {(figure.area, figure.what): asdict(figure) for figure in new}
    return list(merged.values())


def write(new: Sequence[Figure], file: Path = FILE) -> None:
    """Merge into the file; a reader sees the former one or the new one, whole."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        found = []
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".json.new")
    draft.write_text(json.dumps(merge(found, new), indent=2, ensure_ascii=False) + "\n")
    draft.rename(file)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
