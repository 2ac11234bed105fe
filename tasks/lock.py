"""
One action on the cluster at a time, and one recovery: locks on the machines, held while signs of life come.

A recovery has a lock of its own, since a rebuild deploys meanwhile, and a deploy restarts members in turn. Deploys hold
that one together, so that no recovery begins while one of them works.
"""

import os
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from secrets import token_hex
from socket import gethostname
from typing import IO, Literal

from inventories.settings import Machine, Site
from tasks.members import RefusedError, StoppedError
from tasks.ssh import command

BEAT = 15.0
"""Seconds between two signs of life to who holds the lock; after four without one it is free."""
SECONDS = 15.0
"""In which a machine says whether the lock is held."""
FOLDER = "/run/lock"
HELD, SILENT = "held", ""
LET_IN = "RAG_RECOVERY"
"""The environment variable that names to a deploy the recovery which it is a part of."""
Kind = Literal["cluster", "recovery"]


class Holder:
    """A connection that holds one machine's lock as long as it stands and is beaten."""

    def __init__(self, site: Site, machine: Machine, kind: Kind, who: str, *, shared: bool = False) -> None:
        path = f"{FOLDER}/rag-{kind}"
        how = "--shared" if shared else "--exclusive"
        # 9 is the lock's; the loop ends with the connection, or when no sign of life comes.
        script = (
            f"exec 9>>{path}; flock --nonblock {how} 9 || {{ cat {path}; exit 0; }}; "
            f"echo {shlex.quote(who)} > {path}; echo {HELD}; "
            f"while read -r -t {4 * BEAT:g} _; do :; done"
        )
        self._process = subprocess.Popen(
            command(site.ssh, machine, script, "bash"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for us alone: what is to be set right afterwards needs the lock still.
            start_new_session=True,
        )

    def said(self) -> str:
        """``HELD``, who holds it else, or nothing from a machine that does not answer."""
        out: IO[str] | None = self._process.stdout
        # A machine that lets in and then hangs, as on a disk that does, is as good as silent.
        return out.readline().strip() if out and select.select([out], [], [], SECONDS)[0] else SILENT

    def stands(self) -> bool:
        """Whether the connection has not ended."""
        return self._process.poll() is None

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


class Lock:
    """The lock of one kind on several machines: taken again where a connection ended, also on those silent at first."""

    def __init__(
        self, site: Site, kind: Kind, action: str, machines: tuple[Machine, ...], *, shared: bool = False, who: str = ""
    ) -> None:
        self._site, self._kind, self.action, self._shared = site, kind, action, shared
        # One machine may have several of the roles.
        self._machines = tuple({machine.name: machine for machine in machines}.values())
        # The token tells our own, of a connection that broke, from another of the same second.
        since = f"{time.strftime('%H:%M:%S')} ({token_hex(3)})"
        self.who = who or f"{action} by {getuser()} on {gethostname()} since {since}"
        self._holders: dict[str, Holder] = {}
        self._turn = threading.Lock()
        self._lost = ""
        self._over = False

    def renew(self) -> str:
        """Take it where it does not stand; who holds it else, and nothing when nobody does."""
        with self._turn:
            if self._over:
                return ""
            for holder in self._holders.values():
                holder.beat()
            # The connections are made side by side: a dead machine takes its five seconds once.
            missing = [one for one in self._machines if not self._stands(one)]
            made = {one.name: Holder(self._site, one, self._kind, self.who, shared=self._shared) for one in missing}
            others = ""
            for name, holder in made.items():
                said = holder.said()
                if said == HELD:
                    self._holders[name] = holder
                    continue
                holder.let_go()
                # Our own of before, which its machine has not missed yet, lasts a minute.
                if said not in {SILENT, self.who}:
                    others = said
            return others

    def _stands(self, machine: Machine) -> bool:
        holder = self._holders.get(machine.name)
        if holder is None or holder.stands():
            return holder is not None
        self._holders.pop(machine.name).let_go()
        return False

    def on(self, machine: Machine) -> bool:
        """Whether it is held there."""
        return machine.name in self._holders

    def anywhere(self) -> bool:
        """Whether it is held on any of the machines."""
        return bool(self._holders)

    def beat(self) -> None:
        """A sign of life, and a look whether it is still ours."""
        self._lost = self.renew() or self._lost

    def check(self) -> None:
        """Raise StoppedError when somebody else got it meanwhile."""
        if self._lost:
            raise StoppedError(f"{self.action} = no longer alone; another action runs: {self._lost}; wait for its end")

    def let_go(self) -> None:
        """It is free everywhere, and stays so."""
        with self._turn:
            self._over = True
            for holder in self._holders.values():
                holder.let_go()
            self._holders.clear()


def _beating(lock: Lock, ended: threading.Event) -> None:
    def beat() -> None:
        while not ended.wait(BEAT):
            lock.beat()

    threading.Thread(target=beat, daemon=True).start()


@contextmanager
def alone(
    site: Site,
    action: str,
    machines: tuple[Machine, ...] = (),
    kind: Kind = "cluster",
    *,
    bare: bool = False,
) -> Iterator[Lock]:
    """
    Nobody else acts on the cluster meanwhile: a lock on every database machine, or of those given, that answers.

    It ends with this process, or a minute after this computer fell silent. ``bare``: they may let nobody in yet.
    """
    lock = Lock(site, kind, action, machines or site.having("database"))
    ended = threading.Event()
    try:
        if busy := lock.renew():
            raise RefusedError(f"{action} = refused; another action runs: {busy}; wait for its end")
        if not lock.anywhere() and not bare:
            raise RefusedError(f"{action} = refused; no machine of {site.name} answers; make cluster")
        _beating(lock, ended)
        yield lock
    finally:
        ended.set()
        lock.let_go()


@contextmanager
def recovering(site: Site, action: str, keeper: Machine, *, whole: bool = True, bare: bool = False) -> Iterator[Lock]:
    """One recovery at a time: a lock on the backup host; on the database machines too where the ``whole`` site is."""
    machines = (keeper, *(site.having("database") if whole else ()))
    with alone(site, action, machines, "recovery", bare=bare) as lock:
        if not lock.on(keeper) and not bare:
            raise RefusedError(f"{action} = refused; {keeper.name} does not answer; it has the backups; make deploy")
        yield lock


class Deploy:
    """A run of deploy.py: asked by every machine of it, it takes its locks once, and holds them until it ends."""

    def __init__(self) -> None:
        self.held: list[Lock] = []
        self._turn = threading.Lock()
        self._said: str | None = None

    def refused_by(self, site: Site) -> str:
        """Who recovers the whole site; nothing when nobody does, and then no recovery of it begins meanwhile."""
        with self._turn:
            if self._said is None:
                self._said = self._begin(site)
            elif not self._said and self.held:
                # Whoever waited at a question for long gave no sign of life: somebody may recover by now.
                self._said = self.held[0].renew()
            return self._said

    def _begin(self, site: Site) -> str:
        # The deploy of a rebuild goes under the rebuild's name, and its lock.
        let_in = os.environ.get(LET_IN, "")

        def lock(role: str) -> Lock:
            return Lock(site, "recovery", "deploy", site.having(role), shared=True, who=let_in)

        whole = lock("database")
        said = whole.renew()
        if said or let_in:
            whole.let_go()
            return said
        # A copy that is made beside production there holds up no deploy; none begins beside one.
        keepers = lock("backup")
        keepers.renew()
        self.held = [whole, keepers]
        for each in self.held:
            _beating(each, threading.Event())
        return ""


deploying = Deploy()
