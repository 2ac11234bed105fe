"""What every parser produces: paragraphs under the heading and at the place where a reader finds them."""

from dataclasses import dataclass, field
from typing import Any

Place = dict[str, Any]
"""Where a reader looks: ``page``, ``slide``, or ``sheet`` and the first and last of its ``rows``; may be empty."""


class UnreadableError(Exception):
    """The document cannot be read; the message tells the person who uploaded it what to do."""


@dataclass(frozen=True)
class Section:
    """What stands together; where ``rows`` are given, they number the paragraphs one by one."""

    headings: tuple[str, ...] = ()
    place: Place = field(default_factory=dict)
    paragraphs: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Parsed:
    title: str
    sections: tuple[Section, ...]


@dataclass
class Outline:
    """Collects paragraphs under the headings open at the time."""

    place: Place = field(default_factory=dict)
    _open: dict[int, str] = field(default_factory=dict)
    _paragraphs: list[str] = field(default_factory=list)
    _sections: list[Section] = field(default_factory=list)

    def heading(self, level: int, text: str) -> None:
        """Open a heading; those of its level and deeper are closed."""
        self.close(level)
        if text:
            self._open[level] = text

    def close(self, level: int) -> None:
        """End what stands under headings of this level and deeper."""
        self._end_section()
        self._open = {depth: text for depth, text in self._open.items() if depth < level}

    def paragraph(self, text: str) -> None:
        """Add a paragraph, unless it is empty."""
        if text.strip():
            self._paragraphs.append(text.strip())

    def sections(self) -> tuple[Section, ...]:
        """Everything collected, in reading order."""
        self._end_section()
        return tuple(self._sections)

    def _end_section(self) -> None:
        if self._paragraphs:
            headings = tuple(text for _, text in sorted(self._open.items()))
            self._sections.append(Section(headings, self.place, tuple(self._paragraphs)))
            self._paragraphs = []
