"""Keeping a silent stream alive."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0


async def with_heartbeats(lines: AsyncIterator[str]) -> AsyncGenerator[str]:
    """The lines, with a comment wherever none came for a while, so that no proxy takes thinking for death."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(100)

    async def pump() -> None:
        try:
            async for line in lines:
                await queue.put(line)
        except Exception:
            log.exception("stream = broken off; its end")
        finally:
            if isinstance(lines, AsyncGenerator):
                await lines.aclose()
        # Only the source's own end is told: after a cancellation nobody makes room in the queue any more.
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
