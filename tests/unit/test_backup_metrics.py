"""Figures of the backups: written in one step, readable for node_exporter, true after a failure."""

import os
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.backup import metrics
from app.backup.metrics import BackupError, Outcome
from app.backup.settings import Settings
from tests.unit.backups import settings_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def figures(settings: Settings, kind: str) -> dict[str, float]:
    path = settings.textfiles / f"rag_backup_{kind}.prom"
    families = text_string_to_metric_families(path.read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_a_good_run_is_told_and_a_failed_one_keeps_the_time_of_the_last_success(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Outcome(True, "3 files", {"rag_backup_files": ("Files.", {(("kind", "base"), ("part", "log")): 3.0})})

    assert metrics.recorded(settings, "base", lambda: made) == 0
    first = figures(settings, "base")

    def fails() -> Outcome:
        raise BackupError("repository = locked; nobody else at work is needed; restic unlock")

    assert metrics.recorded(settings, "base", fails) == 1

    second = figures(settings, "base")
    assert (first["rag_backup_last_result"], second["rag_backup_last_result"]) == (1, 0)
    assert first["rag_backup_files"] == 3
    assert second[metrics.SUCCESS] == first[metrics.SUCCESS]
    assert second["rag_backup_last_run_timestamp_seconds"] > first["rag_backup_last_run_timestamp_seconds"]
    done, failed = capsys.readouterr().out.splitlines()
    assert done.startswith("base: done in ")
    assert failed.endswith("s; repository = locked; nobody else at work is needed; restic unlock")


def test_a_mistake_of_our_own_is_told_too_and_shown_whole(settings: Settings) -> None:
    def breaks() -> Outcome:
        raise KeyError("mistake")

    with pytest.raises(KeyError):
        metrics.recorded(settings, "dump", breaks)

    assert figures(settings, "dump")["rag_backup_last_result"] == 0
    assert metrics.SUCCESS not in figures(settings, "dump")


def test_a_run_that_systemd_ends_has_failed_and_cleared_what_it_staged(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = settings.folder / "staged"

    def work() -> Outcome:
        staged.touch()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            staged.unlink()
        return Outcome(True, "never")

    former = signal.getsignal(signal.SIGTERM)

    assert metrics.recorded(settings, "base", work) == 1

    assert not staged.exists()
    assert figures(settings, "base")["rag_backup_last_result"] == 0
    assert "SIGTERM = came before the end" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == former


def test_a_link_in_the_figures_folder_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    """The folder is node_exporter's, which somebody may have taken over."""
    config = tmp_path / "config-of-a-repository"
    config.write_text("what all depends on")
    for name in (f"rag_backup_wal.{os.getpid()}", "rag_backup_wal.prom"):
        (tmp_path / name).symlink_to(config)

    metrics.publish(settings, "wal", well=True)

    assert config.read_text() == "what all depends on"
    assert figures(settings, "wal")["rag_backup_last_result"] == 1


def test_figures_that_cannot_be_written_are_said_and_fail_the_unit(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = settings.model_copy(update={"textfiles": tmp_path / "not-there"})

    assert metrics.recorded(lost, "base", lambda: Outcome(True, "3 files")) == 1

    figures_lost, last = capsys.readouterr().out.splitlines()
    assert figures_lost.startswith("figures of base = not written, No such file or directory; ")
    assert "base: done in " in last


def test_what_another_put_in_their_place_is_no_figure(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "rag_backup_base.prom").write_text("} no figures {\n")

    assert metrics.published(settings, "base") == {}
    metrics.publish(settings, "base", well=False)
    assert figures(settings, "base")["rag_backup_last_result"] == 0


def test_node_exporter_may_read_the_figures_and_finds_no_draft(settings: Settings, tmp_path: Path) -> None:
    metrics.publish(settings, "wal", well=True)

    (file,) = tmp_path.glob("rag_backup_*")
    assert file.name == "rag_backup_wal.prom"
    assert file.stat().st_mode & 0o777 == 0o644
