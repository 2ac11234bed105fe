"""
The database servers, each tried by itself: one that fell silent holds nobody up until it speaks again.

libpq can go through a list of hosts too, but it forgets between two connections which of them lost power, and waits
for it each time; while nobody leads, most of the time passes in such a wait, and a new primary is found late.
"""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg2

from app import metrics
from app.store import freshness
from app.store.freshness import Freshness
from app.store.patience import no_longer_than

log = logging.getLogger(__name__)

# Who refuses does it at once; what takes longer to fail is a machine without power or a server that hangs.
SLOW_SECONDS = 1.0
# Between two tries at a silent server: nothing tells when a machine has power again, so somebody has to ask.
PAUSE_SECONDS = 0.5
# While nobody shows more, who is behind is taken, and only then looked at again.
RESORT_SECONDS = 5.0
# For a word with a server that has just let us in.
WORD_SECONDS = 2.0


class Servers:
    """Hosts of one cluster, which of them are silent, and how far the others must be."""

    def __init__(self, hosts: Sequence[str], port: int, stale_seconds: float) -> None:
        self._hosts, self._port = tuple(hosts), port
        self._freshness = Freshness(stale_seconds)
        self._pause = stale_seconds / 6
        self._stale: set[str] = set()
        self._resort_until = 0.0
        self._watched_by = 0
        self._silent_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def connect(self, kinds: Sequence[str], login: dict[str, Any]) -> Any:
        """A connection to a server of the first kind that there is; who is silent is not waited for.

        ``kinds`` are libpq's target_session_attrs. OperationalError: no server fits at this moment. A replica that has
        not replayed what is older than the bound is taken only while there is nobody else.
        """
        problems: dict[str, str] = {}
        behind: dict[str, tuple[int, Any]] = {}
        for kind in kinds:
            for host in [host for host in self._speaking() if host not in behind]:
                began = time.monotonic()
                try:
                    connection = psycopg2.connect(**login, host=host, port=self._port, target_session_attrs=kind)
                    shown = _asked(connection, freshness.SHOWN) if len(self._hosts) > 1 else None
                    if not self.is_left_out(host, shown):
                        return connection
                    behind[host] = (shown or 0, connection)
                except (psycopg2.OperationalError, psycopg2.InterfaceError) as problem:
                    problems[host] = " ".join(str(problem).split())
                    if time.monotonic() - began > SLOW_SECONDS:
                        self._fell_silent(host, login)
        if behind:
            self._resort_until = time.monotonic() + RESORT_SECONDS
            return max(behind.values(), key=lambda found: found[0])[1]
        silent = [f"{host} is silent" for host in self._hosts if host not in problems]
        raise psycopg2.OperationalError("; ".join([*problems.values(), *silent]))

    def should_be_left(self, host: str, shown: int | None) -> bool:
        """Whether who shows no more than this should be left for another server."""
        return time.monotonic() > self._resort_until and self.is_left_out(host, shown)

    def is_left_out(self, host: str, shown: int | None) -> bool:
        """Whether the server lacks something of longer ago than the bound; told by the journal and a figure."""
        stale = self._freshness.is_stale(shown)
        if stale and host not in self._stale:
            log.warning("database = %s, left out; a replica that replays; make cluster on the controller", host)
        (self._stale.add if stale else self._stale.discard)(host)
        self._show(host)
        return stale

    def watch(self, login: dict[str, Any]) -> None:
        """Follow the primary's position from now on, once for each process."""
        with self._lock:
            watched, self._watched_by = self._watched_by == os.getpid(), os.getpid()
        if not watched and len(self._hosts) > 1:
            threading.Thread(target=self._follow, args=(login,), daemon=True).start()

    def _follow(self, login: dict[str, Any]) -> None:
        connection: Any = None
        while True:
            try:
                connection = connection or self.connect(("read-write",), login)
                self._freshness.note(_asked(connection, freshness.WRITTEN) or 0)
                self._look_at_the_stale(login)
            except psycopg2.Error:
                # Without a primary nothing is written; what was written before must be shown all the same.
                connection = None
            except Exception as problem:
                # A thread that ended would let every replica pass for fresh from then on.
                connection = None
                log.warning("database = position of the primary not seen; %s: %s", type(problem).__name__, problem)
            time.sleep(self._pause)

    def _look_at_the_stale(self, login: dict[str, Any]) -> None:
        """Nobody who asks needs them while others are there, so that they are well again would be seen late."""
        for host in self._stale.copy():
            with contextlib.suppress(psycopg2.Error):
                connection = psycopg2.connect(**login, host=host, port=self._port)
                try:
                    self.is_left_out(host, _asked(connection, freshness.SHOWN))
                finally:
                    connection.close()

    def _show(self, host: str) -> None:
        metrics.DATABASE_LEFT_OUT.labels(host).set(host in self._stale or host in self._silent_until)

    def _speaking(self) -> list[str]:
        with self._lock:
            now = time.monotonic()
            hosts = [host for host in self._hosts if self._silent_until.get(host, now) <= now]
        random.shuffle(hosts)
        return hosts

    def _fell_silent(self, host: str, login: dict[str, Any]) -> None:
        with self._lock:
            watched = self._silent_until.get(host, 0) > time.monotonic()
            self._keep_silent(host, login)
        self._show(host)
        if not watched:
            threading.Thread(target=self._watch, args=(host, login), daemon=True).start()

    def _watch(self, host: str, login: dict[str, Any]) -> None:
        while self._is_silent(host, login):
            with self._lock:
                self._keep_silent(host, login)
            time.sleep(PAUSE_SECONDS)
        with self._lock:
            self._silent_until.pop(host, None)
        self._show(host)

    def _is_silent(self, host: str, login: dict[str, Any]) -> bool:
        began = time.monotonic()
        try:
            psycopg2.connect(**login, host=host, port=self._port).close()
        except psycopg2.OperationalError:
            return time.monotonic() - began > SLOW_SECONDS
        return False

    def _keep_silent(self, host: str, login: dict[str, Any]) -> None:
        # Until the watcher has looked again; a process that was forked meanwhile has no watcher, and tries itself.
        self._silent_until[host] = time.monotonic() + 2 * (login["connect_timeout"] + PAUSE_SECONDS)


def _asked(connection: Any, question: str) -> int | None:
    """A position of the log."""
    with no_longer_than(WORD_SECONDS, connection), connection.cursor() as cursor:
        cursor.execute(question)
        answer = cursor.fetchone()[0]
        connection.rollback()
    return None if answer is None else int(answer)


@cache
def servers_of(hosts: tuple[str, ...], port: int, stale_seconds: float) -> Servers:
    """One for the whole process, so that what one pool has found out the others need not."""
    return Servers(hosts, port, stale_seconds)
