"""Room is asked for on each disk, and what others asked for and have not filled yet is theirs while they live."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.backup import room
from app.backup.room import RoomError, kept
from app.backup.settings import Settings
from tests.unit.backups import settings_in

MB = 1_000_000
Disks = Callable[[dict[str, int]], None]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a megabyte to spare."""
    monkeypatch.setattr(room, "SPARE_BYTES", MB)
    return settings_in(tmp_path)


@pytest.fixture
def disks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Disks:
    """Folders below which there are other disks, and megabytes free on each."""

    def made(free: dict[str, int]) -> None:
        def disk(folder: Path) -> str:
            inside = folder.relative_to(settings.folder).parts
            return inside[0] if inside and inside[0] in free else ""

        monkeypatch.setattr(room, "_disk_of", disk)
        monkeypatch.setattr(room, "_there", lambda folder: folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[disk(folder)] * MB))

    return made


def test_what_two_works_ask_for_does_not_fit_twice(settings: Settings, disks: Disks) -> None:
    disks({"": 100})
    with kept(settings, "rag-drill") as drill, kept(settings, "rag-base") as base:
        drill.more((settings.scratch, 60 * MB))

        with pytest.raises(
            RoomError, match="100 MB free, 60 MB of them kept for rag-drill; 61 MB needed; systemctl stop"
        ):
            base.more((settings.staging, 60 * MB))
        assert "31 MB needed" in base.more((settings.staging, 30 * MB))

    with kept(settings, "rag-base") as base:
        assert "kept" not in base.more((settings.staging, 60 * MB))


def test_who_has_not_asked_yet_keeps_nothing_of_the_last_time(settings: Settings, disks: Disks) -> None:
    disks({"": 100})
    with kept(settings, "rag-drill") as drill:
        drill.more((settings.scratch, 60 * MB))

    with kept(settings, "rag-drill"), kept(settings, "rag-base") as base:
        assert "kept" not in base.more((settings.staging, 60 * MB))


def test_what_is_filled_by_now_is_not_kept_twice(settings: Settings, disks: Disks) -> None:
    with kept(settings, "rag-drill") as drill, kept(settings, "rag-base") as base:
        disks({"": 100})
        drill.more((settings.scratch, 60 * MB))
        settings.scratch.mkdir()
        (settings.scratch / "data").write_bytes(b"x" * 50 * MB)
        disks({"": 50})

        assert "10 MB of them kept for rag-drill, 31 MB needed" in base.more((settings.staging, 30 * MB))
        # Of one's own as well.
        assert "16 MB needed" in drill.more((settings.scratch, 15 * MB))


def test_a_disk_of_its_own_is_asked_for_by_itself(settings: Settings, disks: Disks) -> None:
    repository = settings.repository("base")
    with kept(settings, "rag-base") as base:
        disks({"": 70})
        with pytest.raises(RoomError, match="70 MB free; 101 MB needed"):
            base.more((settings.staging, 50 * MB), (repository, 50 * MB))
        disks({"": 70, "repositories": 60})
        said = base.more((settings.staging, 50 * MB), (repository, 50 * MB))
        assert said.count("51 MB needed") == 2
        disks({"": 70, "repositories": 40})
        with pytest.raises(RoomError, match="repositories/base = 40 MB free; 51 MB needed"):
            base.more((settings.staging, 50 * MB), (repository, 50 * MB))


def test_who_was_killed_keeps_nothing_and_who_lives_is_not_joined(settings: Settings, disks: Disks) -> None:
    disks({"": 100})
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tests.unit.backups import settings_in\n"
        "from app.backup import room\nfrom app.backup.settings import Settings\n"
        "settings = Settings.model_construct(folder=Path(sys.argv[1]))\n"
        "with room.kept(settings, 'rag-drill') as held:\n"
        "    held.more((settings.scratch, 90_000))\n"
        "    print('there', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(settings.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "there\n"
    with kept(settings, "rag-base") as base:
        assert "kept for rag-drill" in base.more((settings.staging, MB))
        with pytest.raises(RoomError, match="rag-drill = another one works"), kept(settings, "rag-drill"):
            pass

        process.kill()
        process.wait()

        assert "kept" not in base.more((settings.staging, MB))
