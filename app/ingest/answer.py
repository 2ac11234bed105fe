"""What a parser wrote, believed only as far as it keeps to the form: a document may have taken the parser over."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, TypeGuard

from app.ingest import formats
from app.ingest.clean import MOST_CHARACTERS, MOST_HEADINGS
from app.ingest.outline import UnreadableError
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Piece, Size, Split
from app.sentences import tokens

# Of what is for a person or the journal: a reason, a title.
LONGEST_LINE = 500
# One for each hundred characters of the longest text.
MOST_PIECES = formats.MOST_CHARACTERS // 100
# Text comes twice at most: what overlaps is in two passages.
_MOST_TEXT = 2 * formats.MOST_CHARACTERS
_MOST_IN_PLACE = 8
# Bytes of the longest passage, four for each of its letters, with headings and place. Nothing longer is looked into:
# a few bytes of brackets are hundreds of a list's.
LONGEST_PIECE = 128 * 1024


def told(written: bytes, file_name: str) -> dict[str, Any]:
    """What one line of a parser says; raise UnreadableError or OpenDoorError when it tells of one, or says nothing."""
    try:
        answer = json.loads(written)
    except (ValueError, RecursionError):
        raise misread(file_name) from None
    if not isinstance(answer, dict):
        raise misread(file_name)
    if "open" in answer:
        raise OpenDoorError(line(answer["open"]))
    if "error" in answer:
        raise UnreadableError(line(answer["error"]))
    return answer


def one(lines: Iterable[bytes], file_name: str) -> dict[str, Any]:
    """The answer of a parser that says all in one line."""
    found = [told(written, file_name) for written in islice(lines, 2)]
    if len(found) != 1:
        raise misread(file_name)
    return found[0]


def split(lines: Iterable[bytes], size: Size, file_name: str) -> Split:
    """The title, in the first line, and a passage in each other; UnreadableError unless they are what parsers make."""
    rest = iter(lines)
    title = told(next(rest, b""), file_name).get("title")
    if not isinstance(title, str):
        raise misread(file_name)
    believed: list[Piece] = []
    left = _MOST_TEXT
    for written in rest:
        if len(believed) == MOST_PIECES:
            raise UnreadableError(f"{file_name} = over {MOST_PIECES} passages; fewer, so split it")
        believed.append(_piece(told(written, file_name), size, file_name, believed[-1] if believed else None))
        left -= _kept(believed)
        if left < 0:
            raise misread(file_name)
    if not believed:
        raise misread(file_name)
    return Split(line(title) or file_name, tuple(believed))


def _piece(said: dict[str, Any], size: Size, file_name: str, before: Piece | None) -> Piece:
    """One passage; what stands beside it as beside the one before is the same, not another."""
    text, headings, place = said.get("text"), said.get("headings"), said.get("place")
    if not _is_text(text, LONGEST_PIECE) or not _are_headings(headings) or not _is_place(place):
        raise misread(file_name)
    if not text.strip() or tokens(text) > 2 * size.tokens:
        raise misread(file_name)
    same = before if before and headings == list(before.headings) else None
    kept = before.place if before and place == before.place else place
    return Piece(text, same.headings if same else tuple(headings), kept)


def _kept(believed: Sequence[Piece]) -> int:
    """How many characters the last one adds to what is held."""
    last, before = believed[-1], believed[-2] if len(believed) > 1 else None
    held = len(last.text)
    if not before or last.headings is not before.headings:
        held += sum(map(len, last.headings))
    if not before or last.place is not before.place:
        held += sum(len(key) + len(str(value)) for key, value in last.place.items())
    return held


def misread(file_name: str) -> UnreadableError:
    """What is said of an answer that no parser gives."""
    return UnreadableError(f"{file_name} = not readable (no parser's answer); a copy saved anew by its program")


def line(said: object) -> str:
    """One line of what was said, without control characters."""
    text = said[: 2 * LONGEST_LINE] if isinstance(said, str) else type(said).__name__
    shown = "".join(" " if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} else one for one in text)
    whole = " ".join(shown.split())
    return whole if len(whole) <= LONGEST_LINE else f"{whole[: LONGEST_LINE - 1]}…"


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    """Whether it is a text of that length that can be kept: PostgreSQL has no NUL, and UTF-8 no half of a pair."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_headings(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and len(value) <= MOST_HEADINGS
        and all(_is_text(heading, MOST_CHARACTERS) for heading in value)
    )


def _is_place(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is flat: words and numbers, and of a table the first and the last row."""
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_IN_PLACE
        and all(_is_text(key, MOST_CHARACTERS) and _is_in_place(one) for key, one in value.items())
    )


def _is_in_place(value: object) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and all(_is_number(one) for one in value)
    return _is_number(value) or _is_text(value, MOST_CHARACTERS)


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < 2**31
