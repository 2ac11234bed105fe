"""Disks that are too small, or fill in the middle: what is said, what is kept, and what is given back."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest

from app.backup import dump, restic, room
from app.backup.drill import main
from app.backup.drill.steps import Drill
from app.backup.restic import Repository, Snapshot
from app.backup.settings import Cluster, Settings
from tests.app.repositories import keeper_in, made, of
from tests.app.servers import PostgreSQL, postgresql

MB = 1_000_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    if os.geteuid():
        pytest.skip("a file system of its own is mounted; root is needed")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """With 80 MB that no compression makes less."""
    with tempfile.TemporaryDirectory(prefix="rag-") as folder, postgresql(Path(folder)) as one:
        session = psycopg2.connect(host=one.address, port=one.port, user="postgres", dbname="postgres")
        with session, session.cursor() as cursor:
            cursor.execute("create extension pgcrypto")
            cursor.execute("create table documents (source bytea)")
            cursor.execute("alter table documents alter source set storage external")
            cursor.execute(
                "insert into documents select string_agg(gen_random_bytes(1000), '') "
                "from generate_series(1, 80000) as n group by n % 80"
            )
        session.close()
        yield one


@pytest.fixture
def programs(server: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That server is the cluster, and these are its; a site's own is reached over TLS alone."""

    def dsn(_: Cluster, target: str = "read-write", **__: object) -> str:
        return f"host={server.address} port={server.port} user=postgres dbname=postgres target_session_attrs=any"

    monkeypatch.setattr(Cluster, "dsn", dsn)
    return server.programs


def keeper(folder: Path, monkeypatch: pytest.MonkeyPatch, programs: Path | None = None) -> Settings:
    settings = keeper_in(folder, monkeypatch)
    cluster = settings.cluster.model_copy(update={"programs": programs})
    credentials = folder / "credentials"
    (credentials / "backup-password").write_text("unused on loopback")
    # A key is a key: repositories of the tests are made with one.
    (credentials / "drill-password").write_text((credentials / "repository-password").read_text())
    return settings.model_copy(update={"cluster": cluster})


def test_a_dump_asks_for_its_room_before_anything_is_written(
    small: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = keeper(small, monkeypatch, programs)
    made(settings, "dump")
    monkeypatch.setattr(room, "SPARE_BYTES", 0)

    assert dump.run(settings) == 1

    said = capsys.readouterr().out
    assert f"disk of {settings.repository('dump')} = " in said
    assert "df -h" in said
    assert restic.snapshots(of(settings, "dump")) == []
    assert room.size_of(settings.repository("dump")) < MB


def test_a_dump_that_fills_the_disk_says_so_and_does_not_fill_it_twice(
    small: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = keeper(small, monkeypatch, programs)
    made(settings, "dump")
    monkeypatch.setattr(dump, "sources", lambda _: [])
    # restic asks a full disk again for a quarter of an hour.
    monkeypatch.setattr(dump, "LONGEST_SECONDS", 5.0)
    monkeypatch.setattr(room, "SPARE_BYTES", 0)

    assert dump.run(settings) == 1

    said = capsys.readouterr().out
    assert "= full" in said
    assert "once more from the primary" not in said
    assert 'rag_backup_last_result{kind="dump"} 0.0' in (small / "rag_backup_dump.prom").read_text()


def test_a_dump_with_room_for_it_is_whole_and_keeps_its_room_meanwhile(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = keeper(tmp_path, monkeypatch, programs)
    made(settings, "dump")
    kept: list[str] = []

    def watched(whose: Settings, repository: Repository) -> Snapshot:
        with room.kept(settings, "rag-drill") as drill:
            kept.append(drill.more((settings.scratch, MB)))
        return taken(whose, repository)

    taken = dump._taken
    monkeypatch.setattr(dump, "_taken", watched)

    assert dump.run(settings) == 0

    assert "kept for rag-dump" in kept[0]
    assert "1 tables" in capsys.readouterr().out


def test_a_drill_whose_disk_fills_has_its_check_its_evidence_and_leaves_nothing(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = keeper(small, monkeypatch)
    made(settings, "base", "wal", "evidence")

    def filled(drill: Drill) -> None:
        def fill() -> str:
            with (drill.folder / "restored").open("wb", buffering=0) as file:
                while file.write(b"x" * MB):
                    pass
            return "never"

        with suppress(OSError):
            drill.checks.run("restore", 60, fill, needed=True)

    monkeypatch.setattr(main, "carried_out", filled)

    assert main.run(settings) == 1

    (path,) = (small / "drills").glob("*.json")
    told = {check["name"]: check for check in json.loads(path.read_text())["checks"]}
    assert told["restore"]["verdict"] == "could not run"
    assert "No space left" in told["restore"]["found"]
    assert "since restore did not pass" in told["files"]["found"]
    assert len(restic.snapshots(of(settings, "evidence"))) == 1
    assert not (settings.scratch / "drill").exists()
    assert 'rag_backup_last_result{kind="drill"} 0.0' in (small / "rag_backup_drill.prom").read_text()
