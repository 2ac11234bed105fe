"""Entry of rag-worker."""

import contextlib
import signal
import sys
import threading

from prometheus_client import start_http_server
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import log, metrics
from app.inference import worker_client
from app.ingest.embed import Worker
from app.ingest.housekeeping import keep_house
from app.ingest.reembed import reembed
from app.ingest.worker import CONNECTIONS_PER_THREAD, threads, work
from app.settings import ConfigurationError, load_or_refuse, refuse
from app.store import jobs, positions
from app.store.database import engine, reading

COUNT_SECONDS = 5.0


def main() -> int:
    """Work until SIGTERM; a document in hand goes back to the queue then."""
    log.configure()
    settings = load_or_refuse()
    try:
        at_least = CONNECTIONS_PER_THREAD * threads(settings) + 2
        primary = engine(settings.database, "read-write", at_least=at_least)
    except ConfigurationError as error:
        refuse(error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    start_http_server(settings.listen.worker_metrics, settings.listen.address, metrics.WORKER)
    worker = Worker(settings, primary, worker_client(settings.inference), stopping)
    running = [threading.Thread(target=work, args=(worker,)) for _ in range(threads(settings))]
    running.append(threading.Thread(target=_count, args=(primary, stopping)))
    running.append(threading.Thread(target=reembed, args=(worker,)))
    running.append(threading.Thread(target=keep_house, args=(primary, settings.retention, stopping)))
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return 0


def _count(primary: Engine, stopping: threading.Event) -> None:
    """Keep the site's figures; while no primary answers they stay as they were."""
    told: set[str] = set()
    while not stopping.wait(COUNT_SECONDS):
        with contextlib.suppress(SQLAlchemyError):
            queue = reading(primary, jobs.queue, 0)
            for state in ("due", "paused", "held", "lapsed"):
                metrics.JOBS.labels(state).set(getattr(queue, state))
            metrics.OLDEST_JOB_SECONDS.set(queue.oldest_seconds)
            silence = reading(primary, positions.silence, 0)
            for host, seconds in silence.items():
                metrics.APP_HOST_SILENT_SECONDS.labels(host).set(seconds)
            for host in told - set(silence):
                metrics.APP_HOST_SILENT_SECONDS.remove(host)
            told = set(silence)


if __name__ == "__main__":
    sys.exit(main())
