"""Markdown and plain text: blank lines end paragraphs; Markdown has headings, and its fences and tables keep lines."""

import re
from dataclasses import dataclass, field

from app.ingest.outline import Outline, Parsed

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_UNDERLINE = re.compile(r"(={2,}|-{2,})\s*")
_BREAK = re.compile(r"\s*([-*_])(\s*\1){2,}\s*")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)$")
_ROW = re.compile(r"\s*\|(.*)\|\s*$")
_RULE = re.compile(r"[\s|:-]*")
# The line under a table's head, which alone tells a table without outer pipes from text with a pipe in it.
_UNDER_HEAD = re.compile(r"\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?)?")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_KEY = re.compile(r"[\w-]+\s*:(\s|$)")
_TITLE = re.compile(r"title\s*:\s*(['\"]?)(\w.*?)\1\s*$")


def parse_markdown(content: str, file_name: str) -> Parsed:
    """The text under its headings; the title is the front matter's, else the first level's heading, else the file's."""
    front, lines = _front_matter(content.splitlines())
    reader = _Reader(title=next((found.group(2) for found in map(_TITLE.match, front) if found), ""))
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        reader.read(line, following)
    reader.end_block()
    return Parsed(reader.title or file_name, reader.outline.sections())


def _front_matter(lines: list[str]) -> tuple[list[str], list[str]]:
    """What programs keep above the text, and the text."""
    if len(lines) > 2 and lines[0].rstrip() == "---" and _KEY.match(lines[1]):
        for number, line in enumerate(lines[1:], start=1):
            if line.rstrip() in {"---", "..."}:
                return lines[1:number], lines[number + 1 :]
    return [], lines


@dataclass
class _Reader:
    """Reads line by line, gathering those of a paragraph or of a fence."""

    title: str
    outline: Outline = field(default_factory=Outline)
    _block: list[str] = field(default_factory=list)
    _fence: str = ""
    _in_table: bool = False

    def read(self, line: str, following: str) -> None:
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        row = self._is_row(line, following)
        if self._fence:
            self._code(line, fence)
        elif fence and not (fence.group(1)[0] == "`" and "`" in fence.group(2)):
            self.end_block()
            self._fence = fence.group(1)
        elif heading:
            self._heading(len(heading.group(1)), heading.group(2))
        elif _UNDERLINE.fullmatch(line) and self._may_be_heading():
            text, self._block = self._block[0].strip(), []
            self._heading(1 if line.startswith("=") else 2, text)
        elif row or not line.strip() or _BREAK.fullmatch(line):
            self.end_block()
            self.outline.paragraph(_cells(line) if row else "")
        else:
            if _ITEM.match(line):
                self.end_block()
            self._block.append(line)

    def end_block(self) -> None:
        """What was gathered is a paragraph."""
        self.outline.paragraph(_joined(self._block))
        self._block = []

    def _heading(self, level: int, text: str) -> None:
        self.end_block()
        self.title = self.title or (text if level == 1 else "")
        self.outline.heading(level, text)

    def _may_be_heading(self) -> bool:
        return len(self._block) == 1 and not _ITEM.match(self._block[0])

    def _is_row(self, line: str, following: str) -> bool:
        begins = "|" in line and _UNDER_HEAD.fullmatch(following.strip()) is not None
        self._in_table = begins or (self._in_table and "|" in line)
        return self._in_table or _ROW.match(line) is not None

    def _code(self, line: str, fence: re.Match[str] | None) -> None:
        if fence and fence.group(1).startswith(self._fence) and not fence.group(2).strip():
            self.outline.paragraph("\n".join(self._block))
            self._block, self._fence = [], ""
        else:
            self._block.append(line.rstrip())


def parse_text(content: str, file_name: str) -> Parsed:
    """The paragraphs, under no heading."""
    outline = Outline()
    for block in re.split(r"\n\s*\n", content):
        outline.paragraph(_joined(block.splitlines()))
    return Parsed(file_name, outline.sections())


def _cells(row: str) -> str:
    """A table's row, as HTML's are written too; the rule under its head says nothing."""
    cells = row.strip().removeprefix("|").removesuffix("|").split("|")
    return "" if _RULE.fullmatch(row) else " | ".join(cell.strip() for cell in cells)


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
