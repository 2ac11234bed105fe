"""Canaries have numbers without a gap, also after one that was given up, and those that are lost are found out."""

import importlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from app.backup.canaries import Canary, Memory
from app.backup.drill.checks import CheckError
from app.backup.drill.database import recent
from app.backup.primary import CANARY, sing
from tests.app.servers import postgresql

MIGRATION = importlib.import_module("app.store.migrations.versions.0010_canaries")


def test_the_next_number_follows_the_last_one_that_is_there() -> None:
    with tempfile.TemporaryDirectory(prefix="rag-") as folder, postgresql(Path(folder)) as server:
        connection = psycopg2.connect(host=server.address, port=server.port, user="postgres", dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(MIGRATION.CANARIES)
            numbers = []
            for given_up in (False, False, True, False, False):
                if given_up:
                    # A sequence, which a failover moves on too, would not go back.
                    cursor.execute(f"begin; {CANARY}; rollback")
                    continue
                cursor.execute(CANARY)
                numbers.append(cursor.fetchone()[0])
            cursor.execute("delete from canaries where number = 1")
            cursor.execute(CANARY)
            numbers.append(cursor.fetchone()[0])
        connection.close()

    assert numbers == [1, 2, 3, 4, 5]


def test_a_lost_tail_gives_its_numbers_again_and_is_found_out_by_what_was_acknowledged() -> None:
    with tempfile.TemporaryDirectory(prefix="rag-") as folder, postgresql(Path(folder)) as server:
        session = psycopg2.connect(host=server.address, port=server.port, user="postgres", dbname="postgres")
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(MIGRATION.CANARIES)
        memory = Memory(1)
        for _ in range(5):
            canary = sing(session, timedelta(days=40))
            assert canary
            memory = memory.with_new(canary)
        acknowledged = memory.kept
        with session.cursor() as cursor:
            # As of a primary that was promoted without them.
            cursor.execute("delete from canaries where number > 3")
        canary = sing(session, timedelta(days=40))
        assert canary
        memory = memory.with_new(canary)
        with session.cursor() as cursor:
            cursor.execute("select number, at from canaries order by number")
            restored = [Canary(number, at) for number, at in cursor.fetchall()]
        session.close()

    assert [one.number for one in restored] == [1, 2, 3, 4]
    assert memory.lost == acknowledged[3:]
    with pytest.raises(CheckError, match=r"canary 4 = of .* which was acknowledged"):
        recent(restored, datetime.now(UTC), {"canary": None}, memory, 120)
