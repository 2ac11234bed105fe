"""Machines that are only written down: what a recovery asks of them is noted, and answered as the test says."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from inventories.settings import Machine, Site
from tasks import in_place, last_backup, losses, outage, patroni, restored, swap
from tasks.in_place import Order, Phases
from tasks.members import Cluster, Member
from tasks.restored import Copy
from tasks.ssh import SilentError

BASE, LOG = {"id": "b1", "at": "2026-11-27T01:00:00+00:00", "bytes": 100 << 20}, {"id": "l1", "bytes": 50 << 20}
WINDOW = {"first": BASE["at"], "last": "2026-11-27T11:59:40+00:00", "bases": [BASE], "log": LOG}
COPY = Copy("latest", "2026-11-27 11:59:30", {"documents": 3}, 7, "0010", 1, 1, 1, "b1", ("l1",), {})
NEWER = BASE | {"id": "b2", "at": "2026-11-27T12:30:00+00:00"}
RECORD = {"at": "2026-11-27T11:00:00+00:00", "base": "b0", "log": "l0", "began": "2026-11-27T12:00:00+00:00",
          "done": False, "breaks": []}  # fmt: skip
STOP = r"systemctl stop rag-api"
MOVE = r"mv -T /var/lib/postgresql/17/rag "
BEGUN = r"mv -T /var/lib/rag-backup/recovery.json.new"


class Still:
    """A lock that nobody else wants."""

    def check(self) -> None:
        """Nobody else has it."""


class Machines:
    """Every machine of a site; ``asked`` is what they were asked, as ``name: script``."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.asked = site, list[str]()
        self.silent: set[str] = set()
        self.answers: dict[str, str | Callable[[], str]] = {
            "recovery.json 2>": "{}",
            r"df --block-size=1M": "100000",
            r"echo here": "here",
            r"'newest'": '{"actions": {}, "documents": []}',
            r"clock_timestamp|date --utc": "2026-11-27T12:00:00+00:00",
            r"select json_build_object\(\'documents": '{"documents": 3}',
            r"dev/tcp": "",
            r"is-active rag-api": "",
            r"flush_lsn >=": "t",
        }
        self.leader, self.window = "db1", WINDOW

        def ask(_: Site, machine: Machine, script: str, stdin: str = "", **__: Any) -> str:
            if machine.name in self.silent:
                raise SilentError(f"{machine.name}: silent")
            # psql gets its statement on standard input.
            self.asked.append(f"{machine.name}: {script} {stdin}".strip())
            for pattern, answer in self.answers.items():
                if re.search(pattern, self.asked[-1]):
                    return answer() if callable(answer) else answer
            return ""

        def on_member(_: Site, machine: Machine, verb: str, *__: Any, **values: Any) -> Any:
            self.asked.append(f"{machine.name}: {verb} {json.dumps(values)}")
            return {"kvs": []} if verb == "etcd" else {"ttl": 20}

        @contextmanager
        def alone(*_: Any, **__: Any) -> Any:
            yield Still()

        for module in (in_place, last_backup, losses, outage, patroni, restored, swap):
            if hasattr(module, "ask"):
                monkeypatch.setattr(module, "ask", ask)
        monkeypatch.setattr(in_place, "alone", alone)
        monkeypatch.setattr(swap, "on_member", on_member)
        monkeypatch.setattr(swap, "_wait_for_leader", lambda *_: None)
        monkeypatch.setattr(swap, "wait_for", lambda *_: None)
        monkeypatch.setattr(restored, "window", lambda *_: self.window)
        monkeypatch.setattr(restored, "make", self.make)
        for module in (last_backup, losses, outage):
            monkeypatch.setattr(module, "look", lambda *_: self.cluster())

    def cluster(self) -> Cluster:
        """With its leader alone."""
        leader = Member(self.leader, role="leader", state="running", sync="leader")
        return Cluster((leader,) if self.leader else ())

    def make(self, _: Site, machine: Machine, request: Mapping[str, Any], *__: Any) -> Copy:
        """The restored copy."""
        self.asked.append(f"{machine.name}: restore {json.dumps(request)}")
        return COPY

    def recover(self, order: Order | None = None) -> list[str]:
        """Recover, agreed to; what was said."""
        said: list[str] = []
        in_place.recover(self.site, order or Order(None), said.extend, Phases(said.append, lambda: 0.0))
        return said

    def answer(self, answers: Mapping[str, str | Callable[[], str]]) -> None:
        """From now on these before all others."""
        self.answers = {**answers, **{name: value for name, value in self.answers.items() if name not in answers}}

    def first(self, pattern: str) -> int:
        """Where that was asked first; it must have been."""
        return next(place for place, asked in enumerate(self.asked) if re.search(pattern, asked, re.DOTALL))

    def was(self, pattern: str) -> bool:
        """Whether that was asked of anybody."""
        return any(re.search(pattern, asked, re.DOTALL) for asked in self.asked)
