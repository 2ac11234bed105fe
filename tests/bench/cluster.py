"""The database cluster of the lab, asked and steered past its network: what a fault cut off is reached too."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inventories.certificates import AUTHORITY, ETCD_AUTHORITY, certificate_of
from inventories.network import ETCD, PATRONI
from inventories.settings import Site
from tasks import patroni
from tests.lab import fleet
from tests.lab.fleet import Lab
from tests.lab.host import LabError, say

CONFIG = "/etc/patroni/config.yml"
PSQL = ("runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet")


class MissedError(LabError):
    """Something did not come true before its deadline."""


@dataclass(frozen=True)
class Cluster:
    """The machines with PostgreSQL and etcd."""

    lab: Lab
    site: Site

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(machine.name for machine in self.site.having("database"))

    @property
    def data(self) -> str:
        return f"/var/lib/postgresql/{self.site.database.version}/rag"

    def shell(self, name: str, script: str, seconds: float = 60) -> str:
        """What a script prints as root on a machine; it must succeed."""
        try:
            done = fleet.shell(self.lab, name, "/bin/sh", "-c", script, seconds=seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{name}: {script.strip()[:160]} = no end after {seconds:.0f} s") from None
        if done.returncode:
            raise LabError(f"{name}: {script.strip()[:160]} = exit {done.returncode}; {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def says(self, name: str, script: str, seconds: float = 10) -> str:
        """What a script prints, or nothing when it fails or the machine is off."""
        try:
            return self.shell(name, script, seconds)
        except LabError:
            return ""

    def curl(self, name: str, path: str, *options: str) -> str:
        """The command that asks a machine's own Patroni."""
        machine = next(machine for machine in self.site.machines if machine.name == name)
        shown = certificate_of(self.site, machine, "patroni")
        words = f"curl --silent --show-error --max-time 5 --cacert {AUTHORITY} --cert {shown.certificate}"
        # The status code lies for a member that is no leader; the body tells.
        return f"{words} --key {shown.key} {' '.join(options)} https://{name}:{PATRONI}{path}"

    def view(self) -> list[dict[str, Any]]:
        """The cluster as the first member that answers sees it."""
        for name in self.members:
            try:
                found = json.loads(self.says(name, self.curl(name, "/cluster")))["members"]
            except (ValueError, KeyError, TypeError):
                continue
            return list(found)
        return []

    def leader(self) -> str:
        """The running leader that Patroni lists; empty when there is none."""
        leading = (one["name"] for one in self.view() if one["role"] == "leader" and one["state"] == "running")
        return str(next(leading, ""))

    def leader_besides(self, name: str) -> str:
        """Whom the others take for the leader, asked without that machine."""
        for other in self.others(name):
            said = self.says(other, self.curl(other, "/patroni"))
            try:
                found = json.loads(said)
            except ValueError:
                continue
            if found.get("role") in {"primary", "master"} and found.get("state") == "running":
                return other
        return ""

    def others(self, name: str) -> tuple[str, ...]:
        return tuple(member for member in self.members if member != name)

    def unwell(self) -> str:
        """What keeps the cluster from being whole, in words; empty when nothing does."""
        view = {one["name"]: one for one in self.view()}
        absent = [name for name in self.members if name not in view]
        if absent:
            return f"Patroni lists no {', '.join(absent)}"
        roles = sorted(f"{one['role']}, {one['state']}" for one in view.values())
        wanted = ["leader, running", *["quorum_standby, streaming"] * (len(self.members) - 1)]
        if roles != wanted:
            return "; ".join(f"{name} {one['role']}, {one['state']}" for name, one in view.items())
        behind = [name for name, one in view.items() if one["role"] != "leader" and one.get("lag") != 0]
        # Under load a replica is some bytes behind at any moment: Patroni rounds what a segment holds anyway.
        behind = [name for name in behind if not isinstance(view[name].get("lag"), int) or view[name]["lag"] > 1 << 20]
        if behind:
            return f"{', '.join(behind)} behind"
        if len({one.get("timeline") for one in view.values()}) > 1:
            return "more than one timeline"
        for machine in self.site.having("etcd"):
            shown = certificate_of(self.site, machine, "etcd")
            asked = (
                f"ETCDCTL_API=3 etcdctl --endpoints https://{machine.name}:{ETCD} --cacert {ETCD_AUTHORITY} "
                f"--cert {shown.certificate} --key {shown.key} --command-timeout 3s endpoint health 2>&1"
            )
            if "is healthy" not in self.says(machine.name, asked):
                return f"etcd of {machine.name} not healthy"
        return ""

    def wait_until_whole(self, seconds: float) -> None:
        """Return when one leads, the others hold every write and etcd is complete."""
        end = time.monotonic() + seconds
        while problem := self.unwell():
            if time.monotonic() > end:
                raise MissedError(f"the whole cluster = not after {seconds:.0f} s: {problem}")
            time.sleep(0.5)

    def make_whole(self) -> None:
        """Return with a whole cluster: it gets the time to mend itself, then what is still broken is copied anew."""
        try:
            self.wait_until_whole(180)
            return
        except MissedError as problem:
            say(f"bench: {problem}; what does not stream is made anew from the leader")
        first = self.leader()
        if not first:
            raise LabError("the cluster = without a leader; the bench cannot go on; make lab-down lab")
        well = {one["name"] for one in self.view() if one["state"] in {"running", "streaming"} and one.get("lag") == 0}
        for name in self.others(first):
            if name not in well:
                self.shell(first, f"patronictl -c {CONFIG} reinit rag {name} --force", seconds=60)
        self.wait_until_whole(240)

    def sql(self, name: str, statement: str, database: str = "postgres", seconds: float = 60) -> str:
        """As the superuser, through the machine's socket."""
        words = [*PSQL, "--set", "ON_ERROR_STOP=1", "--dbname", database, "--command", statement]
        try:
            done = fleet.shell(self.lab, name, *words, seconds=seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{name}: {statement[:120]} = no answer after {seconds:.0f} s") from None
        if done.returncode:
            raise LabError(f"{name}: {statement[:120]} = {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    def switchover(self, candidate: str = "") -> str:
        """A planned change of the primary; returns the new one."""
        first = self.leader()
        candidate = candidate or self.others(first)[0]
        wanted = json.dumps({"leader": first, "candidate": candidate})
        said = self.shell(first, self.curl(first, "/switchover", "--request POST", f"--data '{wanted}'"))
        if "Successfully switched over" not in said:
            raise LabError(f"switchover from {first} to {candidate} = {said[-200:]}")
        return candidate

    def configure(self, wanted: dict[str, Any]) -> None:
        """Change what all members share."""
        first = self.leader()
        patch = self.curl(
            first, "/config", "--fail --request PATCH --output /dev/null", f"--data '{json.dumps(wanted)}'"
        )
        self.shell(first, patch)

    def restart(self, name: str) -> None:
        """PostgreSQL of one member anew, by its Patroni."""
        self.shell(name, f"patronictl -c {CONFIG} restart rag {name} --force", seconds=120)

    def pending(self) -> list[str]:
        """Members that wait for a restart to take a parameter in."""
        return [one["name"] for one in self.view() if one.get("pending_restart")]

    def roll(self) -> None:
        """Restart every member that waits for it, as the deploy and `make rolling-restart` do."""
        waiting = {member.name for member in patroni.look(self.site).members if member.pending_restart}
        patroni.roll(self.site, waiting, lambda _: None, patroni.in_place)

    def settings(self) -> dict[str, Any]:
        first = self.leader()
        found: dict[str, Any] = json.loads(self.shell(first, self.curl(first, "/config")))
        return found


def until(true: Callable[[], object], seconds: float, what: str, every: float = 0.3) -> None:
    """Return when it is so; the wait is bounded and its error says what was awaited."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise MissedError(f"{what} = not after {seconds:.0f} s")
        time.sleep(every)


def names_of(cluster: Cluster) -> dict[str, str]:
    """Address to member."""
    return {str(machine.address): machine.name for machine in cluster.site.having("database")}


def last_words(cluster: Cluster, names: Sequence[str]) -> str:
    """What Patroni and PostgreSQL said last on each member, for the log of a fault that went wrong."""
    parts = []
    for name in names:
        listing = cluster.says(name, f"patronictl -c {CONFIG} list 2>&1", 20)
        journal = cluster.says(name, "journalctl --unit patroni --lines 150 --output short-precise --no-pager", 20)
        parts.append(f"== {name}\n{listing}\n{journal}\n")
    return "\n".join(parts)
