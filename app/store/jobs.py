"""The queue of documents to index: a job belongs to one worker for the length of a lease it must keep extending.

Who ends a job and changes documents holds the documents first, several by their ids, as a deletion does: in another
order the two would wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

CHANNEL = "rag_jobs"


@dataclass(frozen=True)
class Job:
    id: int
    document_id: UUID
    attempts: int
    owner: str


def add(connection: Connection, document_id: UUID) -> None:
    """Queue the document, once, and wake the workers when this transaction commits."""
    statement = text("insert into jobs (document_id) values (:id) on conflict (document_id) do nothing")
    connection.execute(statement, {"id": document_id})
    connection.execute(text(f"select pg_notify('{CHANNEL}', '')"))


def take(connection: Connection, owner: str, lease_seconds: float) -> Job | None:
    """The oldest job nobody holds, now leased to ``owner``; None when there is none.

    An owner takes one job: asked again, since nobody told whether the first time arrived, it is the same one.
    """
    row = (
        connection.execute(
            text(
                "update jobs set lease_until = clock_timestamp() + make_interval(secs => :lease) where owner = :owner"
                " returning id, document_id, attempts"
            ),
            {"owner": owner, "lease": lease_seconds},
        ).one_or_none()
        or connection.execute(
            text(
                "update jobs set attempts = attempts + 1, owner = :owner,"
                " lease_until = clock_timestamp() + make_interval(secs => :lease)"
                " where id = (select id from jobs where run_after <= clock_timestamp()"
                " and (lease_until is null or lease_until < clock_timestamp())"
                " order by id for update skip locked limit 1)"
                " returning id, document_id, attempts"
            ),
            {"owner": owner, "lease": lease_seconds},
        ).one_or_none()
    )
    return Job(row.id, row.document_id, row.attempts, owner) if row else None


def fellows(connection: Connection, job: Job, most: int, shares: int, largest: int) -> list[Job]:
    """More jobs for the owner of this one, whose documents have no more than ``largest`` bytes and were never tried.

    No more than ``most``, nor than a share of those that wait: the others are for other threads, here and elsewhere.
    """
    rows = connection.execute(
        text(
            "with waiting as materialized ("
            " select from jobs where run_after <= clock_timestamp() and lease_until is null limit :most * :shares"
            "), taken as materialized ("
            " select j.id from jobs j join documents d on d.id = j.document_id"
            " where j.run_after <= clock_timestamp() and j.lease_until is null and j.attempts = 0"
            " and d.size <= :largest order by j.id for update of j skip locked"
            " limit (select count(*) / :shares from waiting)"
            ") update jobs set attempts = attempts + 1, owner = :owner,"
            " lease_until = (select lease_until from jobs where id = :id)"
            " where id in (select id from taken) returning id, document_id, attempts"
        ),
        {"owner": job.owner, "id": job.id, "most": most, "shares": shares, "largest": largest},
    )
    return [Job(row.id, row.document_id, row.attempts, job.owner) for row in rows]


def held(connection: Connection, owner: str) -> list[Job]:
    """What the owner has taken."""
    statement = text("select id, document_id, attempts from jobs where owner = :owner")
    rows = connection.execute(statement, {"owner": owner})
    return [Job(row.id, row.document_id, row.attempts, owner) for row in rows]


def extend(connection: Connection, jobs: Sequence[Job], lease_seconds: float) -> set[UUID]:
    """Keep the jobs of one owner for another lease; the documents of those that are still ours."""
    statement = text(
        # In one order: who ends them one after the other would wait for who extends them, and be waited for.
        "with ours as materialized (select id from jobs where id = any(:ids) and owner = :owner order by id for update)"
        " update jobs set lease_until = clock_timestamp() + make_interval(secs => :lease)"
        " where id in (select id from ours) returning document_id"
    )
    wanted = {"ids": [job.id for job in jobs], "owner": jobs[0].owner, "lease": lease_seconds}
    return set(connection.execute(statement, wanted).scalars())


def finish(connection: Connection, job: Job) -> bool:
    """Take the job off the queue; False when it is no longer ours and its result must not be published."""
    statement = text("delete from jobs where id = :id and owner = :owner")
    return connection.execute(statement, {"id": job.id, "owner": job.owner}).rowcount == 1


def release(connection: Connection, job: Job, pause_seconds: float, *, tried: bool) -> bool:
    """Give the job back for anyone to take after the pause; the attempt counts only if it was ``tried``."""
    statement = text(
        "update jobs set attempts = attempts - :untried, owner = null, lease_until = null,"
        " run_after = clock_timestamp() + make_interval(secs => :pause) where id = :id and owner = :owner"
    )
    parameters = {"id": job.id, "owner": job.owner, "pause": pause_seconds, "untried": int(not tried)}
    result = connection.execute(statement, parameters)
    return result.rowcount == 1


@dataclass(frozen=True)
class Queue:
    """How many jobs are in which state, and for how many seconds the one that is due for longest has waited."""

    due: int
    paused: int
    held: int
    lapsed: int
    oldest_seconds: float


def queue(connection: Connection) -> Queue:
    """The queue as it is now."""
    statement = text(
        "select count(*) filter (where lease_until is null and run_after <= now) as due,"
        " count(*) filter (where lease_until is null and run_after > now) as paused,"
        " count(*) filter (where lease_until >= now) as held, count(*) filter (where lease_until < now) as lapsed,"
        " coalesce(extract(epoch from max(now - run_after) filter (where lease_until is null and run_after <= now)), 0)"
        " as oldest_seconds from (select *, clock_timestamp() as now from jobs) jobs"
    )
    row = connection.execute(statement).one()
    return Queue(row.due, row.paused, row.held, row.lapsed, float(row.oldest_seconds))


def drop(connection: Connection, document_id: UUID) -> None:
    """Take the document's job off the queue, whoever holds it."""
    connection.execute(text("delete from jobs where document_id = :id"), {"id": document_id})
