"""
The database servers, each tried by itself: one that fell silent holds nobody up until it speaks again.

libpq can go through a list of hosts too, but it forgets between two connections which of them lost power, and waits
for it each time; while nobody leads, most of the time passes in such a wait, and a new primary is found late.
"""

import random
import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg2

# Who refuses does it at once; what takes longer to fail is a machine without power or a server that hangs.
SLOW_SECONDS = 1.0
# Between two tries at a silent server: nothing tells when a machine has power again, so somebody has to ask.
PAUSE_SECONDS = 0.5


class Servers:
    """Hosts of one cluster, and which of them are silent."""

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self._hosts, self._port = tuple(hosts), port
        self._silent_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def connect(self, kinds: Sequence[str], login: dict[str, Any]) -> Any:
        """A connection to a server of the first kind that there is; who is silent is not waited for.

        ``kinds`` are libpq's target_session_attrs. OperationalError: no server fits at this moment.
        """
        problems: dict[str, str] = {}
        for kind in kinds:
            for host in self._speaking():
                began = time.monotonic()
                try:
                    return psycopg2.connect(**login, host=host, port=self._port, target_session_attrs=kind)
                except psycopg2.OperationalError as problem:
                    problems[host] = " ".join(str(problem).split())
                    if time.monotonic() - began > SLOW_SECONDS:
                        self._fell_silent(host, login)
        silent = [f"{host} is silent" for host in self._hosts if host not in problems]
        raise psycopg2.OperationalError("; ".join([*problems.values(), *silent]))

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
        if not watched:
            threading.Thread(target=self._watch, args=(host, login), daemon=True).start()

    def _watch(self, host: str, login: dict[str, Any]) -> None:
        while self._is_silent(host, login):
            with self._lock:
                self._keep_silent(host, login)
            time.sleep(PAUSE_SECONDS)
        with self._lock:
            self._silent_until.pop(host, None)

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


@cache
def servers_of(hosts: tuple[str, ...], port: int) -> Servers:
    """One for the whole process, so that what one pool has found out the others need not."""
    return Servers(hosts, port)
