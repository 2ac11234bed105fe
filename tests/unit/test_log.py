"""What a line of the log says, and what it keeps to itself."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app import log

# Not written out below: a traceback shows the lines of the code.
SECRET = "zebra"


@pytest.fixture
def said() -> Iterator[Any]:
    """What was written since."""
    root, ours = logging.getLogger(), logging.getLogger("app")
    before = root.handlers[:], root.level, ours.level, sys.excepthook, threading.excepthook
    log.configure()
    (handler,) = root.handlers
    written = io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:], root.level, ours.level, sys.excepthook, threading.excepthook = before


def fail(*reasons: str) -> None:
    """An error for each reason, the first one the cause of all."""
    try:
        if len(reasons) > 1:
            fail(*reasons[:-1])
    except ValueError as cause:
        raise ValueError(reasons[-1]) from cause
    raise ValueError(reasons[-1])


def test_of_an_error_only_the_first_line_of_its_reason_is_told_and_so_of_its_causes(said: Any) -> None:
    try:
        fail(f"row refused\nDETAIL: Failing row contains ({SECRET})", f"statement failed\n[parameters: {SECRET}]")
    except ValueError:
        logging.getLogger("app.x").exception("request")

    (line,) = said()
    assert line["exception"].index("ValueError: row refused") < line["exception"].index("ValueError: statement failed")
    assert "in fail" in line["exception"]
    assert SECRET not in json.dumps(line)


def test_a_very_long_reason_is_cut(said: Any) -> None:
    try:
        fail(f"unreadable {'x' * 500} {SECRET}")
    except ValueError:
        logging.getLogger("app.x").exception("request")

    assert SECRET not in json.dumps(said())


def test_a_thread_that_dies_says_so_in_one_line(said: Any) -> None:
    thread = threading.Thread(target=fail, args=("gone",))
    thread.start()
    thread.join()

    (line,) = said()
    assert (line["level"], line["event"]) == ("critical", "ended by an error")
    assert line["exception"].endswith("ValueError: gone")


def test_lines_carry_what_their_request_learned_and_nothing_of_another(said: Any) -> None:
    log.begin(request_id="one")
    log.add(user="ada")
    logging.getLogger("app.x").info("first", extra={"route": "/x"})
    log.begin(request_id="two")
    logging.getLogger("app.x").info("second\nline")
    logging.getLogger("somebody.else").info("not ours")

    first, second = said()
    assert first == {
        "event": "first",
        "level": "info",
        "logger": "app.x",
        "route": "/x",
        "request_id": "one",
        "user": "ada",
    }
    assert (second["event"], second["request_id"], second.get("user")) == ("second\nline", "two", None)
