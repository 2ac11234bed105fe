"""PostgreSQL's roles: each may do one thing, and only the verifier of its password reaches the server."""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.operations import Commands

PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --quiet --set ON_ERROR_STOP=1"
# A statement that failed or waited is written down whole, and holds documents, questions and the hashes of passwords.
KEPT_QUIET = "SET log_min_error_statement = 'panic'"
NOTHING = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


@dataclass(frozen=True)
class Role:
    """One login; the password never shows in a log."""

    name: str
    password: str
    rights: str = NOTHING
    member_of: str = ""

    def __repr__(self) -> str:
        return f"Role({self.name})"

    @property
    def verifier(self) -> str:
        """The same for the same password, so that a second run can tell that nothing changed."""
        salt = hashlib.sha256(f"{self.name}:{self.password}".encode()).digest()[:16]
        return scram_verifier(self.password, salt)

    @property
    def mark(self) -> str:
        """Kept in the role's comment, says what it was made of."""
        return hashlib.sha256(f"{self.verifier} {self.rights} {self.member_of} {KEPT_QUIET}".encode()).hexdigest()[:16]


def scram_verifier(password: str, salt: bytes, iterations: int = 4096) -> str:
    """What PostgreSQL stores of a password (RFC 5802, RFC 7677), so that the password itself never gets there."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.digest(salted, label, "sha256") for label in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    salt_text, stored_text, server_text = (b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


class Marks(FactBase[dict[str, str]]):
    """Role to its mark; the database's owner under its name and a dot; ``replica`` where nothing may be changed."""

    @staticmethod
    def default() -> dict[str, str]:
        """Nothing answers."""
        return {}

    def command(self, database: str) -> str:
        """Through the local socket, as the superuser."""
        return (
            f"{PSQL} --tuples-only --no-align --field-separator ' ' --command "
            "\"select 'replica', '' where pg_is_in_recovery() union all "
            "select rolname, coalesce(shobj_description(oid, 'pg_authid'), '') from pg_roles where rolcanlogin "
            f"union all select datname || '.', datdba::regrole::text from pg_database where datname = '{database}'\" "
            "2>/dev/null || true"
        )

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """A line each."""
        return dict(line.rstrip().partition(" ")[::2] for line in output if line.strip())


@operation()
def roles(wanted: Iterable[Role], database: str, owner: str) -> Commands:
    """
    On the primary: these roles and a database of the owner's; the replicas get them by replication.

    + wanted: every role; one whose password, rights or group differ is put right
    + database: made when it is not there
    + owner: owns the database and all in it, which another role may have owned before
    """
    wanted = tuple(wanted)
    found = host.get_fact(Marks, database=database)
    stale = [role for role in wanted if found.get(role.name) != role.mark]
    if "replica" in found or (not stale and found.get(f"{database}.") == owner):
        host.noop("the roles are there" if "replica" not in found else "a replica gets them from the primary")
        return
    yield StringCommand(PSQL, _stdin=_of_roles(stale))
    # A database that the superuser has made and not yet given away has nothing in it.
    if (before := found.get(f"{database}.", owner)) not in {owner, "postgres"}:
        # The role that owned everything until now goes on with what it does every day.
        statements = (
            f"REASSIGN OWNED BY {before} TO {owner};\n"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {before};\n"
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {before};\n"
            # Owning the database it could connect; the line below that lets it may come too late.
            f"{_may_connect(database)}"
        )
        yield StringCommand(f"{PSQL} --single-transaction --dbname {database}", _stdin=statements)
    yield StringCommand(PSQL, _stdin=_of_database(database, owner))


def _of_roles(stale: list[Role]) -> str:
    # A verifier in the server's log would be a gift to who guesses passwords at leisure.
    lines = ["SET log_statement = 'none';", f"{KEPT_QUIET};"]
    for role in stale:
        lines += [
            f"SELECT 'CREATE ROLE {role.name}' WHERE NOT EXISTS "
            f"(SELECT FROM pg_roles WHERE rolname = '{role.name}')\\gexec",
            f"ALTER ROLE {role.name} LOGIN {role.rights} PASSWORD '{role.verifier}';",
            f"ALTER ROLE {role.name} {KEPT_QUIET};",
            *([f"GRANT {role.member_of} TO {role.name};"] if role.member_of else []),
            f"COMMENT ON ROLE {role.name} IS '{role.mark}';",
        ]
    return "\n".join([*lines, ""])


def _of_database(database: str, owner: str) -> str:
    # The owner's name at the database is the last word, and says that all before it is done.
    return (
        f"SELECT 'CREATE DATABASE {database}' "
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}')\\gexec\n"
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"
        f"{_may_connect(database)}"
        f"ALTER DATABASE {database} OWNER TO {owner};\n"
    )


def _may_connect(database: str) -> str:
    return f"GRANT CONNECT ON DATABASE {database} TO {database}, {database}_read, {database}_backup;\n"
