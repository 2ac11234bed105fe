"""A moment comes back out of real repositories, also where the receiver was behind; what is not there is said."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.backup import leftovers, recovered, restore
from app.backup.restore import Request, restored
from app.backup.room import kept
from app.backup.settings import Settings
from app.backup.window import window
from tests.app.repositories import keeper_in, made, of, taken
from tests.app.servers import PostgreSQL, free_port, postgresql, wait_for
from tests.app.test_recovered import as_postgres

TABLES = ("users", "collections", "documents", "passages", "audit")


@dataclass(frozen=True)
class Keeper:
    """What a backup host has of a site that wrote canaries."""

    settings: Settings
    stale: Path
    """The spool as it was before the third canary came."""
    written: dict[int, datetime]
    """When each canary was there."""
    base_at: datetime

    def snapshot(self, folder: Path, at: datetime) -> str:
        """Of the log, claiming to be of that time."""
        return taken(of(self.settings, "wal"), folder, "wal", at).id


def asked(source: PostgreSQL, database: str, *statements: str) -> Any:
    """What the last of them returns, each a transaction of its own."""
    with contextlib.closing(
        psycopg2.connect(host=source.address, port=source.port, user="postgres", dbname=database)
    ) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


def sing(source: PostgreSQL, number: int) -> datetime:
    """A canary, and when it was there."""
    there: datetime = asked(
        source, "rag", f"insert into canaries (number) values ({number})", "select clock_timestamp()"
    )
    return there


def received(source: PostgreSQL, spool: Path) -> bool:
    """Whether the receiver has all that the server wrote."""
    behind = "select coalesce(bool_or(flush_lsn >= pg_current_wal_flush_lsn()), false) from pg_stat_replication"
    return asked(source, "postgres", behind) and any(spool.glob("*.partial"))


@pytest.fixture(scope="module")
def keeper(place: Path) -> Iterator[Keeper]:
    """Canary 1 is in the base, 2 in the log as it was first taken, 3 and 4 came later; no snapshot of the log yet."""
    with (
        pytest.MonkeyPatch.context() as patch,
        postgresql(place, settings="-c wal_level=replica -c wal_keep_size=1GB") as source,
    ):
        patch.setattr(restore, "PORT", free_port())
        settings = keeper_in(place, patch)
        made(settings, "wal", "base")
        settings.scratch.mkdir()
        # What a copy of the database shows to machines that fetch it.
        words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ops1", "-keyout", "key", "-out", "crt")
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)
        paths = {"ssl_cert": str(place / "crt"), "ssl_key": str(place / "key"), "ssl_root_cert": str(place / "crt")}
        settings = settings.model_copy(update={"cluster": settings.cluster.model_copy(update=paths)})
        asked(source, "postgres", "create database rag")
        tables = [f"create table {table} (id int)" for table in TABLES]
        canaries = "create table canaries (number bigint, at timestamptz default clock_timestamp())"
        asked(source, "rag", canaries, "create table alembic_version as select '0010' as version_num", *tables)
        postgres = "postgres" if os.geteuid() == 0 else None
        staging = place / "staging"
        for folder in (settings.spool, staging):
            folder.mkdir(exist_ok=True)
            if postgres:
                shutil.chown(folder, postgres)
        where = ["-h", source.address, "-p", str(source.port), "-U", "postgres"]
        receive = [str(source.programs / "pg_receivewal"), *where, "-D", str(settings.spool), "--synchronous"]
        with subprocess.Popen([*receive, "--status-interval=1"], cwd="/", user=postgres) as receiver:
            try:
                written = {1: sing(source, 1)}
                wait_for("the log is received", lambda: received(source, settings.spool))
                copy = [
                    str(source.programs / "pg_basebackup"),
                    *where,
                    "-D",
                    str(staging / "data"),
                    "-X",
                    "none",
                    "-c",
                    "fast",
                ]
                subprocess.run([*copy, "--no-sync"], check=True, cwd="/", user=postgres)
                base = taken(of(settings, "base"), staging, "base")
                written |= {2: sing(source, 2)}
                wait_for("the second canary is received", lambda: received(source, settings.spool))
                stale = place / "stale"
                shutil.copytree(settings.spool, stale)
                written |= {number: sing(source, number) for number in (3, 4)}
                wait_for("all is received", lambda: received(source, settings.spool))
            finally:
                receiver.kill()
        source.stop()
        yield Keeper(settings, stale, written, base.at)


@pytest.fixture
def empty(keeper: Keeper) -> Iterator[Keeper]:
    """No snapshot of the log, no copy."""
    shutil.rmtree(keeper.settings.repository("wal"))
    made(keeper.settings, "wal")
    yield keeper
    leftovers.end_left(keeper.settings.scratch)
    shutil.rmtree(keeper.settings.scratch / "restored", ignore_errors=True)


def restore_of(keeper: Keeper, to: datetime | None) -> dict[str, Any]:
    """What the restore tells, made by PostgreSQL's user; its error where it fails."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres", str(keeper.settings.folder)], check=True)

    def work() -> None:
        try:
            with kept(keeper.settings, "rag-restored") as room:
                told = restored(keeper.settings, Request(to), keeper.settings.scratch / "restored", room)
        except (recovered.RecoveryError, restore.OutsideError) as error:
            told = {"error": str(error)}
        (keeper.settings.scratch / "told.json").write_text(json.dumps(told))

    as_postgres(work)
    found: dict[str, Any] = json.loads((keeper.settings.scratch / "told.json").read_text())
    return found


def between(keeper: Keeper, before: int, after: int) -> datetime:
    return keeper.written[before] + (keeper.written[after] - keeper.written[before]) / 2


def test_a_receiver_that_was_behind_costs_nothing_of_a_moment(empty: Keeper) -> None:
    moment = between(empty, 3, 4)
    begun = moment.replace(microsecond=0) + timedelta(seconds=1)
    # Taken after the moment, of a spool that had not got it yet.
    empty.snapshot(empty.stale, begun)
    empty.snapshot(empty.settings.spool, begun + timedelta(seconds=90))

    told = restore_of(empty, moment)

    assert told["canary"] == 3, told
    assert len(told["log"]) == 2


def test_a_receiver_that_was_behind_for_hours_costs_nothing_either(empty: Keeper) -> None:
    moment = between(empty, 3, 4)
    begun = moment.replace(microsecond=0) + timedelta(seconds=1)
    empty.snapshot(empty.stale, begun)
    empty.snapshot(empty.stale, begun + timedelta(seconds=60))
    empty.snapshot(empty.settings.spool, begun + timedelta(seconds=120))

    assert restore_of(empty, moment)["canary"] == 3


def test_a_moment_that_no_log_reaches_is_an_error_and_no_earlier_moment(empty: Keeper) -> None:
    moment = empty.written[2] + timedelta(seconds=60)
    empty.snapshot(empty.stale, moment + timedelta(seconds=60))

    error = restore_of(empty, moment)["error"]

    assert f"TO = {restore.said(moment)}; the last write in the log is of {restore.said(empty.written[2])}" in error
    assert "\n" not in error


def test_a_moment_after_the_last_write_is_there_as_far_as_canaries_tell(empty: Keeper) -> None:
    moment = empty.written[4] + timedelta(seconds=20)
    empty.snapshot(empty.settings.spool, moment + timedelta(seconds=1))

    assert restore_of(empty, moment)["canary"] == 4


def test_what_a_wrong_clock_made_a_backup_of_tomorrow_is_not_the_newest(empty: Keeper) -> None:
    now = datetime.now(UTC)
    good = empty.snapshot(empty.settings.spool, now)
    empty.snapshot(empty.stale, now + timedelta(days=400))

    assert window(empty.settings)["log"]["id"] == good
    assert restore_of(empty, None)["canary"] == 4
