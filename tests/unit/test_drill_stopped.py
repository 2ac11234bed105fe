"""A drill that is late, stopped, or not alone: it has failed, says so at once, and puts away what it left."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from app.backup.drill import main, steps
from app.backup.drill.checks import Checks, StoppedError, deadline, stoppable
from app.backup.drill.evidence import Evidence
from app.backup.drill.place import put_away, scratch
from app.settings import ConfigurationError
from tests.unit.backups import settings_in


def test_a_check_that_swallows_errors_does_not_outlive_its_deadline() -> None:
    def stubborn() -> str:
        while True:
            try:
                time.sleep(10)
            except Exception:  # noqa: S112 - that is what is tried
                continue

    checks = Checks(["stubborn"])

    assert not checks.run("stubborn", 0.1, stubborn)
    assert checks.all[0].found == "not done in 0 s"


def test_a_drill_that_is_stopped_tells_so_and_runs_no_further_check() -> None:
    checks = Checks(["first", "second"])
    told: list[str] = []
    with stoppable(lambda: told.append("stopped")):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(StoppedError):
            checks.run("first", 20, lambda: time.sleep(20) or "")

    assert told == ["stopped"]
    assert not checks.run("second", 5, lambda: "")
    assert checks.all[0].found == "the drill was stopped"
    assert checks.all[1].verdict == "could not run"


def test_what_goes_wrong_between_two_checks_is_kept_as_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(drill: steps.Drill) -> None:
        drill.checks.run("snapshots", 5, lambda: "there")
        raise OSError("the disk is gone")

    kept: list[Evidence] = []
    monkeypatch.setattr(main, "carried_out", broken)
    monkeypatch.setattr(main, "own", lambda *_, **__: None)
    monkeypatch.setattr(main, "_versions", lambda _: {})
    monkeypatch.setattr(main.evidence, "kept", lambda _settings, _repository, found: kept.append(found) or tmp_path)

    assert main.run(settings_in(tmp_path)) == 1

    assert [check.verdict for check in kept[0].checks][:2] == ["pass", "could not run"]
    assert not kept[0].well


def figure(folder: Path) -> str:
    lines = (folder / "rag_backup_drill.prom").read_text().splitlines()
    return next(line for line in lines if line.startswith("rag_backup_last_result"))


def test_a_drill_that_is_stopped_has_failed_before_it_has_put_anything_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def slow(drill: steps.Drill) -> None:
        try:
            drill.checks.run("snapshots", 20, lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(20) or "")
        finally:
            # While PostgreSQL is ended, systemd may lose its patience, or ask again.
            seen.append(figure(tmp_path))
            os.kill(os.getpid(), signal.SIGTERM)

    kept: list[Evidence] = []
    monkeypatch.setattr(main, "carried_out", slow)
    monkeypatch.setattr(main, "own", lambda *_, **__: None)
    monkeypatch.setattr(main, "_versions", lambda _: {})
    monkeypatch.setattr(main.evidence, "kept", lambda _settings, _repository, found: kept.append(found) or tmp_path)

    assert main.run(settings_in(tmp_path)) == 1

    assert seen == ['rag_backup_last_result{kind="drill"} 0.0']
    assert kept[0].checks[0].found == "the drill was stopped"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_drill_that_is_stopped_while_it_looks_for_its_place_has_failed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clears(_folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    monkeypatch.setattr("app.backup.drill.place.put_away", clears)
    monkeypatch.setattr(main, "own", lambda *_, **__: None)

    assert main.run(settings_in(tmp_path)) == 1

    assert figure(tmp_path) == 'rag_backup_last_result{kind="drill"} 0.0'


def test_deadlines_leave_nothing_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with deadline(5):
        pass

    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert not issubclass(StoppedError, Exception)


def test_two_drills_at_once_are_refused_and_what_a_killed_one_left_is_put_away(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with scratch(settings) as folder:
        (folder / "left").mkdir()
        sleeper = subprocess.Popen(["sleep", "60"], cwd=folder / "left")
        with pytest.raises(ConfigurationError, match="another one runs"), scratch(settings):
            pass
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not folder.exists()

    folder.mkdir()
    (folder / "of a killed one").touch()
    with scratch(settings) as again:
        assert list(again.iterdir()) == []
    put_away(folder)
