"""A base backup and received WAL become a server again: all of it, or up to a moment, or an error that says why."""

import multiprocessing
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.backup import leftovers, primary, receive, recovered, watch
from app.backup.recovered import Listen, RecoveryError, Server, prepared, running
from app.backup.restore import listen_of
from app.backup.settings import Cluster, Settings
from app.backup.watch import State
from inventories import secrets
from inventories.certificates import Certificate
from tasks.pki import Authority, signed
from tests.app.servers import PostgreSQL, free_port, postgresql, wait_for
from tests.unit.backups import settings_in

SEGMENT = 16 * 1024 * 1024


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


def rows(server: Server) -> list[int]:
    connection = psycopg2.connect(server.dsn())
    with connection, connection.cursor() as cursor:
        cursor.execute("select number from ledger order by 1")
        found = [number for (number,) in cursor.fetchall()]
        cursor.execute("insert into ledger values (-1)")
        connection.rollback()
    connection.close()
    return found


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder into which PostgreSQL's user comes, too."""
    with tempfile.TemporaryDirectory(prefix="rag-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def backup(place: Path) -> Backup:
    """Rows 1 and 2 are in the base, 3 to 5 in the log alone, the last of it in a segment that was never full."""
    folder = place / "made"
    folder.mkdir()
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
        time.sleep(0.05)
        moments |= written(source, 5)
        source.stop()
        # The server waits at its end until it has all of the log.
        receiver.kill()
        receiver.wait(20)
    # As a base from a replica has it.
    (base / "data/standby.signal").touch()
    shutil.chown(base / "data/standby.signal", "postgres" if os.geteuid() == 0 else None)
    return Backup(base, wal, moments)


@pytest.fixture
def copied(backup: Backup, place: Path) -> Iterator[Backup]:
    """A backup that a test may spoil, and whose server ends with it."""
    folder = place / "spoilt"
    folder.mkdir()
    for name, source in (("base", backup.base), ("wal", backup.wal)):
        subprocess.run(["cp", "-a", str(source), str(folder / name)], check=True)
    yield Backup(folder / "base", folder / "wal", backup.moments)
    leftovers.end_left(folder)
    shutil.rmtree(folder)


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


def certified(folder: Path, authority: Authority, service: str, machine: str, at: datetime | None = None) -> Path:
    """A service's certificate on a machine, as the deploy signs it, now or at that time; the key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    wanted = Certificate(service, "postgres", (machine, "localhost"), ("127.0.0.1",))
    text = asked.public_bytes(serialization.Encoding.PEM).decode()
    path = folder / f"{service}-{machine}"
    path.with_suffix(".crt").write_bytes(signed(wanted, machine, text, authority, at or datetime.now(UTC)))
    private = path.with_suffix(".key")
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    private.chmod(0o600)
    return path


def copies(server: Server, shown: Path, authority: Path) -> str:
    """What the server says to who wants to copy it with this certificate; empty: come in."""
    link = f"host=127.0.0.1 port={server.port} user=replicator replication=true sslmode=verify-full"
    words = f"{link} sslrootcert={authority} sslcert={shown}.crt sslkey={shown}.key"
    command = [str(server.programs / "psql"), "-XAt", words, "-c", "IDENTIFY_SYSTEM"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def authority_in(folder: Path) -> Authority:
    """A site's authority, whose certificate lies there as ca.crt."""
    pem = secrets._authority_key()
    root = folder / "ca.crt"
    root.write_text(secrets._authority_certificate("lab", "authority", pem))
    signer = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(root.read_bytes()), signer)


def shown_by(folder: Path, certificate: Path, port: int = 5432) -> Settings:
    """A backup host's settings, with this certificate."""
    made = settings_in(folder)
    cluster = {
        "hosts": ["127.0.0.1"], "port": port, "name": "postgres", "user": "replicator",
        "ssl_root_cert": str(folder / "ca.crt"), "ssl_cert": f"{certificate}.crt", "ssl_key": f"{certificate}.key",
    }  # fmt: skip
    return made.model_copy(update={"cluster": Cluster.model_validate(cluster)})


@pytest.fixture
def pki(copied: Backup) -> Path:
    """A folder that PostgreSQL's user may fill."""
    folder = copied.base.parent / "pki"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    return folder


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


@pytest.mark.parametrize("days", [100, -1], ids=["expired", "of a clock that was ahead"])
def test_a_receiver_whose_certificate_is_of_another_time_says_so_and_has_not_received(
    copied: Backup, pki: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(pki))

    def work() -> None:
        (pki / "backup-password").write_text("unused")
        authority = authority_in(pki)
        good = certified(pki, authority, "backup", "ops1")
        bad = certified(pki, authority, "backup", "ops2", datetime.now(UTC) - timedelta(days=days))
        hba = ("hostssl all replicator 127.0.0.1/32 trust clientcert=verify-ca",)
        listen = Listen("127.0.0.1", hba, (), f"{good}.crt", f"{good}.key", str(pki / "ca.crt"))
        with running(prepared(copied.base, copied.wal, port=free_port(), listen=listen), 60) as server:
            state = State()
            settings = shown_by(pki, bad, server.port)
            problem, began = receive._once(settings, state, threading.Event())
            with primary.connected(settings.model_copy(update={"cluster": shown_as(settings, good)})):
                pass
        assert "primary = none that lets us in" in problem
        assert "certificate" in problem, problem
        assert not began
        assert watch._figures(settings, state)["rag_backup_wal_receiving"][1] == 0

    as_postgres(work)


def shown_as(settings: Settings, certificate: Path) -> Cluster:
    return settings.cluster.model_copy(update={"ssl_cert": f"{certificate}.crt", "ssl_key": f"{certificate}.key"})


def test_a_moment_is_reached_and_what_came_after_it_is_not_there(copied: Backup) -> None:
    moment = copied.moments[4] + (copied.moments[5] - copied.moments[4]) / 2

    def work() -> None:
        with running(prepared(copied.base, copied.wal, moment, port=free_port()), 60) as server:
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
