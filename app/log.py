"""One JSON object a line on stderr, where journald adds time and unit; what people ask and upload is in none."""

import logging
import sys
import threading
import traceback
from contextvars import ContextVar
from logging.config import dictConfig
from typing import Any

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.types import EventDict, Processor

# Of a message that a library wrote; beyond its first line PostgreSQL shows the row, and pydantic the input.
LONGEST_REASON = 300

# A dictionary and no variable for each: what a thread of the request learns, the request's own task shall know.
_request: ContextVar[dict[str, object] | None] = ContextVar("request", default=None)


def configure() -> None:
    """Send our own events from INFO on; libraries speak from WARNING on."""
    dictConfig(configuration())
    sys.excepthook = lambda kind, error, trace: _uncaught(error)
    threading.excepthook = lambda ended: _uncaught(ended.exc_value)


def configuration() -> dict[str, Any]:
    """The same for whoever configures logging itself, as gunicorn does before it loads the application."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": _formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"app": {"level": "INFO"}, "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
    }


def begin(**about: object) -> None:
    """From here on this task's lines carry these keys, and those of no earlier request."""
    _request.set(dict(about))


def add(**about: object) -> None:
    """The request's further lines carry these keys too."""
    known = _request.get()
    if known is not None:
        known.update(about)


def _formatter() -> logging.Formatter:
    ours: list[Processor] = [add_log_level, add_logger_name, ExtraAdder(), _with_request]
    return ProcessorFormatter(
        foreign_pre_chain=ours,
        processors=[ProcessorFormatter.remove_processors_meta, _with_traceback, structlog.processors.JSONRenderer()],
    )


def _with_request(_: Any, __: str, event: EventDict) -> EventDict:
    return {**event, **(_request.get() or {})}


def _with_traceback(_: Any, __: str, event: EventDict) -> EventDict:
    failure = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if failure is True:
        failure = sys.exc_info()
    error = failure[1] if isinstance(failure, tuple) else failure
    return {**event, "exception": _told(error)} if isinstance(error, BaseException) else event


def _told(error: BaseException) -> str:
    """The traceback, causes first, each with the first line of its reason only."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    earlier = f"{_told(before)}\n" if before else ""
    reason = next(iter(str(error).splitlines()), "")[:LONGEST_REASON]
    return f"{earlier}{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}: {reason}"


def _uncaught(error: BaseException | None) -> None:
    logging.getLogger("app").critical("ended by an error", exc_info=error)
