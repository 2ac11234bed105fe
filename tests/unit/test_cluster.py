"""The verbs of day 2: what they print and refuse, and that a rolling restart stops where the cluster is not well."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from inventories.settings import Machine, SettingsError, Site
from tasks import cluster, patroni
from tasks.members import Cluster, RefusedError, Slot, StoppedError
from tasks.ssh import AskError, command
from tests.unit.test_patroni import ONE, THREE, TWO, hurt


def test_the_table_tells_everything_in_one_screen(prod: Site) -> None:
    slots = (Slot("db2", "physical", True, "reserved", 0), Slot("backup", "physical", False, "extended", 99))
    shown = cluster.as_table(
        hurt(replace(THREE, slots=slots, version="17.12"), "db3", lag=None, sync="", pending_restart=True), prod
    )

    lines = shown.splitlines()
    assert lines[0].split() == ["member", "address", "role", "state", "timeline", "lag", "sync", "restart"]
    assert lines[1].split() == ["db1", str(prod.machine("db1").address), "leader", "running", "1", "0", "leader", "-"]
    assert lines[3].split()[2:] == ["replica", "streaming", "1", "?", "-", "pending"]
    assert "backup idle, extended, keeps 99 B" in shown
    assert "etcd        db1 ok, db2 ok, db3 ok" in shown
    assert "size        3 database machines, 3 of etcd: any one may be lost, which costs no acknowledged write" in shown
    assert lines[-1] == "well        no: db3 is an unknown number of bytes behind"
    assert len(lines) < 12


def test_the_json_holds_what_the_table_does(prod: Site) -> None:
    told = json.loads(cluster.as_json(replace(THREE, paused=True), prod))

    assert (told["site"], told["healthy"], told["why"], told["paused"]) == ("prod", True, "", True)
    assert told["members"][0] == {
        "name": "db1",
        "role": "leader",
        "state": "running",
        "timeline": 1,
        "lag": 0,
        "sync": "leader",
        "pending_restart": False,
        "tags": {},
        "address": str(prod.machine("db1").address),
    }
    assert told["etcd"] == {"db1": True, "db2": True, "db3": True}
    assert told["survives"].startswith("3 database machines, 3 of etcd: any one may be lost")


@pytest.mark.parametrize("arguments", [[], ["lab"], ["lab", "destroy"], ["lab", "reinit", "db1", "db2"]])
def test_an_unknown_verb_is_refused_with_those_that_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster.main(arguments) == 2

    said = capsys.readouterr().err
    assert said.startswith("verb = ")
    assert "switchover, rolling-restart" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["nosuch", "../lab", "settings.py", "secrets"])
def test_a_site_without_a_file_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.main([name, "show"]) == 2

    said = capsys.readouterr().err
    assert said == f"SITE = {name}; a file inventories/{name} is needed; ls inventories\n"


def test_how_it_ended_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, prod: Site) -> None:
    monkeypatch.setattr(cluster, "site_of", lambda _: prod)
    ends: list[tuple[type[Exception], int]] = [
        (RefusedError, 2),
        (SettingsError, 2),
        (StoppedError, 1),
        (AskError, 1),
    ]

    for error, code in ends:

        def fails(*_: object, error: type[Exception] = error) -> None:
            raise error("why")

        monkeypatch.setattr(cluster, "act", fails)
        assert cluster.main(["prod", "show"]) == code


def test_a_machine_is_asked_by_its_known_key_alone_and_never_by_password(prod: Site) -> None:
    words = command(prod.ssh, prod.machine("db1"), "echo 'a b'")

    assert "StrictHostKeyChecking=yes" in words
    assert "BatchMode=yes" in words
    assert words[-1] == "sudo sh -c 'echo '\"'\"'a b'\"'\"''"


class Standing:
    """A cluster that is only written down: a restart of a member does to it what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
        self.now, self.log = cluster, list[str]()
        self.breaks = ""

        @contextmanager
        def alone(*_: object) -> Iterator[None]:
            yield

        def switch(_: Site, before: Cluster, to: str, __: object) -> float:
            assert before.leader
            self.log.append(f"{before.leader.name} → {to}")
            old = hurt(self.now, before.leader.name, role="replica", state="streaming", sync="quorum")
            self.now = hurt(old, to, role="leader", state="running", sync="leader")
            return 1.0

        monkeypatch.setattr(patroni, "alone", alone)
        monkeypatch.setattr(patroni, "look", lambda *_: self.now)
        monkeypatch.setattr(patroni, "two_rounds", lambda *_: None)
        monkeypatch.setattr(patroni, "_switch", switch)
        monkeypatch.setattr(patroni, "in_place", lambda _, machine: self.ended(machine.name))
        monkeypatch.setattr(patroni, "PATIENCE", 0.0)
        monkeypatch.setattr(patroni, "RETURN", 0.0)

    def restart(self, _: Site, machine: Machine) -> None:
        self.log.append(machine.name)
        if machine.name == self.breaks:
            self.now = hurt(self.now, machine.name, state="start failed", sync="")

    def ended(self, name: str) -> None:
        self.log.append(f"{name} in place")
        self.now = hurt(self.now, name, pending_restart=False)

    def roll(self, site: Site, *names: str) -> list[str]:
        """Roll and return what was said."""
        said: list[str] = []
        patroni.roll(site, set(names), said.append, self.restart)
        return said


@pytest.fixture
def two(prod: Site) -> Site:
    machines = [machine for machine in prod.machines if machine.name != "db3"]
    first = machines[0].model_copy(update={"roles": frozenset({"database", "etcd"})})
    second = machines[1].model_copy(update={"roles": frozenset({"database"})})
    return prod.model_copy(update={"machines": (first, second, *machines[2:])})


@pytest.fixture
def one(two: Site) -> Site:
    rest = [machine for machine in two.machines if machine.name != "db2"]
    return two.model_copy(update={"machines": tuple(rest)})


def test_three_members_roll_replicas_first_and_the_lead_is_handed_over(
    monkeypatch: pytest.MonkeyPatch, prod: Site
) -> None:
    standing = Standing(monkeypatch, THREE)

    standing.roll(prod, "db1", "db2", "db3")

    assert standing.log == ["db2", "db3", "db1 → db2", "db1"]


def test_two_members_roll_the_same_way(monkeypatch: pytest.MonkeyPatch, two: Site) -> None:
    standing = Standing(monkeypatch, TWO)

    standing.roll(two, "db1", "db2")

    assert standing.log == ["db2", "db1 → db2", "db1"]


def test_the_only_member_restarts_in_its_place_and_says_what_it_costs(
    monkeypatch: pytest.MonkeyPatch, one: Site
) -> None:
    standing = Standing(monkeypatch, ONE)

    said = standing.roll(one, "db1")

    assert standing.log == ["db1"]
    assert said[0] == "db1 is the only member: no writes and no reads until its PostgreSQL runs again"


def test_a_replica_that_does_not_come_back_spares_the_rest(monkeypatch: pytest.MonkeyPatch, prod: Site) -> None:
    standing = Standing(monkeypatch, THREE)
    standing.breaks = "db2"

    with pytest.raises(StoppedError) as stopped:
        standing.roll(prod, "db1", "db2", "db3")

    assert standing.log == ["db2"]
    said = str(stopped.value)
    assert "stopped at db2" in said
    assert "db2 is start failed" in said
    assert "done: nobody; untouched: db1, db3" in said
    assert said.endswith("then make rolling-restart SITE=prod")


def test_an_unhealthy_cluster_is_not_rolled(monkeypatch: pytest.MonkeyPatch, prod: Site) -> None:
    standing = Standing(monkeypatch, hurt(THREE, "db3", state="silent"))

    with pytest.raises(StoppedError, match=r"before db2: db3 is silent; done: nobody; untouched: db1, db2"):
        standing.roll(prod, "db1", "db2")

    assert standing.log == []


def test_a_broken_replica_is_restarted_first_because_that_may_mend_it(
    monkeypatch: pytest.MonkeyPatch, prod: Site
) -> None:
    standing = Standing(monkeypatch, hurt(THREE, "db3", state="start failed"))
    plain = standing.restart

    def mends(site: Site, machine: Machine) -> None:
        plain(site, machine)
        standing.now = hurt(standing.now, machine.name, state="streaming")

    patroni.roll(prod, {"db2", "db3"}, lambda _: None, mends)

    assert standing.log == ["db3", "db2"]


def test_a_paused_cluster_and_a_stranger_are_refused(monkeypatch: pytest.MonkeyPatch, prod: Site) -> None:
    standing = Standing(monkeypatch, replace(THREE, paused=True))

    with pytest.raises(RefusedError, match="the cluster is paused"):
        standing.roll(prod, "db1")
    with pytest.raises(RefusedError, match="db9 is no database machine"):
        standing.roll(prod, "db9")

    assert standing.log == []


def test_a_lowered_setting_reaches_the_primary_before_the_replicas(monkeypatch: pytest.MonkeyPatch, prod: Site) -> None:
    pending = THREE
    for name in ("db1", "db2", "db3"):
        pending = hurt(pending, name, pending_restart=True)
    standing = Standing(monkeypatch, pending)

    standing.roll(prod, "db1", "db2", "db3")

    assert standing.log[-3:] == ["db2 in place", "db1 in place", "db3 in place"]
    assert not [member for member in standing.now.members if member.pending_restart]
