"""HTML: headings become the section path, navigation and scripts are left out."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from app.ingest.outline import Outline, Parsed

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_LEFT_OUT = frozenset(
    {"script", "style", "noscript", "template", "nav", "header", "footer", "aside", "svg", "form", "button", "_comment"}
)
# DocBook, which many manuals are made with, marks its navigation by class only.
_LEFT_OUT_CLASSES = frozenset({"navheader", "navfooter", "toc", "id_link", "headerlink"})
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "hr", "html", "li", "main", "ol", "p", "section", "summary", "table", "tbody",
    "tfoot", "thead", "ul",
})
# fmt: on
# Below the six headings of HTML, a term of a definition list is the heading of its definition.
_TERM_LEVEL = 7


def parse(content: str, file_name: str) -> Parsed:
    """The page's text under its headings; the title is the page's own, else the file's name."""
    page = LexborHTMLParser(content)
    outline = Outline()
    body = page.body
    if body is not None:
        _Reader(outline).read(body)
    title = page.css_first("title")
    return Parsed(_text(title) if title else file_name, outline.sections())


class _Reader:
    """Walks the tree once, gathering inline text until a block ends."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._inline: list[str] = []
        self._lists = 0

    def read(self, node: LexborNode) -> None:
        for child in node.iter(include_text=True, skip_empty=False):
            tag = child.tag or ""
            if tag == "-text":
                self._inline.append(child.text(deep=False) or "")
            elif tag in _LEFT_OUT or _LEFT_OUT_CLASSES.intersection((child.attributes.get("class") or "").split()):
                continue
            elif tag in _HEADINGS:
                self._end_block()
                self._outline.heading(_HEADINGS[tag], _text(child))
            elif tag == "dt":
                self._end_block()
                self._outline.heading(_TERM_LEVEL + self._lists, _text(child))
            elif tag == "pre":
                self._end_block()
                self._outline.paragraph("\n".join(line.rstrip() for line in child.text().splitlines() if line.strip()))
            elif tag == "tr":
                self._end_block()
                cells = (_text(cell) for cell in child.iter() if cell.tag in {"td", "th"})
                self._outline.paragraph(" | ".join(cell for cell in cells if cell))
            elif tag == "br":
                self._inline.append(" ")
            elif tag in _BLOCKS:
                self._block(child, tag)
            else:
                self.read(child)

    def _block(self, node: LexborNode, tag: str) -> None:
        self._end_block()
        self._lists += tag == "dl"
        self.read(node)
        self._end_block()
        if tag == "dl":
            self._lists -= 1
            # The list's last term is no heading for what follows the list.
            self._outline.close(_TERM_LEVEL + self._lists + 1)

    def _end_block(self) -> None:
        self._outline.paragraph(" ".join("".join(self._inline).split()))
        self._inline = []


def _text(node: LexborNode) -> str:
    parts: list[str] = []
    _gather(node, parts)
    return " ".join("".join(parts).split())


def _gather(node: LexborNode, parts: list[str]) -> None:
    for child in node.iter(include_text=True, skip_empty=False):
        if child.tag == "-text":
            parts.append(child.text(deep=False) or "")
        elif child.tag not in _LEFT_OUT and not _LEFT_OUT_CLASSES.intersection(
            (child.attributes.get("class") or "").split()
        ):
            _gather(child, parts)
            if child.tag in _BLOCKS or child.tag in {"br", "td", "th"}:
                parts.append(" ")
