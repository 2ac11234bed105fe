"""Entry of rag-index."""

import asyncio
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from prometheus_client import start_http_server
from sqlalchemy.exc import SQLAlchemyError

from app import log, metrics
from app.index.follower import CHANGES_AT_ONCE, OTHERS_AT_ONCE, follow
from app.index.indexes import Indexes
from app.index.reconcile import reconcile
from app.index.report import Reporter
from app.index.vectors import IndexUnavailableError
from app.settings import ConfigurationError, Settings, load_or_refuse, refuse
from app.store import changes
from app.store.database import engine
from app.store.listen import Listener

# Between two looks for what belongs to no model any more.
FORGET_SECONDS = 5.0
# Between the beginnings of two rounds while a few changes come in each.
MOMENT_SECONDS = 1.0


def main() -> int:
    """Follow until SIGTERM."""
    log.configure()
    settings = load_or_refuse()
    try:
        # A replica sends no notifications; without a primary the poll alone moves the index.
        # The listener keeps one of its connections, and the reporter has one now and then.
        primary = engine(settings.database, "read-write", role="reader", at_least=3)
        replica = engine(settings.database, "prefer-standby", role="reader")
        indexes = Indexes(settings, replica, primary)
    except ConfigurationError as error:
        refuse(error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    start_http_server(settings.listen.index_metrics, settings.listen.address, metrics.INDEX)
    listener = Listener(primary, changes.CHANNEL, stopping)
    reporter = Reporter(primary, socket.gethostname(), settings.inference)
    asyncio.run(_follow(indexes, reporter, listener, stopping, settings))
    return 0


async def _follow(
    indexes: Indexes, reporter: Reporter, listener: Listener, stopping: threading.Event, settings: Settings
) -> None:
    turn = asyncio.Lock()
    comparing = asyncio.create_task(_compare(indexes, turn, settings.index.reconcile_minutes * 60))
    looked = 0.0
    while not stopping.is_set():
        try:
            async with turn:
                began = time.monotonic()
                followers = await indexes.now()
                applied = [await follow(followers[0])]
                # The others' turn comes when the served one is in step; what concerns them alone it only passes over.
                if applied[0] < CHANGES_AT_ONCE:
                    applied += [await follow(one, served=False) for one in followers[1:]]
            await reporter.tell(followers)
            if time.monotonic() - looked > FORGET_SECONDS:
                looked = time.monotonic()
                await indexes.forget()
            if any(applied):
                await asyncio.to_thread(stopping.wait, pause(applied, time.monotonic() - began))
                continue
        except IndexUnavailableError as error:
            logging.getLogger("app.index").warning("%s", error)
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            logging.getLogger("app.index").warning("database = %s; a server that accepts us", reason)
        await asyncio.to_thread(listener.wait, settings.index.poll_seconds)
    comparing.cancel()
    await asyncio.gather(comparing, return_exceptions=True)
    listener.close()


def pause(applied: Sequence[int], took: float) -> float:
    """Seconds to the next round after one that applied so many changes of each model.

    Where a document comes every moment, a round for each would cost more than the vectors; the first waits for nobody.
    """
    served, *others = applied
    if served >= CHANGES_AT_ONCE or any(one >= OTHERS_AT_ONCE for one in others):
        return 0.0
    return max(0.0, MOMENT_SECONDS - took)


async def _compare(indexes: Indexes, turn: asyncio.Lock, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await reconcile(await indexes.now(), turn)
        except (IndexUnavailableError, SQLAlchemyError) as error:
            logging.getLogger("app.index").warning("comparison = ended early; %s", str(error).splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
