"""One question to a machine tells everything that a service's wants need; asked of this computer's own shell."""

import getpass
import grp
import hashlib
import os
from pathlib import Path

import pytest

from tasks.facts import Found, MachineState
from tasks.wants import Check, Directory, File, Unit, User, Wants
from tests.unit.machines import Here

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def ask(here: Here, **wants: object) -> Found:
    found = here.get_fact(MachineState, wants=Wants(**wants))  # type: ignore[arg-type]
    assert isinstance(found, Found)
    return found


def test_a_file_is_told_with_checksum_mode_owner_and_group(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o640)

    found = ask(here, files=(File(str(path), b""),))

    assert found.marks == {str(path): f"{hashlib.sha256(b'content').hexdigest()} 640 {ME} {MINE}"}


def test_a_directory_is_told_as_it_is_wanted(here: Here, tmp_path: Path) -> None:
    wanted = Directory(str(tmp_path / "folder"), "750", ME, MINE)
    (tmp_path / "folder").mkdir(mode=0o750)

    assert ask(here, directories=(wanted,)).marks == {wanted.path: wanted.mark}


def test_what_is_missing_is_not_told_and_hides_nothing(here: Here, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    files = tuple(File(str(tmp_path / name), b"") for name in ("missing", "there", "gone"))

    found = ask(here, files=files, absent=(str(tmp_path / "old"),), users=(User("nobody-of-that-name"),))

    assert set(found.marks) == {str(tmp_path / "there")}
    assert found.users == {}
    assert ask(here) == Found()


@pytest.mark.parametrize("name", ["a b", "it's", '"', "$HOME", "$(false)", "-rf", "é", "a\tb", "*", "sum x"])
def test_a_path_is_taken_literally(here: Here, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(name)

    found = ask(here, files=(File(str(path), b""),), absent=(str(path),))

    digest = hashlib.sha256(name.encode()).hexdigest()
    assert found.marks[str(path)].startswith(f"{digest} ")
    assert set(found.marks) == {str(path)}


def test_a_user_is_told_with_every_group(here: Here) -> None:
    found = ask(here, users=(User(ME), User("nobody-of-that-name")))

    assert set(found.users) == {ME}
    assert MINE in found.users[ME]


STARTED = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no", "ConditionResult": "yes"}
HELD_BACK = {"ActiveState": "inactive", "ConditionResult": "no"}


def test_a_unit_is_stale_when_a_file_that_it_reads_changed_after_its_start(here: Here, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("old")
    here.put("a.service", **STARTED)
    here.shell("systemctl restart a.service")
    unit = Unit("a.service", reads=(str(config), str(tmp_path / "missing")))
    assert ask(here, units=(unit,)).units == {"a.service": {"active", "enabled"}}

    config.chmod(0o600)

    assert ask(here, units=(unit,)).units == {"a.service": {"active", "enabled", "stale"}}


def test_a_unit_that_its_condition_holds_back_is_not_stale_even_when_it_ran_before(here: Here, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("new")
    here.put("a.service", **STARTED | HELD_BACK, ConditionTimestampMonotonic="17")
    here.put("a.service", ExecMainStartTimestamp="Thu 2026-01-01 00:00:00.000000 UTC")

    found = ask(here, units=(Unit("a.service", (str(tmp_path / "config"),)),))

    assert found.units == {"a.service": {"active", "enabled"}}


def test_a_reload_freshens_a_unit_that_reloads_and_no_other(here: Here, tmp_path: Path) -> None:
    config = tmp_path / "config"
    for unit in ("a.service", "b.service"):
        here.put(unit, **STARTED)
        here.shell(f"systemctl restart {unit}")
    config.write_text("new")

    here.shell("systemctl reload a.service b.service")

    found = ask(here, units=(Unit("a.service", (str(config),)), Unit("b.service", reloads=(str(config),))))
    assert found.units == {"a.service": {"active", "enabled", "stale"}, "b.service": {"active", "enabled"}}


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"ActiveState": "failed", "UnitFileState": "disabled"}, set()),
        ({"ActiveState": "activating", "UnitFileState": "static"}, {"enabled"}),
        ({"ActiveState": "active", "UnitFileState": "masked"}, {"active"}),
        ({"NeedDaemonReload": "yes"}, {"active", "enabled", "reload"}),
        # Its own condition holds it back: nothing to do. Never tried: start it.
        (
            {"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestampMonotonic": "17"},
            {"active", "enabled"},
        ),
        ({"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestampMonotonic": "0"}, {"enabled"}),
        ({"ActiveState": "inactive", "ConditionTimestampMonotonic": "17"}, {"enabled"}),
    ],
)
def test_a_units_state_is_told_in_words(here: Here, properties: dict[str, str], words: set[str]) -> None:
    here.put("a.service", **STARTED | properties)

    assert ask(here, units=(Unit("a.service"),)).units == {"a.service": words}


def test_no_unit_takes_on_the_state_of_the_one_before(here: Here, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("new")
    here.put("a.service", **STARTED, ExecMainStartTimestamp="Thu 2026-01-01 00:00:00.000000 UTC")
    here.put("c.timer", **STARTED)

    found = ask(
        here, units=tuple(Unit(name, (str(tmp_path / "config"),)) for name in ("a.service", "b.service", "c.timer"))
    )

    assert found.units == {
        "a.service": {"active", "enabled", "stale"},
        "b.service": set(),
        "c.timer": {"active", "enabled"},
    }


def test_the_check_answers_or_not(here: Here) -> None:
    assert ask(here, check=Check("test 1 = 1 && echo loud")).answers
    assert not ask(here, check=Check("test 1 = 2")).answers
    assert not ask(here, check=Check("no-such-command")).answers
