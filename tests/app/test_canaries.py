"""Canaries have numbers without a gap, whatever a failover does to the sequence that could give them."""

import importlib
import tempfile
from pathlib import Path

import psycopg2

from app.backup.primary import CANARY
from tests.app.servers import postgresql

MIGRATION = importlib.import_module("app.store.migrations.versions.0010_canaries")


def test_the_next_number_follows_the_last_also_after_a_failover() -> None:
    with tempfile.TemporaryDirectory(prefix="rag-") as folder, postgresql(Path(folder)) as server:
        connection = psycopg2.connect(host=server.address, port=server.port, user="postgres", dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(MIGRATION.CANARIES)
            numbers = []
            for restart in (False, False, True, False):
                if restart:
                    # A new primary's sequence goes on behind what the old one had written ahead.
                    cursor.execute("select setval(pg_get_serial_sequence('canaries', 'number'), 34)")
                cursor.execute(CANARY)
                numbers.append(cursor.fetchone()[0])
            cursor.execute("delete from canaries where number = 1")
            cursor.execute(CANARY)
            numbers.append(cursor.fetchone()[0])
        connection.close()

    assert numbers == [1, 2, 3, 4, 5]
