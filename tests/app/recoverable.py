"""A base backup and the log after it, taken from a real server; and the user who may run what becomes of them."""

import multiprocessing
import os
import pwd
import shutil
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg2

from app.backup.recovered import Server
from tests.app.servers import PostgreSQL, postgresql, wait_for


@dataclass(frozen=True)
class Backup:
    base: Path
    wal: Path
    moments: dict[int, datetime]
    """When each row was there."""


def as_postgres(work: Callable[[], None]) -> None:
    """Run it in a process of the user that PostgreSQL runs as; it refuses root."""

    def child() -> None:
        # pytest's own files stay root's.
        try:
            if os.geteuid() == 0:
                user = pwd.getpwnam("postgres")
                os.initgroups("postgres", user.pw_gid)
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            os.chdir("/")
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode == 0, "see the captured output"


def written(source: PostgreSQL, *numbers: int) -> dict[int, datetime]:
    moments = {}
    connection = psycopg2.connect(host=source.address, port=source.port, user="postgres", dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists ledger (number int primary key)")
        cursor.execute("do $$ begin create role replicator login replication; exception when others then end $$")
        for number in numbers:
            cursor.execute("insert into ledger values (%s)", (number,))
            cursor.execute("select clock_timestamp()")
            moments[number] = cursor.fetchone()[0]
    connection.close()
    return moments


def streaming(source: PostgreSQL) -> bool:
    connection = psycopg2.connect(host=source.address, port=source.port, user="postgres", dbname="postgres")
    with connection, connection.cursor() as cursor:
        cursor.execute("select exists (select from pg_stat_replication where state = 'streaming')")
        found = cursor.fetchone()[0]
    connection.close()
    return bool(found)


def made(folder: Path) -> Backup:
    """Rows 1 and 2 are in the base, 3 to 5 in the log alone, the last of it in a segment that was never full."""
    base, wal = folder / "base", folder / "wal"
    with postgresql(folder, settings="-c wal_level=replica") as source:
        for made in (base, wal):
            made.mkdir(mode=0o700)
            if os.geteuid() == 0:
                shutil.chown(made, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        where = ["-h", source.address, "-p", str(source.port), "-U", "postgres"]
        receive = [str(source.programs / "pg_receivewal"), *where, "-D", str(wal), "--slot", "receiver"]
        # Without a place of its own the checkpoint of the copy may remove what the receiver has not had yet.
        subprocess.run([*prefix, *receive, "--create-slot"], check=True, cwd="/")
        receiver = subprocess.Popen(receive, cwd="/", user="postgres" if os.geteuid() == 0 else None)
        moments = written(source, 1, 2)
        # A receiver that is still making its first file is not waited for by a server that stops.
        wait_for("the log is being received", lambda: any(wal.glob("*.partial")) and streaming(source))
        copy = [str(source.programs / "pg_basebackup"), *where, "-D", str(base / "data"), "-X", "none", "-c", "fast"]
        subprocess.run([*prefix, *copy, "--no-sync"], check=True, cwd="/")
        moments |= written(source, 3)
        connection = psycopg2.connect(host=source.address, port=source.port, user="postgres", dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select pg_switch_wal()")
        connection.close()
        moments |= written(source, 4)
        moments |= written(source, 5)
        source.stop()
        # The server waits at its end until it has all of the log.
        receiver.kill()
        receiver.wait(20)
    # As a base from a replica has it.
    (base / "data/standby.signal").touch()
    if os.geteuid() == 0:
        shutil.chown(base / "data/standby.signal", "postgres")
    return Backup(base, wal, moments)


def rows(server: Server) -> list[int]:
    connection = psycopg2.connect(server.dsn())
    with connection, connection.cursor() as cursor:
        cursor.execute("select number from ledger order by 1")
        found = [number for (number,) in cursor.fetchall()]
        cursor.execute("insert into ledger values (-1)")
        connection.rollback()
    connection.close()
    return found
