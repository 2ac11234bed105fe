"""Brings the database to this release's schema and makes the first administrator; safe to run twice or at once."""

import argparse
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.settings import ConfigurationError, Settings, credential, load_or_refuse, refuse
from app.store import users
from app.store.database import engine, reading, writing

# Any constant will do, as long as every release uses the same one.
MIGRATION_LOCK = 7_291_001


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
        hosts = ",".join(settings.database.hosts)
        sys.stderr.write(f"database = {hosts}; a primary that accepts us ({_one_line(error)}); patronictl list\n")
        return 3
    sys.stdout.write("changed\n" if pending else "unchanged\n")
    return 1 if check and pending else 0


def migrate(settings: Settings) -> bool:
    """Bring schema and first administrator about; True when anything was to do."""
    password = credential("admin-password")

    def work(connection: Connection) -> bool:
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        behind = _is_behind(connection)
        if behind:
            command.upgrade(_alembic(connection), "head")
        return users.ensure_admin(connection, settings.admin_user, password) or behind

    return writing(engine(settings.database, "read-write"), work)


def check_only(settings: Settings) -> bool:
    """True when a migration has something to do."""

    def work(connection: Connection) -> bool:
        return _is_behind(connection) or users.find_by_name(connection, settings.admin_user) is None

    # A replica may not have replayed the migration of a second ago.
    return reading(engine(settings.database, "read-write"), work)


def _is_behind(connection: Connection) -> bool:
    current = MigrationContext.configure(connection).get_current_revision()
    return current != ScriptDirectory.from_config(_alembic(connection)).get_current_head()


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _one_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
