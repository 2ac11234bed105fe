"""Canaries have numbers without a gap, also after one that was given up."""

import importlib
import tempfile
from pathlib import Path

import psycopg2

from app.backup.primary import CANARY
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
