"""An answer's stream, whoever goes away first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.api import streams
from app.api.streams import with_heartbeats


def test_a_stream_that_nobody_reads_to_its_end_can_be_closed_and_lets_its_source_go() -> None:
    closed = []

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: word\n\n"
        finally:
            closed.append("the source")

    async def story() -> str:
        stream = with_heartbeats(endless())
        first = await anext(stream)
        # The source goes on until the queue is full.
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await stream.aclose()
        return first

    assert asyncio.run(story()) == "data: word\n\n"
    assert closed == ["the source"]


def test_a_source_that_breaks_ends_the_stream() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "data: word\n\n"
        raise LookupError

    async def story() -> list[str]:
        return [line async for line in with_heartbeats(broken())]

    assert asyncio.run(story()) == ["data: word\n\n"]


def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)

    async def thinking() -> AsyncIterator[str]:
        await asyncio.sleep(0.12)
        yield "data: word\n\n"

    async def story() -> list[str]:
        return [line async for line in with_heartbeats(thinking())]

    assert asyncio.run(story()) == [": still thinking\n\n"] * 2 + ["data: word\n\n"]


def test_a_stream_ends_also_when_its_deadline_met_it_while_the_reader_was_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)

    async def hasty() -> AsyncIterator[str]:
        async with asyncio.timeout(0.05):
            while True:
                yield "data: word\n\n"

    async def story() -> int:
        read = 0
        async with asyncio.timeout(5):
            async for _ in with_heartbeats(hasty()):
                read += 1
                # The queue is full for longer than the source may take.
                await asyncio.sleep(0.2 if read == 1 else 0)
        return read

    assert asyncio.run(story()) > 1
