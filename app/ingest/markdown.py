"""Markdown and plain text: blank lines end paragraphs; Markdown has headings, and its fences and tables keep lines."""

import re

from app.ingest.outline import Outline, Parsed

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_ROW = re.compile(r"\s*\|(.*)\|\s*$")
_RULE = re.compile(r"[\s|:-]*")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")


def parse_markdown(content: str, file_name: str) -> Parsed:
    """The text under its headings; the title is the first heading of the first level, else the file's name."""
    outline = Outline()
    title = ""
    block: list[str] = []
    fence = ""
    for line in content.splitlines():
        marker = _FENCE.match(line)
        if fence:
            if marker and marker.group(1) == fence:
                outline.paragraph("\n".join(block))
                block, fence = [], ""
            else:
                block.append(line.rstrip())
            continue
        heading, row = _HEADING.match(line), _ROW.match(line)
        if marker or heading or row or not line.strip() or _ITEM.match(line):
            outline.paragraph(_joined(block))
            block = []
        if marker:
            fence = marker.group(1)
        elif row:
            outline.paragraph(_cells(row.group(1)))
        elif heading:
            title = title or (heading.group(2) if len(heading.group(1)) == 1 else "")
            outline.heading(len(heading.group(1)), heading.group(2))
        else:
            block.append(line)
    outline.paragraph(_joined(block))
    return Parsed(title or file_name, outline.sections())


def parse_text(content: str, file_name: str) -> Parsed:
    """The paragraphs, under no heading."""
    outline = Outline()
    for block in re.split(r"\n\s*\n", content):
        outline.paragraph(_joined(block.splitlines()))
    return Parsed(file_name, outline.sections())


def _cells(row: str) -> str:
    """A table's row, as HTML's are written too; the rule under its head says nothing."""
    return "" if _RULE.fullmatch(row) else " | ".join(cell.strip() for cell in row.split("|"))


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
