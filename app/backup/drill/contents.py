"""What the restored database must hold: the tables and rows of before, passages as told to the indexes, each byte."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory

from app.backup import manifest
from app.backup.drill.checks import CheckError
from app.backup.drill.database import connected, one
from app.backup.recovered import Server
from app.store import migrate
from app.store.schema import TOLD, oldest

ROLES = ("rag", "rag_owner", "rag_read", "rag_backup")
# A change's time is that of its transaction's beginning, which may be a little before the rows were counted.
SLACK = timedelta(minutes=5)
# The feed of changes is never cut, and is told of a document's passages in the transaction that stores them.
UNLIKE_TOLD = """
with told as (
    select distinct on (document_id) document_id, passages from changes
    where kind = 'indexed' order by document_id, seq desc
), stored as (
    select document_id, count(*) as passages from passages group by document_id
)
select d.id, d.file_name, coalesce(s.passages, 0), coalesce(t.passages, 0)
from documents d left join stored s on s.document_id = d.id left join told t on t.document_id = d.id
where d.state = 'indexed' and (s.passages is null or s.passages <> t.passages)
order by d.id
"""


def tables(server: Server, expected: Mapping[str, Any]) -> str:
    """
    Every table of the manifest, and no fewer documents than were there, less those that the change feed says went.

    What is not the application's may have been dropped since, and is named; of its own, a newer schema may lack some.
    Rows were counted when the base was made; what came and went until the drill is in the WAL, so no count need be
    equal.
    """
    counted: Mapping[str, int] = expected["tables"]
    with connected(server) as cursor:
        cursor.execute("select tablename from pg_tables where schemaname = 'public'")
        there = {name for (name,) in cursor.fetchall()}
        missing = counted.keys() - there
        others = missing & set(expected.get("others", ()))
        migrated = one(cursor, "select version_num from alembic_version") != expected["schema"]
        if (own := sorted(missing - others)) and not migrated:
            raise CheckError(f"tables = without {', '.join(own)}; those of the manifest")
        rows = {name: manifest.rows_of(cursor, name) for name in sorted(there)}
        gone = int(
            one(
                cursor,
                "select count(distinct document_id) from changes where kind = 'deleted' and created_at > %s",
                datetime.fromisoformat(expected["at"]) - SLACK,
            )
        )
    emptied = [name for name in ("alembic_version", "users", "canaries") if counted.get(name) and not rows[name]]
    if emptied:
        raise CheckError(f"tables = {', '.join(emptied)} without a row; those that every site has")
    if rows["documents"] < counted["documents"] - gone:
        raise CheckError(
            f"documents = {rows['documents']}; {counted['documents']} less the {gone} that went since the base was made"
        )
    dropped = f", {', '.join(sorted(missing))} dropped since" if missing else ""
    return f"{len(counted)} tables{dropped}, {rows['documents']} documents, {gone} deleted since the base was made"


def passages(server: Server, expected: Mapping[str, Any]) -> str:
    """Each indexed document has as many as the indexes were told of, and none went but those that the feed names."""
    with connected(server) as cursor:
        cursor.execute(UNLIKE_TOLD)
        unlike = cursor.fetchall()
        there = manifest.rows_of(cursor, "passages")
        documents = one(cursor, "select count(*) from documents where state = 'indexed'")
        gone = int(
            one(
                cursor,
                "select coalesce(sum(passages), 0) from changes where kind = 'deleted' and created_at > %s",
                datetime.fromisoformat(expected["at"]) - SLACK,
            )
        )
    if unlike:
        identifier, name, stored, told = unlike[0]
        wanted = f"{told} as the indexes were told" if told else "at least 1"
        raise CheckError(
            f"passages of {identifier} ({name}) = {stored}; {wanted}; {len(unlike)} of {documents} indexed documents"
        )
    counted: int = expected["tables"]["passages"]
    if there < counted - gone:
        raise CheckError(f"passages = {there}; {counted} less the {gone} that went since the base was made")
    if not documents:
        return "none, since no document is indexed"
    return f"{there} of {documents} indexed documents, as many of each as the indexes were told"


def schema(server: Server, expected: Mapping[str, Any]) -> str:
    """One in which this release works or which it can migrate, not older than the base's; and the roles."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    known = ScriptDirectory.from_config(config)
    head = known.get_current_head()
    order = [script.revision for script in known.walk_revisions()][::-1]
    with connected(server) as cursor:
        current = one(cursor, "select version_num from alembic_version")
        serves = oldest(one(cursor, TOLD), current)
        cursor.execute("select rolname from pg_roles")
        missing = sorted(set(ROLES) - {name for (name,) in cursor.fetchall()})
    if missing:
        raise CheckError(f"roles = without {', '.join(missing)}; those of the application")
    if current not in order and serves in order:
        return f"{current} of a later release, in which this one works"
    if current not in order:
        raise CheckError(f"schema = {current}; one that this release knows, up to {head}")
    if expected["schema"] in order and order.index(current) < order.index(expected["schema"]):
        raise CheckError(f"schema = {current}; at least {expected['schema']}, which the base had")
    return f"{current}, this release's" if current == head else f"{current}; this release migrates it to {head}"


def documents(server: Server, most: int | None) -> str:
    """The bytes of every document, or of ``most`` taken at random, against their sha256 and size."""
    with connected(server, seconds=6 * 3600) as cursor:
        cursor.execute(
            # No limit is all of them.
            "select id, file_name, size, encode(sha256(source), 'hex') = sha256 and length(source) = size as whole"
            " from documents where id in (select id from documents order by random() limit %s)",
            (most,),
        )
        rows = cursor.fetchall()
        total = one(cursor, "select count(*) from documents")
    changed = [(identifier, name) for identifier, name, _, whole in rows if not whole]
    if changed:
        identifier, name = changed[0]
        raise CheckError(
            f"documents = {len(changed)} of {len(rows)} changed, first {identifier} ({name}); their sha256"
        )
    return f"{len(rows)} of {total} documents, {sum(size for _, _, size, _ in rows) / 1e6:.1f} MB, byte for byte"
