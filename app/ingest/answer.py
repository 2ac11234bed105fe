"""What a parser wrote, believed only as far as it keeps to the form: a document may have taken the parser over."""

import json
import unicodedata
from typing import Any

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


def read(written: bytes, file_name: str) -> dict[str, Any]:
    """The parser's answer; raise UnreadableError or OpenDoorError when it tells of one, or is none."""
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


def split(answer: dict[str, Any], size: Size, file_name: str) -> Split:
    """The passages of an answer; raise UnreadableError unless they are what a parser makes."""
    pieces, left = answer.get("pieces"), _MOST_TEXT
    if not isinstance(pieces, list) or not pieces or not isinstance(answer.get("title"), str):
        raise misread(file_name)
    if len(pieces) > MOST_PIECES:
        raise UnreadableError(f"{file_name} = {len(pieces)} passages; at most {MOST_PIECES}, so split it")
    believed = []
    for piece in pieces:
        if not isinstance(piece, dict) or not _is_text(piece.get("text"), left) or not _is_set(piece):
            raise misread(file_name)
        one = Piece(piece["text"], tuple(piece["headings"]), piece["place"])
        if not one.text.strip() or tokens(one.text) > 2 * size.tokens:
            raise misread(file_name)
        left -= len(one.text)
        believed.append(one)
    return Split(line(answer["title"]) or file_name, tuple(believed))


def misread(file_name: str) -> UnreadableError:
    """What is said of an answer that no parser gives."""
    return UnreadableError(f"{file_name} = not readable (no parser's answer); a copy saved anew by its program")


def line(said: object) -> str:
    """One line of what was said, without control characters."""
    text = said[: 2 * LONGEST_LINE] if isinstance(said, str) else type(said).__name__
    shown = "".join(" " if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} else one for one in text)
    whole = " ".join(shown.split())
    return whole if len(whole) <= LONGEST_LINE else f"{whole[: LONGEST_LINE - 1]}…"


def _is_text(value: object, longest: int) -> bool:
    """Whether it is a text of that length that can be kept: PostgreSQL has no NUL, and UTF-8 no half of a pair."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_set(piece: dict[str, Any]) -> bool:
    return _are_headings(piece.get("headings")) and _is_place(piece.get("place"))


def _are_headings(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_HEADINGS
        and all(_is_text(heading, MOST_CHARACTERS) for heading in value)
    )


def _is_place(value: object) -> bool:
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
