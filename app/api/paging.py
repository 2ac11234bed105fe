"""Long lists in pages: each ends with the place after which the next one begins."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from app.api.problems import Problem

MOST = 500

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=MOST, description="Most items of one page.")]
After = Annotated[str, Query(max_length=2000, description="The ``next`` of the page before; empty for the first.")]


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(description="The ``after`` of the next page; null at the end.")


def page(
    rows: Sequence[Row], limit: int, place: Callable[[Row], Sequence[str]], item: Callable[[Row], Item]
) -> Page[Item]:
    """The first ``limit`` rows; whoever calls asks for one more, by which the end is known.

    ``place`` is a row's key in the list's order, whose strings come back from ``place_of``.
    """
    shown = rows[:limit]
    following = _written(place(shown[-1])) if len(rows) > limit else None
    return Page(items=[item(row) for row in shown], next=following)


def place_of(after: str, parts: int) -> tuple[str, ...] | None:
    """The key of ``parts`` strings behind which the page begins; None for the first page."""
    if not after:
        return None
    try:
        read = json.loads(base64.urlsafe_b64decode(after))
    except (binascii.Error, ValueError, RecursionError):
        read = None
    if not isinstance(read, list) or len(read) != parts or not all(isinstance(part, str) for part in read):
        raise Problem(422, f"after = {after[:40]}; the next of an earlier answer", "begin without after")
    return tuple(read)


def time_and_id(after: str) -> tuple[datetime, UUID] | None:
    """The place in a list that is in the order of time; None for the first page."""
    place = place_of(after, 2)
    try:
        return (datetime.fromisoformat(place[0]), UUID(place[1])) if place else None
    except ValueError:
        raise Problem(422, f"after = {after[:40]}; the next of an earlier answer", "begin without after") from None


def _written(place: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(place)).encode()).decode()
