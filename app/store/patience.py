"""Waiting for a server no longer than that, whatever its machine's network still says in its name."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def no_longer_than(seconds: float, connection: Any) -> Iterator[None]:
    """Hang up when the time is over. TCP never would: the machine of a frozen server still answers in its name."""
    # A descriptor of its own: by then the connection's number may belong to another.
    line = socket.socket(fileno=os.dup(connection.fileno()))

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        line.close()
