"""What a base backup must hold, asked from the primary: drills compare a restored database with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from app.backup.settings import Settings
from app.settings import credential

NAME = "rag-manifest.json"
# A count reads a whole table; one that takes longer is a primary in trouble.
COUNT_MS = 15 * 60 * 1000
TABLES = "select schemaname, tablename, tableowner from pg_tables where schemaname = 'public' order by 1, 2"
OWNER = "rag_owner"


@dataclass(frozen=True)
class Range:
    """The log that PostgreSQL needs to make the base backup whole, from its own manifest."""

    system: int
    timeline: int
    start: str
    stop: str


def range_of(data: Path) -> Range:
    """Read from backup_manifest, which pg_verifybackup has checked by then."""
    told = json.loads((data / "backup_manifest").read_text(encoding="utf-8"))
    # PostgreSQL writes the newest timeline first: a replica may follow a failover while it gives a backup.
    newest, oldest = told["WAL-Ranges"][0], told["WAL-Ranges"][-1]
    return Range(int(told["System-Identifier"]), int(newest["Timeline"]), oldest["Start-LSN"], newest["End-LSN"])


def files_of(data: Path) -> int:
    """How many files that manifest names."""
    return len(json.loads((data / "backup_manifest").read_text(encoding="utf-8"))["Files"])


def counted(settings: Settings) -> dict[str, Any]:
    """Rows of every table, the schema's revision and the newest canary, all of one moment on the primary."""
    cluster = settings.cluster
    session = psycopg2.connect(
        cluster.dsn(database=cluster.name, program="rag-base"), password=credential("backup-password")
    )
    try:
        session.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with session.cursor() as cursor:
            cursor.execute("select set_config('statement_timeout', %s, true)", (str(COUNT_MS),))
            told = tables_of(cursor)
            cursor.execute("select version_num from alembic_version")
            schema = cursor.fetchone()[0]
            cursor.execute("select number, at from canaries order by number desc limit 1")
            canary = cursor.fetchone()
            cursor.execute("select current_setting('server_version'), now()")
            version, at = cursor.fetchone()
    finally:
        session.close()
    return {
        "at": at.isoformat(),
        "postgresql": version,
        "schema": schema,
        **told,
        "documents": told["tables"].get("documents", 0),
        "passages": told["tables"].get("passages", 0),
        "canary": {"number": canary[0], "at": canary[1].isoformat()} if canary else None,
    }


def tables_of(cursor: Any) -> dict[str, Any]:
    """Rows of every table, and which tables are not the application's: they may go whenever their owner likes."""
    cursor.execute(TABLES)
    found = cursor.fetchall()
    rows = {table: rows_of(cursor, table, schema) for schema, table, _ in found}
    return {"tables": rows, "others": [table for _, table, owner in found if owner != OWNER]}


def write(path: Path, settings: Settings, counts: Mapping[str, Any], log: Range, host: str) -> None:
    """The counts, and what the backup itself is."""
    told = {
        **counts,
        "started_lsn": log.start,
        "stopped_lsn": log.stop,
        "timeline": log.timeline,
        "system_identifier": log.system,
        "release": settings.release,
        "from": host,
    }
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")


def rows_of(cursor: Any, table: str, schema: str = "public") -> int:
    """How many rows the table has."""
    cursor.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, table)))
    return int(cursor.fetchone()[0])
