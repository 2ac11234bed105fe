"""Waiting for a server no longer than that."""

import os
import socket
import threading

import pytest

from app.store import patience
from app.store.patience import no_longer_than

SECONDS = 10.0


def _ends(line: socket.socket) -> bool:
    line.settimeout(SECONDS)
    return line.recv(1) == b""


def test_a_silent_line_is_hung_up_on_and_one_that_was_done_in_time_is_not() -> None:
    silent, its_server = socket.socketpair()
    quick, other_server = socket.socketpair()
    with silent, its_server, quick, other_server:
        with no_longer_than(0.05, quick):
            pass
        with no_longer_than(SECONDS * 6, quick), no_longer_than(0.05, silent):
            assert _ends(its_server)
        quick.sendall(b"x")
        assert other_server.recv(1) == b"x"


def test_many_waits_need_one_thread() -> None:
    left, right = socket.socketpair()
    with left, right:
        before = threading.active_count()
        for _ in range(50):
            with no_longer_than(SECONDS * 6, left), no_longer_than(SECONDS * 6, left):
                assert threading.active_count() <= before + 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_watches_its_own_waits() -> None:
    left, right = socket.socketpair()
    with left, right:
        with no_longer_than(SECONDS * 6, left):
            pass
        child = os.fork()
        if not child:
            with no_longer_than(0.05, left):
                os._exit(0 if _ends(right) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_thread_that_could_not_begin_is_begun_by_the_next_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_watch", patience._Watch())
    left, right = socket.socketpair()
    with left, right:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError), no_longer_than(0.05, left):
                pass
        with no_longer_than(0.05, left):
            assert _ends(right)


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
