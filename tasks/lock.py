"""One action on the cluster at a time: a lock on the database machines, held while signs of life come."""

import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from socket import gethostname
from typing import IO

from inventories.settings import Machine, Site
from tasks.members import RefusedError
from tasks.ssh import command

BEAT = 15
"""Seconds between two signs of life to who holds the lock; after four without one it is free."""


class Holder:
    """A connection that holds one machine's lock as long as it stands and is beaten."""

    def __init__(self, site: Site, machine: Machine, who: str) -> None:
        # 9 is the lock's; the loop ends with the connection, or when no sign of life comes.
        script = (
            "exec 9>>/run/lock/rag-cluster; flock --nonblock 9 || { cat /run/lock/rag-cluster; exit 0; }; "
            f"echo {shlex.quote(who)} > /run/lock/rag-cluster; echo held; "
            f"while read -r -t {4 * BEAT} _; do :; done"
        )
        self._process = subprocess.Popen(
            command(site.ssh, machine, script, "bash"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def said(self) -> str:
        """``held``, who holds it else, or nothing from a machine that does not answer."""
        out: IO[str] | None = self._process.stdout
        return out.readline().strip() if out else ""

    def beat(self) -> None:
        """A sign of life; a machine that is gone needs none."""
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.write("\n")
                self._process.stdin.flush()

    def let_go(self) -> None:
        """The lock is free."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def alone(site: Site, action: str, machines: tuple[Machine, ...] = ()) -> Iterator[None]:
    """
    Nobody else acts on the cluster meanwhile: a lock on every database machine, or of those given, that answers.

    It ends with this process, or a minute after this computer fell silent.
    """
    who = f"{action} by {getuser()} on {gethostname()} since {time.strftime('%H:%M:%S')}"
    holders = [Holder(site, machine, who) for machine in machines or site.having("database")]
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            for holder in holders:
                holder.beat()

    try:
        said = [holder.said() for holder in holders]
        if busy := next((line for line in said if line not in {"held", ""}), ""):
            raise RefusedError(f"{action} = refused; another action runs: {busy}; wait for its end")
        if not any(said):
            raise RefusedError(f"{action} = refused; no machine of {site.name} answers; make cluster")
        threading.Thread(target=beat, daemon=True).start()
        yield
    finally:
        ended.set()
        for holder in holders:
            holder.let_go()
