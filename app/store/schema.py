"""Which programs work in the schema as it is: those that know it, and those from a revision on that it tells itself."""

from functools import cached_property
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.settings import ConfigurationError

# A program of before a migration has to read it, so it lies where every program looks already, with its revision.
SERVES = "{revision} serves "
TOLD = "select coalesce(obj_description(to_regclass('alembic_version'), 'pg_class'), '')"


class Scripts:
    """This release's migrations."""

    def __init__(self, connection: Connection) -> None:
        self.config = Config()
        self.config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        self.config.attributes["connection"] = connection
        self._connection = connection

    @cached_property
    def directory(self) -> ScriptDirectory:
        """The files."""
        return ScriptDirectory.from_config(self.config)

    def current(self) -> str | None:
        """The revision of the database; None for one without a table."""
        return MigrationContext.configure(self._connection).get_current_revision()

    def is_behind(self) -> bool:
        """Whether a migration is to do; raise ConfigurationError for a later schema that does not serve us."""
        current, head = self.current(), self.directory.get_current_head()
        known = {script.revision for script in self.directory.walk_revisions()}
        if current is None or current in known:
            return current != head
        least = served(self._connection, current)
        if least in known:
            return False
        later = f"one of a program that knows {least}, or a later one" if least else "the one that made it"
        raise ConfigurationError(
            f"schema = {current}; this release knows it up to {head}, so another release: {later};"
            " docs/operations.md, Go back to the release before"
        )

    def tell(self) -> None:
        """Write down for earlier releases what the migration that was just done says of them."""
        current = self.current()
        serves = getattr(self.directory.get_revision(current).module, "serves", None) if current else None
        if serves:
            said = f"{SERVES.format(revision=current)}{serves}".replace("'", "''")
            self._connection.execute(text(f"comment on table alembic_version is '{said}'"))


def served(connection: Connection, revision: str) -> str | None:
    """What a program must know at least to work in this revision of the schema; None where no migration told."""
    return oldest(str(connection.execute(text(TOLD)).scalar_one()), revision)


def oldest(told: str, revision: str) -> str | None:
    """The same out of what the database tells."""
    prefix = SERVES.format(revision=revision)
    return told.removeprefix(prefix) if told.startswith(prefix) else None
