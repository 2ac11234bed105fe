"""Keeping a silent stream alive."""

import asyncio
from collections.abc import AsyncIterator

HEARTBEAT_SECONDS = 10.0


async def with_heartbeats(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The lines, with a comment wherever none came for a while, so that no proxy takes thinking for death."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(100)

    async def pump() -> None:
        try:
            async for line in lines:
                await queue.put(line)
        finally:
            await queue.put(None)

    # The source runs in one task from start to end: its deadlines belong to the task that opened them.
    task = asyncio.create_task(pump())
    try:
        while True:
            try:
                line = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield ": still thinking\n\n"
                continue
            if line is None:
                return
            yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
