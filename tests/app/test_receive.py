"""The receiver of the log against a real primary: who is let in, and what it tells of what it has."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from app.backup import primary, receive, watch
from app.backup.recovered import Listen, Server, prepared, running
from app.backup.watch import State
from tests.app.certified import authority_in, certified, shown_as, shown_by
from tests.app.recoverable import Backup, as_postgres
from tests.app.servers import free_port, wait_for


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


def asked(server: Server, question: str) -> str:
    connection = psycopg2.connect(server.dsn())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(question)
        answer = str(cursor.fetchone()[0])
    connection.close()
    return answer


def test_the_primary_soon_knows_what_is_on_the_disk_of_who_receives(
    copied: Backup, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(pki))

    def work() -> None:
        authority = authority_in(pki)
        good = certified(pki, authority, "backup", "ops1")
        hba = ("hostssl replication replicator 127.0.0.1/32 trust clientcert=verify-ca",)
        listen = Listen("127.0.0.1", hba, (), f"{good}.crt", f"{good}.key", str(pki / "ca.crt"))
        with running(prepared(copied.base, copied.wal, port=free_port(), listen=listen), 60) as server:
            settings = shown_by(pki, good, server.port)
            cluster = settings.cluster.model_copy(update={"programs": server.programs})
            settings = settings.model_copy(update={"cluster": cluster})
            asked(server, f"select pg_create_physical_replication_slot('{cluster.slot}', true)")
            stopping = threading.Event()
            receiver = threading.Thread(target=receive._receive, args=(settings, State(), stopping, {}))
            receiver.start()
            try:
                active = "select active from pg_replication_slots"
                wait_for("the receiver has its place", lambda: asked(server, active) == "True")
                written = asked(server, "select pg_logical_emit_message(true, 'test', 'a write')")
                told = f"select coalesce(restart_lsn >= '{written}', false) from pg_replication_slots"
                # Far sooner than with what a server asks by itself, or at the end of a segment.
                wait_for("the write is on the disk there", lambda: asked(server, told) == "True")
            finally:
                stopping.set()
                receiver.join()

    as_postgres(work)
