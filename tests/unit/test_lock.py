"""One action at a time: a lock that is held by a connection, lost with it, and taken again."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from inventories.settings import Machine, Site
from tasks import lock
from tasks.lock import Lock, alone, recovering
from tasks.members import RefusedError, StoppedError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This computer is every machine: each has a folder of its own for its locks; one without it is silent."""

    def command(_: object, machine: Machine, script: str, shell: str = "sh") -> list[str]:
        if not (tmp_path / machine.name).is_dir():
            return ["false"]
        return [shell, "-c", script.replace(lock.FOLDER, str(tmp_path / machine.name))]

    for name in ("db1", "db2", "db3", "ops1"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(lock, "command", command)
    return tmp_path


def test_no_two_recoveries_go_together(prod: Site, folder: Path) -> None:
    keeper = prod.machine("ops1")
    verbs = [("restore", False), ("restore in place", True), ("rebuild", True), ("fetch-repositories", False)]

    for first, whole in verbs:
        for second, all_of_it in verbs:
            with recovering(prod, first, keeper, whole=whole):
                refused = pytest.raises(RefusedError, match=f"{second} = refused; another action runs: {first} by")
                with refused, recovering(prod, second, keeper, whole=all_of_it, bare=second == "rebuild"):
                    raise AssertionError("both ran")
    with recovering(prod, "restore", keeper):
        pass


def test_a_machine_that_has_every_role_is_locked_once(edge: Site, folder: Path) -> None:
    (only,) = edge.machines
    (folder / only.name).mkdir()

    with recovering(edge, "restore in place", only):
        pass
    with recovering(edge, "restore in place", only):
        pass


def test_a_deploy_of_a_rebuild_may_restart_members_and_nobody_else_goes_back_meanwhile(
    prod: Site, folder: Path
) -> None:
    with recovering(prod, "rebuild", prod.machine("ops1"), bare=True), alone(prod, "rolling restart"):
        pass


def test_a_backup_host_that_does_not_answer_holds_no_recovery(prod: Site, folder: Path) -> None:
    (folder / "ops1").rmdir()

    with pytest.raises(RefusedError, match="ops1 does not answer"), recovering(prod, "restore", prod.machine("ops1")):
        pass


def test_bare_machines_are_locked_as_soon_as_they_let_somebody_in(prod: Site, folder: Path) -> None:
    keeper = prod.machine("ops1")
    for name in ("db1", "db2", "db3", "ops1"):
        (folder / name).rmdir()

    with recovering(prod, "rebuild", keeper, bare=True) as held:
        assert not held.on(keeper)
        (folder / "ops1").mkdir()
        assert held.renew() == ""
        assert held.on(keeper)


def test_a_connection_that_ended_is_made_again(prod: Site, folder: Path) -> None:
    with alone(prod, "switchover") as held:
        _cut(held, "db2")

        assert held.renew() == ""

        held.check()
        assert held.on(prod.machine("db2"))


def test_our_own_connection_that_its_machine_has_not_missed_yet_is_no_loss(prod: Site, folder: Path) -> None:
    with alone(prod, "restore in place") as held:
        before = held._holders.pop("db2")

        held.beat()

        held.check()
        assert not held.on(prod.machine("db2"))
        before.let_go()
        held.beat()
        assert held.on(prod.machine("db2"))


def test_a_lock_that_another_one_got_meanwhile_stops_what_goes_on(prod: Site, folder: Path) -> None:
    with alone(prod, "restore in place") as held:
        _cut(held, "db2")
        other = Lock(prod, "cluster", "switchover", (prod.machine("db2"),))
        try:
            assert other.renew() == ""
            held.beat()
            with pytest.raises(StoppedError, match="no longer alone; another action runs: switchover"):
                held.check()
        finally:
            other.let_go()


def _cut(held: Lock, name: str) -> None:
    process = held._holders[name]._process
    process.kill()
    process.wait()


def test_ctrl_c_does_not_end_the_lock_before_what_it_guards(prod: Site, folder: Path) -> None:
    with alone(prod, "restore in place") as held:
        own: Any = held._holders["db1"]._process
        sessions = subprocess.run(
            ["ps", "-o", "pgid=", "-p", str(own.pid)], capture_output=True, text=True, check=True
        ).stdout
        assert int(sessions) == own.pid
