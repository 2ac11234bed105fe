"""HTML: headings become the section path, navigation and scripts are left out."""

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from app.ingest.outline import Outline, Parsed

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_ANY_HEADING = ", ".join(_HEADINGS)
# fmt: off
_LEFT_OUT = frozenset({
    "script", "style", "noscript", "template", "nav", "footer", "aside", "svg", "button", "select", "input",
    "textarea", "option", "_comment",
})
# fmt: on
# DocBook, which many manuals are made with, marks its navigation by class only.
_LEFT_OUT_CLASSES = frozenset({"navheader", "navfooter", "toc", "id_link", "headerlink"})
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "form", "header", "hgroup", "hr", "html", "legend", "li", "main", "ol", "p", "section",
    "summary", "table", "tbody", "tfoot", "thead", "ul",
})
# fmt: on
# Where one of these begins or ends, so does a word.
_PARTING = _BLOCKS | _HEADINGS.keys() | {"br", "pre", "tr", "td", "th"}
# Below the six headings of HTML, a term of a definition list is the heading of its definition.
_TERM_LEVEL = 7


def parse(content: str, file_name: str) -> Parsed:
    """The page's text under its headings; the title is the page's own, else the file's name."""
    try:
        page = LexborHTMLParser(content)
    except SelectolaxError:
        # It says no more when it gets no memory, and there is no page that it cannot read otherwise.
        raise MemoryError from None
    outline = Outline()
    body = page.body
    if body is not None:
        _Reader(outline).block(body)
    # A drawing in the page has titles too.
    title = page.head.css_first("title") if page.head else None
    return Parsed((_text(title) if title else "") or file_name, outline.sections())


class _Reader:
    """Walks the tree once, gathering inline text until a block ends."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._inline: list[str] = []
        self._lists = 0

    def block(self, node: LexborNode) -> None:
        """Read what belongs together and is apart from what is around it."""
        self._end_block()
        self._lists += node.tag == "dl"
        self._read(node)
        self._end_block()
        if node.tag == "dl":
            self._lists -= 1
            # The list's last term is no heading for what follows the list.
            self._outline.close(_TERM_LEVEL + self._lists + 1)

    def _read(self, node: LexborNode) -> None:
        for child in node.iter(include_text=True, skip_empty=False):
            tag = child.tag or ""
            if tag == "-text":
                self._inline.append(child.text(deep=False) or "")
            elif _is_left_out(child):
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
                self._row(child)
            elif tag == "br":
                self._inline.append(" ")
            elif tag in _BLOCKS:
                self.block(child)
            else:
                self._read(child)

    def _row(self, row: LexborNode) -> None:
        self._end_block()
        cells = [cell for cell in row.iter() if cell.tag in {"td", "th"}]
        if _is_layout(row):
            for cell in cells:
                self.block(cell)
            return
        self._outline.paragraph(" | ".join(text for text in map(_text, cells) if text))

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
        elif not _is_left_out(child):
            around = " " if child.tag in _PARTING else ""
            parts.append(around)
            _gather(child, parts)
            parts.append(around)


def _is_layout(row: LexborNode) -> bool:
    """Whether the cells are columns of a page: they hold headings or tables, and the table has no head."""
    table = row.parent.parent if row.parent else None
    has_head = table is not None and any(part.tag == "thead" for part in table.iter())
    return not has_head and row.css_first(f"{_ANY_HEADING}, table") is not None


def _is_left_out(node: LexborNode) -> bool:
    if node.tag == "header":
        # Above a whole page it holds the site's name and its menu; with a heading it begins an article.
        return node.css_first(_ANY_HEADING) is None
    classes = (node.attributes.get("class") or "").split()
    return node.tag in _LEFT_OUT or not _LEFT_OUT_CLASSES.isdisjoint(classes)
