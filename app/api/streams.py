"""Answers that take their time: kept alive while they are silent, and ended when nobody listens any more."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

Result = TypeVar("Result")

HEARTBEAT_SECONDS = 10.0
# What nginx calls it; nobody reads it but the access log.
GONE = 499


class Stream(StreamingResponse):
    """Server-sent events whose source is closed as soon as the reader goes away."""

    def __init__(self, lines: AsyncGenerator[str]) -> None:
        # Proxies that gather a response before they pass it on would make the stream pointless.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(lines, media_type="text/event-stream", headers=headers)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the reader goes away: some servers tell that only to who listens."""
        try:
            await _unless_gone(receive, self.stream_response(send))
        finally:
            await self._lines.aclose()


async def while_listening(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The work's response; the work is cancelled when the client goes away before."""
    done = await _unless_gone(request.receive, work)
    return done if done is not None else Response(status_code=GONE)


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
                if task.done():
                    # Its deadline met it while it waited for a slow reader: nothing comes any more.
                    return
                yield ": still thinking\n\n"
                continue
            if line is None:
                return
            yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
