"""Many colleagues who ask at once, one who searches beside them, and what each was told."""

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from inventories.settings import Site

# What a person may be told while fifty ask: an answer, to ask less often, or honestly to come again.
HONEST = frozenset({"200", "429", "503"})
SEARCH_EVERY_SECONDS = 0.6
LONGEST_PAUSE_SECONDS = 10.0


@dataclass
class Heard:
    """What everybody was told; times in seconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    answers: list[float] = field(default_factory=list)
    first_words: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    searched: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)


def listen(site: Site, collection: str, tokens: Sequence[str], questions: Sequence[str], seconds: float) -> Heard:
    """Let everybody ask but the last, who searches, for so long; each begins anew as soon as an answer is there."""
    return asyncio.run(_listen(site, collection, tokens, questions, seconds))


async def _listen(
    site: Site, collection: str, tokens: Sequence[str], questions: Sequence[str], seconds: float
) -> Heard:
    heard, end = Heard(), time.monotonic() + seconds
    trust = ssl.create_default_context(cadata=site.secret("authority-certificate"))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=f"https://{site.entry}", verify=trust, timeout=120, trust_env=False, limits=limits
    ) as http:
        *asking, searching = tokens
        async with asyncio.TaskGroup() as everybody:
            for number, token in enumerate(asking):
                everybody.create_task(_ask(http, token, collection, questions[number % len(questions) :], end, heard))
            everybody.create_task(_search(http, searching, collection, questions, end, heard))
    return heard


async def _ask(
    http: httpx.AsyncClient, token: str, collection: str, questions: Sequence[str], end: float, heard: Heard
) -> None:
    turn = 0
    while time.monotonic() < end:
        turn += 1
        asked = {"collection": collection, "question": questions[turn % len(questions)], "stream": True}
        try:
            status, pause = await _one(http, token, asked, heard)
        except httpx.HTTPError as error:
            status, pause = type(error).__name__, 1.0
        heard.statuses[status] += 1
        if status not in HONEST:
            heard.surprises.append(f"{status}: {asked['question']}")
        await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS, max(0.0, end - time.monotonic())))


async def _one(http: httpx.AsyncClient, token: str, asked: dict[str, object], heard: Heard) -> tuple[str, float]:
    """One question; the status that its asker sees in the end, and how long to wait before the next."""
    began, event = time.monotonic(), ""
    headers = {"Authorization": f"Bearer {token}"}
    async with http.stream("POST", "/api/v1/questions", json=asked, headers=headers) as answer:
        if answer.status_code != httpx.codes.OK:
            await answer.aread()
            return str(answer.status_code), float(answer.headers.get("Retry-After", 1))
        spoke = False
        async for line in answer.aiter_lines():
            name, _, rest = line.partition(": ")
            if name == "event":
                event = rest
                if event == "token" and not spoke:
                    spoke = True
                    heard.first_words.append(time.monotonic() - began)
            elif name == "data" and event == "error":
                return str(json.loads(rest)["status"]), 2.0
    if event != "answer":
        return "no end", 1.0
    heard.answers.append(time.monotonic() - began)
    return "200", 0.0


async def _search(
    http: httpx.AsyncClient, token: str, collection: str, questions: Sequence[str], end: float, heard: Heard
) -> None:
    turn = 0
    while time.monotonic() < end:
        turn += 1
        began = time.monotonic()
        asked = {"collection": collection, "q": questions[turn % len(questions)]}
        try:
            answer = await http.get("/api/v1/search", params=asked, headers={"Authorization": f"Bearer {token}"})
            heard.searched[str(answer.status_code)] += 1
            if answer.status_code == httpx.codes.OK:
                heard.searches.append(time.monotonic() - began)
        except httpx.HTTPError as error:
            heard.searched[type(error).__name__] += 1
        await asyncio.sleep(max(0.0, SEARCH_EVERY_SECONDS - (time.monotonic() - began)))


def share(values: Sequence[float], part: float) -> float | None:
    """The value that so large a part of them does not exceed (nearest rank); None without values."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[max(0, -int(-part * len(ranked) // 1) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least squares' slope of value over time; 0 for fewer than two moments."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
