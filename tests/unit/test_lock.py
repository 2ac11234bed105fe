"""One action at a time: a lock that is held by a connection, lost with it, and taken again."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from inventories.settings import Machine, Site, Ssh
from tasks import lock
from tasks.lock import LET_IN, Deploy, Lock, alone, recovering
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


def ended(deploy: Deploy) -> None:
    """What the end of its process does."""
    for held in deploy.held:
        held.let_go()


def test_no_recovery_begins_while_a_deploy_works_and_deploys_go_together(prod: Site, folder: Path) -> None:
    keeper, first, second = prod.machine("ops1"), Deploy(), Deploy()
    assert (first.refused_by(prod), second.refused_by(prod)) == ("", "")

    ended(second)

    for action, whole in (("restore", False), ("restore in place", True), ("rebuild", True)):
        refused = pytest.raises(RefusedError, match=f"{action} = refused; another action runs: deploy by .+; wait")
        with refused, recovering(prod, action, keeper, whole=whole, bare=action == "rebuild"):
            raise AssertionError("both ran")
    ended(first)
    with recovering(prod, "restore in place", keeper):
        pass


def test_a_deploy_is_refused_while_the_site_goes_back_and_not_beside_a_copy(prod: Site, folder: Path) -> None:
    keeper, deploy = prod.machine("ops1"), Deploy()
    with recovering(prod, "restore in place", keeper) as held:
        assert deploy.refused_by(prod) == held.who
        assert not deploy.held
    # All machines of a deploy hear the same.
    assert deploy.refused_by(prod).startswith("restore in place by")

    with recovering(prod, "restore", keeper, whole=False):
        beside = Deploy()
        assert beside.refused_by(prod) == ""
        ended(beside)


def test_a_deploy_that_gave_no_sign_of_life_for_long_asks_again(prod: Site, folder: Path) -> None:
    deploy = Deploy()
    assert deploy.refused_by(prod) == ""
    # As the machines do after a minute without a sign.
    for held in deploy.held:
        for holder in held._holders.values():
            holder._process.kill()
            holder._process.wait()

    with recovering(prod, "restore in place", prod.machine("ops1")) as other:
        assert deploy.refused_by(prod) == other.who
    ended(deploy)


def test_a_machine_that_lets_in_and_then_hangs_holds_up_nobody(
    prod: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = lock.command

    def command(ssh: Ssh, machine: Machine, script: str, shell: str = "sh") -> list[str]:
        return reached(ssh, machine, f"sleep 60; {script}" if machine.name == "db2" else script, shell)

    monkeypatch.setattr(lock, "command", command)
    monkeypatch.setattr(lock, "SECONDS", 0.5)

    with recovering(prod, "restore in place", prod.machine("ops1")) as held:
        assert held.on(prod.machine("db1"))
        assert not held.on(prod.machine("db2"))


def test_a_rebuild_deploys_under_its_own_lock(prod: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "db3").rmdir()
    with recovering(prod, "rebuild", prod.machine("ops1"), bare=True) as held:
        # Bare until a moment ago: not yet the rebuild's.
        (folder / "db3").mkdir()
        monkeypatch.setenv(LET_IN, held.who)
        deploy = Deploy()

        assert deploy.refused_by(prod) == ""

        assert not deploy.held
        assert held.renew() == ""
        assert held.on(prod.machine("db3"))
    monkeypatch.setenv(LET_IN, held.who)
    with recovering(prod, "restore in place", prod.machine("ops1")) as other:
        assert Deploy().refused_by(prod) == other.who


def test_a_deploy_that_is_killed_holds_up_no_recovery(prod: Site, folder: Path) -> None:
    child = os.fork()
    if not child:
        try:
            Deploy().refused_by(prod)
            (folder / "holds").touch()
            signal.pause()
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "holds").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(RefusedError, match="deploy by"), recovering(prod, "restore", prod.machine("ops1")):
            raise AssertionError("both ran")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    while time.monotonic() < deadline:
        try:
            with recovering(prod, "restore", prod.machine("ops1")):
                return
        except RefusedError:
            # The machines miss it in a moment.
            time.sleep(0.02)
    raise AssertionError("held for ever")
