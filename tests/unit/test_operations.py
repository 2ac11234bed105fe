"""A deploy does what is missing and no more, finishes what an interrupted one began, and says what did not answer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyinfra.context import ctx_host

from tasks import operations
from tasks.facts import Found
from tasks.operations import ensure, waiting
from tasks.wants import Check, Directory, File, Unit, User, Wants
from tests.unit.machines import ME, MINE, Here, file
from tests.unit.sites import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(operations, "_broken", {})
    return Here(tmp_path)


def service(folder: Path, content: str = "1", *, reloads: bool = False, **unit: bool) -> dict[str, object]:
    paths = (str(folder / "config"),)
    return {
        "directories": [Directory(str(folder / "state"), "750", ME, MINE)],
        "files": [file(folder / "config", content)],
        "absent": [str(folder / "old")],
        "units": [Unit("a.service", () if reloads else paths, paths if reloads else (), **unit)],
        "check": Check(f"test -e {folder}/config", seconds=5),
    }


def test_the_first_run_makes_everything_and_the_second_does_nothing(here: Here, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()

    first = here.deploy(ensure, **service(tmp_path))

    assert (tmp_path / "config").read_text() == "1"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o750
    assert not (tmp_path / "old").exists()
    assert here.asked() == ["enable a.service", "restart a.service"]
    assert first
    assert here.deploy(ensure, **service(tmp_path)) == []
    assert here.asked() == []


def test_a_unit_whose_file_goes_is_stopped_and_forgotten(here: Here, tmp_path: Path) -> None:
    files = [tmp_path / f"copy.{kind}" for kind in ("service", "timer")]
    for path in files:
        path.touch()

    here.deploy(ensure, absent=[str(path) for path in files])

    assert not any(path.exists() for path in files)
    units = "copy.service copy.timer"
    assert here.asked() == [f"disable {units}", "daemon-reload", f"reset-failed {units}"]
    assert here.deploy(ensure, absent=[str(path) for path in files]) == []


def test_a_changed_file_restarts_its_unit_once(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path))
    here.asked()

    here.deploy(ensure, **service(tmp_path, "2"))

    assert here.asked() == ["restart a.service"]
    assert here.deploy(ensure, **service(tmp_path, "2")) == []


def test_a_unit_that_reloads_is_not_restarted(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path, reloads=True))
    here.asked()

    here.deploy(ensure, **service(tmp_path, "2", reloads=True))

    assert here.asked() == ["reload a.service"]


def test_somebodys_own_change_on_the_machine_is_undone(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path))
    here.asked()

    (tmp_path / "config").chmod(0o666)
    (tmp_path / "state").rmdir()
    here.deploy(ensure, **service(tmp_path))

    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "state").is_dir()
    assert here.asked() == ["restart a.service"]


def test_a_deploy_killed_between_file_and_restart_is_finished_by_the_next(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path))
    here.asked()

    here.deploy(ensure, stop_before="systemctl restart", **service(tmp_path, "2"))
    assert (tmp_path / "config").read_text() == "2"
    assert here.asked() == []

    here.deploy(ensure, **service(tmp_path, "2"))
    assert here.asked() == ["restart a.service"]


def test_a_new_unit_file_is_read_before_its_unit_starts(here: Here, tmp_path: Path) -> None:
    unit = tmp_path / "systemd" / "system" / "a.service"

    here.deploy(ensure, files=[file(unit, "[Service]")], units=[Unit("a.service", (str(unit),))])

    assert here.asked() == ["daemon-reload", "enable a.service", "restart a.service"]


def test_a_service_that_runs_and_does_not_answer_fails_the_deploy(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path))
    mute = service(tmp_path) | {"check": Check("test 1 = 2", seconds=0)}

    with pytest.raises(AssertionError, match=r"no answer in 0 s: test 1 = 2; read: journalctl -u a\.service -n 50"):
        here.deploy(ensure, **mute)


def test_a_unit_that_does_not_start_shows_its_journal(here: Here, tmp_path: Path) -> None:
    here.put("a.service", breaks="yes")

    with pytest.raises(AssertionError, match=r"journal of --no-pager -u a\.service -n 15"):
        here.deploy(ensure, **service(tmp_path))


def test_a_restart_that_breaks_one_machine_spares_the_next(here: Here, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = Here(tmp_path / "first"), Here(tmp_path / "second")
    for machine in (first, second):
        machine.deploy(ensure, **service(machine.folder, in_turn=True))
        machine.asked()
    first.put("a.service", breaks="yes")

    with pytest.raises(AssertionError, match=r"a\.service on here: a\.service breaks"):
        first.deploy(ensure, **service(first.folder, "2", in_turn=True))
    with pytest.raises(AssertionError, match=r"a\.service = not restarted; it did not come back on here; mend that"):
        second.deploy(ensure, **service(second.folder, "2", in_turn=True))

    assert second.asked() == []


REFUSING = """
from pyinfra.api import operation
from pyinfra.api.exceptions import OperationError
from tasks.operations import barrier, call

def refuse(text):
    raise OperationError(text)

@operation()
def refused():
    yield call(refuse, "thing = 1; two is needed; cat thing")

refused(name="Refuse")
barrier(name="Go on")
"""


def test_what_the_controller_refuses_is_one_line_and_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "deploy.py").write_text(REFUSING)
    pyinfra = Path(sys.executable).with_name("pyinfra")

    done = subprocess.run(
        [pyinfra, "-y", "@local", "deploy.py"],
        cwd=tmp_path,
        env=os.environ | {"PYINFRA_PROGRESS": "off", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert [line for line in said.splitlines() if "two is needed" in line] == [
        "    [@local] thing = 1; two is needed; cat thing"
    ]
    assert "Traceback" not in said
    assert "Unexpected" not in said
    assert "Starting operation: Go on" not in said


def test_a_machine_that_comes_back_gives_the_turn_to_the_next(here: Here, tmp_path: Path) -> None:
    here.deploy(ensure, **service(tmp_path, in_turn=True))
    here.asked()

    here.deploy(ensure, **service(tmp_path, "2", in_turn=True))

    assert here.asked() == ["restart a.service"]
    assert operations._broken == {}


@pytest.mark.parametrize(
    ("words", "stale", "unit", "commands"),
    [
        (set(), False, Unit("a.service"), ["systemctl enable --quiet a.service", "systemctl restart a.service"]),
        ({"enabled"}, False, Unit("a.service"), ["systemctl restart a.service"]),
        ({"enabled"}, True, Unit("a.service", reloads=("/etc/a",)), ["systemctl restart a.service"]),
        ({"active"}, False, Unit("a.service"), ["systemctl enable --quiet a.service"]),
        ({"active", "enabled"}, False, Unit("a.service"), []),
        ({"active", "enabled"}, True, Unit("a.service", ("/etc/b",)), []),
        ({"active", "enabled"}, True, Unit("a.service", ("/etc/a",)), ["systemctl restart a.service"]),
        ({"active", "enabled"}, True, Unit("a.service", reloads=("/etc/a",)), ["systemctl reload a.service"]),
        ({"active", "enabled", "stale"}, False, Unit("a.service"), ["systemctl restart a.service"]),
        ({"active", "enabled", "changed"}, False, Unit("a.service"), ["systemctl reload a.service"]),
        ({"active", "enabled", "stale", "changed"}, False, Unit("a.service"), ["systemctl restart a.service"]),
    ],
)
def test_a_unit_gets_what_it_lacks(words: set[str], stale: bool, unit: Unit, commands: list[str]) -> None:
    changed = [File("/etc/a", b"")] if stale else []

    made = [str(command).partition(" || ")[0] for command in operations._start(unit, words, changed, None)]

    assert made == commands


def test_an_account_is_made_without_password_and_gets_only_the_groups_that_it_lacks() -> None:
    wants = Wants(users=(User("rag"), User("ollama", "/var/lib/ollama", groups=("render", "video"))))

    new = [str(command) for command in operations._lacking_users(wants, Found())]
    there = Found(users={"rag": {"rag"}, "ollama": {"ollama", "video"}})
    known = [str(command) for command in operations._lacking_users(wants, there)]

    assert new == [
        "useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin rag",
        "useradd --system --user-group --home-dir /var/lib/ollama --create-home --shell /usr/sbin/nologin ollama",
        "usermod --append --groups render,video ollama",
    ]
    assert known == ["usermod --append --groups render ollama"]


def test_waiting_ends_well_as_soon_as_the_check_does(here: Here, tmp_path: Path) -> None:
    mark = tmp_path / "up"
    started = time.monotonic()

    done = here.shell(f"( sleep 0.5; touch {mark} ) & " + waiting(Check(f"test -e {mark}", seconds=20)))

    assert done.returncode == 0
    assert 0.4 < time.monotonic() - started < 10
    assert done.stderr == ""


def test_waiting_ends_with_what_did_not_answer_and_where_to_read_on(here: Here) -> None:
    started = time.monotonic()

    done = here.shell(waiting(Check("echo it is broken; false", seconds=1), (Unit("a.service"), Unit("b.service"))))

    assert done.returncode == 1
    assert time.monotonic() - started < 10
    assert done.stderr.splitlines() == [
        "it is broken",
        "no answer in 1 s: echo it is broken; false; read: journalctl -u a.service -u b.service -n 50",
        "journal of --no-pager -u a.service -u b.service -n 15",
    ]


def test_what_takes_as_long_as_there_are_data_is_waited_for_and_told(here: Here, tmp_path: Path) -> None:
    copying, up = tmp_path / "copying", tmp_path / "up"
    copying.touch()
    # Who asks the second time is the last one to find it busy.
    last = f"test -e {up}.soon && mv {copying} {up}; touch {up}.soon"
    busy = f"test -e {copying} && echo creating replica: 3 MB are here && {{ {last}; }}"

    here.deploy(ensure, units=[Unit("a.service")], check=Check(f"test -e {up}", seconds=1, busy=busy))

    assert here.said == ["creating replica: 3 MB are here"] * 2
    with pytest.raises(AssertionError, match="no answer in 1 s"):
        here.deploy(ensure, check=Check("false", seconds=1, busy="false"))


def test_every_barrier_changes_nothing(here: Here) -> None:
    with ctx_host.use(here):
        assert [*operations.barrier._inner()] == []
