"""What rag-worker does once a day beside its documents: it throws away what the site keeps no longer."""

import logging
import threading

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import metrics
from app.settings import Retention
from app.store import retention
from app.store.database import writing

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
# Without a primary it is tried again after that long.
RETRY_SECONDS = 600.0


def keep_house(primary: Engine, settings: Retention, stopping: threading.Event) -> None:
    """Purge when the process starts and every day, until it stops."""
    pause = 0.0
    while not stopping.wait(pause):
        pause = DAY_SECONDS
        try:
            purge(primary, settings, stopping)
        except SQLAlchemyError as error:
            log.warning("nothing purged yet: %s", str(error).splitlines()[0])
            pause = RETRY_SECONDS


def purge(primary: Engine, settings: Retention, stopping: threading.Event) -> None:
    """Throw all away that is too old, a batch at a time."""
    days = settings.conversation_days
    more = True
    while more and not stopping.is_set():
        gone = writing(primary, lambda connection: retention.purge(connection, days))
        metrics.PURGED.inc(gone.questions)
        if gone.questions or gone.conversations:
            log.info(
                "purged questions=%d conversations=%d older than %d days", gone.questions, gone.conversations, days
            )
        more = retention.BATCH in {gone.questions, gone.conversations}
