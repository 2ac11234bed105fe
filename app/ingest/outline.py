"""What every parser produces: paragraphs under the heading and on the page where a reader finds them."""

from dataclasses import dataclass, field


class UnreadableError(Exception):
    """The document cannot be read; the message tells the person who uploaded it what to do."""


@dataclass(frozen=True)
class Section:
    headings: tuple[str, ...]
    page: int | None
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Parsed:
    title: str
    sections: tuple[Section, ...]


@dataclass
class Outline:
    """Collects paragraphs under the headings open at the time."""

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
            self._sections.append(Section(headings, None, tuple(self._paragraphs)))
            self._paragraphs = []
