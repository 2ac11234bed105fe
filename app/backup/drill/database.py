"""The restored PostgreSQL as a server: it takes writes, has its canaries, and its indexes and pages are whole."""

import itertools
import os
import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2

from app.backup.canaries import Canary, Memory
from app.backup.choice import NEVER, Recoveries
from app.backup.drill.checks import CheckError
from app.backup.recovered import Server

# The database's clock may be a little ahead of ours.
CLOCKS_SECONDS = 60


@contextmanager
def connected(server: Server, database: str = "rag", seconds: float = 600) -> Iterator[Any]:
    """A cursor of the superuser; no statement may take longer."""
    options = f"-c statement_timeout={int(seconds * 1000)}"
    connection = psycopg2.connect(server.dsn(database), options=options)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def one(cursor: Any, statement: str, *values: object) -> Any:
    """The only value of the only row."""
    cursor.execute(statement, values or None)
    return cursor.fetchone()[0]


def writes(server: Server) -> str:
    """A row that is committed, which only a primary takes; when that is done the database is back."""
    with connected(server, seconds=30) as cursor:
        cursor.execute("create schema rag_drill")
        cursor.execute("create table rag_drill.written as select now() as at")
        timeline = one(cursor, "select timeline_id from pg_control_checkpoint()")
        place = one(cursor, "select pg_current_wal_lsn()::text")
    return f"a write was taken at {place} on timeline {timeline}"


def state(server: Server) -> dict[str, Any]:
    """Which database this is, and how far it came."""
    reached, last = server.reached()
    with connected(server, seconds=30) as cursor:
        return {
            "postgresql": one(cursor, "show server_version"),
            "system_identifier": str(one(cursor, "select system_identifier from pg_control_system()")),
            "timeline": one(cursor, "select timeline_id from pg_control_checkpoint()"),
            "lsn": reached,
            "last_commit": last,
        }


def canaries(server: Server) -> list[Canary]:
    """All of them, oldest first."""
    with connected(server, seconds=60) as cursor:
        cursor.execute("select number, at from canaries order by number")
        return [Canary(number, at) for number, at in cursor.fetchall()]


def recent(
    found: Sequence[Canary],
    began: datetime,
    expected: Mapping[str, Any],
    remembered: Memory | None,
    most_seconds: float,
) -> str:
    """
    None missing between the first and the last, each with the time at which it was acknowledged, and the last is young.

    Its age is what would have been lost.
    """
    if not found:
        raise CheckError("canaries = none; a row every few seconds; systemctl status rag-wal")
    missing = absent(found)
    if missing:
        raise CheckError(f"canaries = without {_listed(missing)} of {found[0].number} to {found[-1].number}; all")
    last = found[-1]
    known = (
        [Canary(int(told["number"]), datetime.fromisoformat(told["at"]))] if (told := expected.get("canary")) else []
    )
    if known and last.number < known[0].number:
        raise CheckError(
            f"canaries = up to {last.number}; at least {known[0].number}, which was there when the base was made"
        )
    # What was acknowledged after the last one that came back is not yet in the repository.
    acknowledged = [one for one in (remembered.all if remembered else ()) if one.at <= last.at]
    if not acknowledged:
        raise CheckError("canaries = none remembered here to compare with; one of before; systemctl status rag-wal")
    unlike(found, [*known, *acknowledged])
    lost = (began - last.at).total_seconds()
    said = f"{found[0].number} to {last.number} without a gap, the last {lost:.1f} s before the drill began"
    if lost > most_seconds or lost < -CLOCKS_SECONDS:
        raise CheckError(f"{said}; at most {most_seconds:.0f} s; systemctl status rag-wal, chronyc tracking")
    return f"{said}; {len(acknowledged)} as they were acknowledged"


def unlike(found: Sequence[Canary], wanted: Sequence[Canary]) -> None:
    """Raise CheckError for one that was acknowledged, and is not there or has become another since."""
    there = {one.number: one.at for one in found}
    for one in wanted:
        # Before the first one there is what was cleared away as too old.
        if one.number >= found[0].number and there.get(one.number) != one.at:
            other = there.get(one.number)
            instead = f"of {other.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if other else "not there"
            raise CheckError(
                f"canary {one.number} = {instead}; that of {one.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC, which was"
                " acknowledged: what was written then is lost; docs/backup.md"
            )


def absent(found: Sequence[Canary]) -> list[int]:
    """Numbers that are missing between the first and the last."""
    numbers = {canary.number for canary in found}
    return [number for number in range(min(numbers), max(numbers) + 1) if number not in numbers] if numbers else []


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def between(
    found: Sequence[Canary], span: tuple[datetime, datetime], chance: random.Random, recoveries: Recoveries = NEVER
) -> tuple[datetime, Canary, Canary]:
    """
    A random moment between two canaries of that span, not close to either, and both of them.

    Between canaries of two histories, and while the site was being recovered, there is none that can be brought back.
    """
    since, until = span
    # A canary's time is taken a moment before it is committed.
    gaps = [
        (earlier, later)
        for earlier, later in itertools.pairwise(found)
        if since < earlier.at
        and later.at <= until
        and later.at - earlier.at > timedelta(seconds=1)
        and _of_one(earlier, later, recoveries)
    ]
    if not gaps:
        raise CheckError(
            f"window = no two canaries from {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S}; a base older than a minute"
        )
    earlier, later = chance.choice(gaps)
    return earlier.at + (later.at - earlier.at) * chance.uniform(0.4, 0.6), earlier, later


def _of_one(earlier: Canary, later: Canary, recoveries: Recoveries) -> bool:
    broken = any(before < later.at and earlier.at < after for before, after in recoveries.breaks)
    return not broken and not any(earlier.at <= end <= later.at for end in recoveries.ends)


def as_of(server: Server, latest: Sequence[Canary], moment: datetime, last: int) -> str:
    """Exactly the canaries up to ``last`` are there, and none of the later ones."""
    there, wanted = {one.number for one in canaries(server)}, {one.number for one in latest if one.number <= last}
    # What is as old as the retention may have been cleared away between the two moments.
    if lost := sorted(number for number in wanted - there):
        raise CheckError(f"{moment:%Y-%m-%d %H:%M:%S} = without canaries {_listed(lost)}; all up to {last}")
    if early := sorted(number for number in there if number > last):
        raise CheckError(f"{moment:%Y-%m-%d %H:%M:%S} = with canaries {_listed(early)}; none after {last}")
    at = moment.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC: canaries up to {last} there, {latest[-1].number - last} later ones not"


def indexes(server: Server, seconds: float) -> str:
    """Every B-tree against its table, each row."""
    words = [str(server.programs / "pg_amcheck"), "--all", "--install-missing", "--heapallindexed", "--jobs=2"]
    where = ["-h", str(server.folder), "-p", str(server.port), "-U", "postgres"]
    done = subprocess.run(
        [*words, *where],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise CheckError(f"pg_amcheck = exit {done.returncode}; whole indexes; {' '.join(said[:3])}")
    with connected(server) as cursor:
        count = one(cursor, "select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid"
                            " join pg_am a on a.oid = c.relam where a.amname = 'btree'")  # fmt: skip
    return f"{count} indexes of the database hold every row of their tables"


def checksums(server: Server, seconds: float) -> str:
    """Every page of a server that was stopped."""
    words = [str(server.programs / "pg_checksums"), "--check", "-D", str(server.data)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    bad, blocks = (re.search(rf"{word}:\s+(\d+)", done.stdout) for word in ("Bad checksums", "Blocks scanned"))
    if done.returncode or not bad or not blocks or int(bad[1]):
        said = " ".join((done.stderr or done.stdout).split())
        raise CheckError(f"pg_checksums = exit {done.returncode}; pages as they were written; {said}")
    return f"{blocks[1]} pages, 0 bad"
