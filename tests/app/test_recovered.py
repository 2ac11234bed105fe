"""A base backup and received WAL become a server again: all of it, or up to a moment, or an error that says why."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.backup import leftovers, recovered
from app.backup.recovered import RecoveryError, Server, prepared, running
from app.backup.restore import listen_of
from tests.app.certified import authority_in, certified, shown_by
from tests.app.recoverable import Backup, as_postgres, rows
from tests.app.servers import free_port

SEGMENT = 16 * 1024 * 1024


def test_everything_that_was_received_is_there_and_writes_are_taken(copied: Backup) -> None:
    partial = next(copied.wal.glob("*.partial"))
    # As it looks while its first zeros are not written.
    os.truncate(partial, SEGMENT // 2)

    def work() -> None:
        before = sorted(path.name for path in copied.wal.iterdir())
        assert "successfully verified" in recovered.verified(copied.base)
        with running(prepared(copied.base, copied.wal, port=free_port()), 60) as server:
            assert rows(server) == [1, 2, 3, 4, 5]
            assert "/" in server.reached()[0]
        assert server.pid() is None
        assert sorted(path.name for path in copied.wal.iterdir()) == before

    as_postgres(work)


def copies(server: Server, shown: Path, authority: Path) -> str:
    """What the server says to who wants to copy it with this certificate; empty: come in."""
    link = f"host=127.0.0.1 port={server.port} user=replicator replication=true sslmode=verify-full"
    words = f"{link} sslrootcert={authority} sslcert={shown}.crt sslkey={shown}.key"
    command = [str(server.programs / "psql"), "-XAt", words, "-c", "IDENTIFY_SYSTEM"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def test_a_restored_copy_is_copied_with_the_certificate_of_a_database_machines_postgresql_alone(
    copied: Backup, pki: Path
) -> None:
    def work() -> None:
        authority = authority_in(pki)
        settings = shown_by(pki, certified(pki, authority, "backup", "ops1"))
        listen = listen_of(settings, {"db1": "127.0.0.1"})
        with running(prepared(copied.base, copied.wal, port=free_port(), listen=listen), 60) as server:
            shown = [("postgresql", "db1"), ("patroni", "db1"), ("node-exporter", "db1"), ("postgresql", "db2")]
            said = [copies(server, certified(pki, authority, *one), pki / "ca.crt") for one in shown]
        assert said[0] == ""
        assert all("certificate authentication failed" in one for one in said[1:]), said

    as_postgres(work)


def test_a_moment_is_reached_and_what_came_after_it_is_not_there(copied: Backup) -> None:
    def work() -> None:
        with running(prepared(copied.base, copied.wal, copied.moments[4], port=free_port()), 60) as server:
            assert rows(server) == [1, 2, 3, 4]

    as_postgres(work)


def test_a_moment_that_the_log_does_not_reach_is_an_error(copied: Backup) -> None:
    def work() -> None:
        server = prepared(copied.base, copied.wal, datetime.now(UTC) + timedelta(hours=1), port=free_port())
        with pytest.raises(RecoveryError, match="recovery ended before configured recovery target was reached"):
            server.start(60)
        assert server.pid() is None

    as_postgres(work)


def test_a_file_that_cannot_be_copied_is_not_taken_for_the_end_of_the_log(copied: Backup) -> None:
    newest = next(copied.wal.glob("*.partial"))
    newest.unlink()
    # Reading it fails after its beginning was seen.
    newest.with_suffix("").mkdir()

    def work() -> None:
        server = prepared(copied.base, copied.wal, port=free_port())
        with pytest.raises(RecoveryError, match="could not restore file"):
            server.start(60)

    as_postgres(work)


def test_a_changed_byte_of_the_base_is_named(copied: Backup) -> None:
    path = copied.base / "data/PG_VERSION"
    path.write_text(path.read_text().strip() + " ")

    def work() -> None:
        with pytest.raises(RecoveryError, match=r"checksum mismatch.*PG_VERSION"):
            recovered.verified(copied.base)

    as_postgres(work)


def test_a_server_that_was_left_is_ended_by_where_it_works_and_nobody_else_is(copied: Backup) -> None:
    def work() -> None:
        server = prepared(copied.base, copied.wal, port=free_port())
        server.start(60)
        assert server.pid()

    as_postgres(work)
    stranger = subprocess.Popen(["sleep", "60"], cwd="/")

    ended = leftovers.end_left(copied.base.parent)

    assert "postgres" in ended
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    assert leftovers.end_left(copied.base.parent) == []
