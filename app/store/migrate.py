"""Brings the database to this release's schema and makes the first administrator; safe to run twice or at once."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from alembic import command
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app.settings import ConfigurationError, Database, Settings, credential, load_or_refuse, refuse
from app.store import audit, fulltext, models, positions, users
from app.store.database import engine, reading, writing
from app.store.schema import Scripts

# Any constant will do, as long as every release uses the same one.
MIGRATION_LOCK = 7_291_001
# A table of years takes its time; the unit's own limit is the same.
MIGRATION_SECONDS = 3600
# Whoever waits for a table is waited for by everybody who comes after: better none of it, and again a little later.
LOCK_SECONDS, LOCK_PAUSE_SECONDS, LOCK_TRIES = 2, 3.0, 20
LOCKED = "55P03"

# What somebody else keeps in the database is theirs: neither granted nor asked for.
OURS = """
select string_agg(oid::regclass::text, ', ') from pg_class
where relnamespace = 'public'::regnamespace and pg_has_role(relowner, 'usage') and relkind = :kind
"""

LACKING = """
with ours as (
    select * from pg_class where relnamespace = 'public'::regnamespace and pg_has_role(relowner, 'usage')
)
select not has_database_privilege(:user, current_database(), 'connect')
    or not has_database_privilege(:reader, current_database(), 'connect')
    or exists (
        select from ours where relkind = 'r' and not (
            has_table_privilege(:reader, oid, 'select') and has_table_privilege(:user, oid, 'select')
            and (relname in ('alembic_version', 'audit') or has_table_privilege(:user, oid, 'insert'))
            and (relname in ('alembic_version', 'audit')
                or has_table_privilege(:user, oid, 'update') and has_table_privilege(:user, oid, 'delete'))
        )
    )
    or not has_function_privilege(:reader, :tell, 'execute')
    or not has_function_privilege(:reader, :tell_slot, 'execute')
    or exists (
        select from ours where relname = 'audit' and not pg_has_role(:user, relowner, 'member')
        and has_table_privilege(:user, oid, 'insert, update, delete, truncate')
    )
    or exists (
        select from ours where case when relname = 'audit' then not has_column_privilege(:user, oid, 'actor', 'insert')
        or not pg_has_role(:user, relowner, 'member') and has_column_privilege(:user, oid, 'at', 'insert') end
    )
    or not coalesce(has_function_privilege(:user, to_regprocedure('purge_audit(interval)'), 'execute'), false)
    or exists (
        select from ours where case when relkind = 'S' then not has_sequence_privilege(:user, oid, 'usage') end
    )
"""


def main(arguments: list[str]) -> int:
    """Print "changed" or "unchanged"; with --check change nothing and exit 1 when something is to do."""
    parser = argparse.ArgumentParser(prog="python -m app.store.migrate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 0 when nothing is to do, 1 when something is")
    check = parser.parse_args(arguments).check
    settings = load_or_refuse()
    try:
        pending = check_only(settings) if check else migrate(settings)
    except ConfigurationError as error:
        refuse(error)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == LOCKED:
            sys.stderr.write(
                f"schema = a table held by others at {LOCK_TRIES} tries of {LOCK_SECONDS} s; an end of their work,"
                " which pg_stat_activity shows by xact_start; systemctl restart rag-migrate\n"
            )
            return 3
        hosts = ",".join(settings.database.hosts)
        sys.stderr.write(f"database = {hosts}; a primary that accepts us ({_one_line(error)}); patronictl list\n")
        return 3
    sys.stdout.write("changed\n" if pending else "unchanged\n")
    return 1 if check and pending else 0


def migrate(settings: Settings) -> bool:
    """Bring schema, privileges and first administrator about; True when anything was to do.

    Each migration is a transaction of its own, so what is done stays done when a later one has to be tried again.
    """
    admin = users.new(uuid4(), settings.admin_user, credential("admin-password"), "admin")
    pool = engine(settings.database, "read-write", role="owner", work_seconds=MIGRATION_SECONDS)
    language = settings.answering.language
    changed = False

    def next_one(connection: Connection) -> bool:
        scripts = Scripts(connection)
        if not scripts.is_behind():
            return False
        command.upgrade(scripts.config, "+1")
        scripts.tell()
        return True

    def rest(connection: Connection) -> None:
        nonlocal changed
        if refusal := _refusal(connection, settings):
            raise ConfigurationError(refusal)
        if _lacks_privileges(connection, settings.database):
            changed = True
            _give_privileges(connection, settings.database)
        # In a later try an earlier one may prove to have been committed, so what was done stays true.
        changed = users.ensure_admin(connection, admin) or changed

    step = _stepping(pool)
    while step(next_one):
        changed = True
    step(rest)
    if not step(lambda connection: fulltext.speaks(connection, language)):
        changed = True
        count = fulltext.rebuild(step, pool, language)
        sys.stderr.write(f"full text = {language}; the words of {count} passages made anew\n")
    elif step(fulltext.has_remains):
        changed = True
        step(fulltext.clear)
    return changed


def _stepping(pool: Engine) -> fulltext.Step:
    """What runs a step in one transaction, one migration at a time, and gives way to whoever holds a table."""

    def locked(connection: Connection, work: Callable[[Connection], Any]) -> Any:
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text(f"set local lock_timeout = '{LOCK_SECONDS}s'"))
        return work(connection)

    def step(work: Callable[[Connection], Any]) -> Any:
        left = LOCK_TRIES
        while True:
            left -= 1
            try:
                return writing(pool, lambda connection: locked(connection, work))
            except DBAPIError as error:
                if getattr(error.orig, "pgcode", None) != LOCKED or not left:
                    raise
            time.sleep(LOCK_PAUSE_SECONDS)

    return step


def check_only(settings: Settings) -> bool:
    """True when a migration has something to do."""

    def work(connection: Connection) -> bool:
        return (
            Scripts(connection).is_behind()
            or not fulltext.speaks(connection, settings.answering.language)
            or fulltext.has_remains(connection)
            or _lacks_privileges(connection, settings.database)
            or users.find_by_name(connection, settings.admin_user) is None
            or _refusal(connection, settings) is not None
        )

    # A replica may not have replayed the migration of a second ago.
    return reading(engine(settings.database, "read-write", role="owner"), work)


def _refusal(connection: Connection, settings: Settings) -> str | None:
    """Why this configuration's embedding models are not those of the passages."""
    return models.stored(connection).refusal([one.space for one in settings.inference.embedders])


def _lacks_privileges(connection: Connection, database: Database) -> bool:
    """True when the application or its reader lacks a privilege, as after a new table or on an older site."""
    parameters = {
        "user": database.login("user")[0],
        "reader": database.login("reader")[0],
        "tell": positions.TELL,
        "tell_slot": positions.TELL_SLOT,
    }
    return bool(connection.execute(text(LACKING), parameters).scalar_one())


def _give_privileges(connection: Connection, database: Database) -> None:
    """Let the application change rows and its reader see them and tell a position; tables are the owner's alone."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    name, (user, _), (reader, _) = quote(database.name), database.login("user"), database.login("reader")
    user, reader = quote(user), quote(reader)
    tables, sequences = (_ours(connection, kind) for kind in "rS")
    for statement in (
        f"grant connect on database {name} to {user}, {reader}",
        f"grant usage on schema public to {user}, {reader}",
        f"grant select on {tables} to {user}, {reader}",
        f"grant insert, update, delete on {tables} to {user}",
        f"grant usage on sequence {sequences} to {user}",
        f"grant execute on function {positions.TELL}, {positions.TELL_SLOT} to {reader}",
    ):
        connection.execute(text(statement))
    connection.execute(text(f"grant execute on function purge_audit(interval) to {user}"))
    # The schema's version says what the owner did, and the audit what everybody did: nobody else rewrites either.
    if database.owner and database.owner != database.user:
        connection.execute(text(f"revoke insert, update, delete on alembic_version from {user}"))
        # And when: that is the database's clock.
        connection.execute(text(f"revoke insert, update, delete, truncate on audit from {user}"))
        connection.execute(text(f"grant insert ({audit.WRITTEN}) on audit to {user}"))


def _ours(connection: Connection, kind: str) -> str:
    """Our relations of this kind (r: tables, S: sequences), as a grant lists them."""
    return str(connection.execute(text(OURS), {"kind": kind}).scalar_one())


def _one_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
