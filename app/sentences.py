"""Words and sentences, as the splitter and the citation check both see them."""

import re
from collections.abc import Iterable
from pathlib import Path

# A full stop ends a sentence when white space and the start of another sentence follow it.
_END = re.compile(r"(?<=[.!?])(?:[\"'”’)\]]*)(?=\s+[\"'“‘(\[]*[A-ZÀ-ÖØ-Þ0-9])|\n+")
# A lone letter is one too: "J. Doe", "z. B.", "u. a.".
_ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|etc|vs|cf|al|approx|Dr|Prof|Mr|Mrs|Ms|No|Nr|Fig|Sec|Vol|St|Str|Tel|Inc|Ltd|Abs|Art|Mio|Mrd"
    r"|bzw|bzgl|ca|evtl|ggf|inkl|z\.B|d\.h|u\.a|[^\W\d_])\.$"
)
# "31. März" is a day, and "3." before the words of a list's entry is its number.
_DAY = re.compile(r"\b\d{1,2}\.$")
_MONTH = re.compile(r"\s+(?:Jan|Feb|M[aä]r|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])")
_NUMBER_ALONE = re.compile(r"\s*\d{1,3}\.")
# As far back as the longest of these reaches: looking at a whole long sentence at each of its full stops takes hours.
_BACK = 12
_WORD = re.compile(r"\w+(?:[.:_'’-]\w+)*")
_JOINT = re.compile(r"[.:_'’-]")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_GROUPED = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
# English and German words that say nothing about a subject.
_STOP = frozenset((Path(__file__).parent / "stop-words.txt").read_text(encoding="utf-8").split())


def sentences(text: str) -> list[str]:
    """The text's sentences, each a verbatim piece of it."""
    pieces: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if "\n" not in match.group() and _goes_on(text, start, match.end()):
            continue
        piece = text[start : match.end()].strip()
        if piece:
            pieces.append(piece)
        start = match.end()
    if text[start:].strip():
        pieces.append(text[start:].strip())
    return pieces


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the full stop at ``end`` belongs to its last word and not to the sentence that began at ``start``."""
    last = text[max(start, end - _BACK) : end]
    if _ABBREVIATION.search(last) or (end - start <= _BACK and _NUMBER_ALONE.fullmatch(last)):
        return True
    return bool(_DAY.search(last) and _MONTH.match(text, end))


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in lower case and in order."""
    return [word for word in (found.lower() for found in _WORD.findall(text)) if word not in _STOP]


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """What may be matched in these texts: stems of whole words, and of the parts of names such as max_connections."""
    stems: set[str] = set()
    for text in texts:
        for word in content_words(text):
            stems.add(stem(word))
            stems.update(stem(part) for part in parts(word))
    return frozenset(stems)


def parts(word: str) -> list[str]:
    """The words that a compound such as max_connections or 90-day is made of."""
    return [part for part in _JOINT.split(word) if part and part not in _STOP]


def figures(text: str) -> frozenset[str]:
    """The numbers in the text, however they are written: 1,200 and 1.200 are 1200."""
    found = (match.group() for match in _FIGURE.finditer(text))
    return frozenset(re.sub("[.,]", "", one) if _GROUPED.fullmatch(one) else one.replace(",", ".") for one in found)


def stem(word: str) -> str:
    """The part two forms of a word share; names and numbers are kept whole, since their ends tell them apart."""
    if not word.isalpha():
        return word
    for ending in ("ingly", "ings", "ing", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= (3 if ending == "s" else 4):
            word = word.removesuffix(ending)
            break
    return word[:7].rstrip("e") if len(word) > 4 else word


def tokens(text: str) -> int:
    """An upper-leaning estimate; code and long words cost more tokens than their number of words tells."""
    return max(int(len(text.split()) * 1.3), len(text) // 4) + 1
