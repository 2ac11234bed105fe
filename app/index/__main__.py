"""Entry of rag-index."""

import asyncio
import logging
import signal
import socket
import sys
import threading

from prometheus_client import start_http_server
from sqlalchemy.exc import SQLAlchemyError

from app import log, metrics
from app.index.follower import Follower, follow
from app.index.reconcile import reconcile
from app.index.report import Reporter
from app.index.vectors import IndexUnavailableError, Vectors
from app.settings import ConfigurationError, Settings, load_or_refuse, refuse
from app.store import changes
from app.store.database import engine
from app.store.listen import Listener


def main() -> int:
    """Follow until SIGTERM."""
    log.configure()
    settings = load_or_refuse()
    try:
        # A replica sends no notifications; without a primary the poll alone moves the index.
        # The listener keeps one of its connections, and the reporter has one now and then.
        primary = engine(settings.database, "read-write", role="reader", at_least=3)
        replica = engine(settings.database, "prefer-standby", role="reader")
        follower = Follower(settings, replica, primary, Vectors(settings.chroma))
    except ConfigurationError as error:
        refuse(error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    start_http_server(settings.listen.index_metrics, settings.listen.address, metrics.INDEX)
    listener = Listener(primary, changes.CHANNEL, stopping)
    reporter = Reporter(primary, follower.vectors, socket.gethostname())
    asyncio.run(_follow(follower, reporter, listener, stopping, settings))
    return 0


async def _follow(
    follower: Follower, reporter: Reporter, listener: Listener, stopping: threading.Event, settings: Settings
) -> None:
    turn = asyncio.Lock()
    comparing = asyncio.create_task(_compare(follower, turn, settings.index.reconcile_minutes * 60))
    while not stopping.is_set():
        try:
            async with turn:
                applied = await follow(follower)
            await reporter.tell()
            if applied:
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


async def _compare(follower: Follower, turn: asyncio.Lock, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await reconcile(follower, turn)
        except (IndexUnavailableError, SQLAlchemyError) as error:
            logging.getLogger("app.index").warning("comparison = ended early; %s", str(error).splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
