"""What decides who gets in stays only when somebody got in under it."""

import getpass
import grp
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from paramiko import AuthenticationException
from pyinfra.api.exceptions import ConnectError
from pyinfra.context import ctx_host

from tasks import access, login
from tasks.access import proven
from tasks.wants import File, Unit
from tests.unit.machines import Here

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    machine = Here(tmp_path)
    machine.connector = SimpleNamespace(user="")
    sshd = tmp_path / "tools" / "sshd"
    sshd.write_text("#!/bin/sh\n! grep -qs broken $STATE/../sshd.conf\n")
    sshd.chmod(0o755)
    systemctl = tmp_path / "tools" / "systemctl"
    systemctl.write_text(systemctl.read_text().replace("reload)", "reload|reload-or-restart)"))
    machine.put("ssh.service", ActiveState="active", UnitFileState="enabled")
    machine.put("ssh.service", ExecMainStartTimestamp="Thu 2026-01-01 00:00:00.000000 UTC")
    monkeypatch.setattr(access, "OLD", str(tmp_path / "old"))
    monkeypatch.setattr(access, "log_in_anew", lambda: None)
    return machine


class Connector:
    """A second login, with how its first attempts end."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = [*ends]

    def connect(self) -> None:
        if self.ends and (end := self.ends.pop(0)):
            raise end

    def run_shell_command(self, *_: object, **__: object) -> tuple[bool, None]:
        return True, None

    def disconnect(self) -> None:
        """Nothing is open."""


def turned_away() -> ConnectError:
    error = ConnectError("no")
    error.__context__ = AuthenticationException()
    return error


@pytest.mark.parametrize(
    ("ends", "gets_in"),
    [((), True), ((ConnectError("nobody listens"),) * 2, True), ((turned_away(), None), False)],
)
def test_an_sshd_that_starts_anew_is_waited_for_and_one_that_says_no_is_believed(
    monkeypatch: pytest.MonkeyPatch, ends: tuple[Exception | None, ...], gets_in: bool
) -> None:
    monkeypatch.setattr(login, "MachineConnector", lambda *_: Connector(*ends))

    with (
        ctx_host.use(SimpleNamespace(name="here", state=None)),
        nullcontext() if gets_in else pytest.raises(ConnectError),
    ):
        login.log_in_anew()


def refused() -> None:
    raise ConnectError("Authentication error")


def files(folder: Path, content: str) -> list[File]:
    return [File(str(folder / name), content.encode(), "600", ME, MINE) for name in ("keys", "sshd.conf")]


def ssh(folder: Path) -> Unit:
    return Unit("ssh.service", reloads=(str(folder / "sshd.conf"),))


def test_new_keys_stay_when_the_controller_gets_in_and_the_next_run_has_nothing_to_do(
    here: Here, tmp_path: Path
) -> None:
    assert here.deploy(proven, files=files(tmp_path, "1"), unit=ssh(tmp_path))

    assert (tmp_path / "keys").read_text() == "1"
    assert here.asked() == ["enable ssh.service", "reload-or-restart ssh.service"]
    assert here.deploy(proven, files=files(tmp_path, "1"), unit=ssh(tmp_path)) == []


def test_the_old_keys_are_back_when_the_controller_does_not_get_in(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.deploy(proven, files=files(tmp_path, "1")[:1])
    monkeypatch.setattr(access, "log_in_anew", refused)

    with pytest.raises(AssertionError, match=r"a new login on here = Authentication error; under the new .*/keys and "):
        here.deploy(proven, files=files(tmp_path, "2"), unit=ssh(tmp_path))

    assert (tmp_path / "keys").read_text() == "1"
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "sshd.conf").exists()
    assert here.asked()[-1] == "reload-or-restart ssh.service"


def test_a_file_that_sshd_does_not_take_is_not_kept(here: Here, tmp_path: Path) -> None:
    here.deploy(proven, files=files(tmp_path, "1"), unit=ssh(tmp_path))

    with pytest.raises(AssertionError, match="the old are back"):
        here.deploy(proven, files=files(tmp_path, "broken"), unit=ssh(tmp_path))

    assert (tmp_path / "sshd.conf").read_text() == "1"
