"""Entry of rag-worker."""

import signal
import sys
import threading

from prometheus_client import start_http_server

from app import log
from app.inference import worker_client
from app.ingest.worker import CONNECTIONS_PER_THREAD, Worker, work
from app.settings import ConfigurationError, load_or_refuse, refuse
from app.store.database import engine


def main() -> int:
    """Work until SIGTERM; a document in hand goes back to the queue then."""
    log.configure()
    settings = load_or_refuse()
    try:
        at_least = CONNECTIONS_PER_THREAD * settings.ingest.threads
        primary = engine(settings.database, "read-write", at_least=at_least)
    except ConfigurationError as error:
        refuse(error)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    start_http_server(settings.listen.worker_metrics, settings.listen.address)
    worker = Worker(settings, primary, worker_client(settings.inference), stopping)
    threads = [threading.Thread(target=work, args=(worker,)) for _ in range(settings.ingest.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
