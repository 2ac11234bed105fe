"""A PostgreSQL out of a base backup and WAL: recovered to a moment or to the end of the WAL, in a folder of ours."""

import contextlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql")
# Of the end of its own log, which says why a server did not come up.
REASONS = re.compile(r"\b(?:FATAL|PANIC|ERROR):\s+(.*)")
REACHED = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
LAST_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")

# A file that is not in the WAL ends the recovery, as it must at its end; one that is there and cannot be copied must
# not, and PostgreSQL takes codes above 125 for that. The receiver names the segment that it still writes .partial, and
# has not filled it with zeros at once; when the segment is full it renames it, perhaps between two of these looks.
FETCH = """\
#!/bin/sh
for from in {wal}/"$1" {wal}/"$1".partial {wal}/"$1"; do
    [ -e "$from" ] || continue
    if cp "$from" "$2"; then
        case "$from" in *.partial) truncate --size={segment} "$2" || exit 200 ;; esac
        exit 0
    fi
    [ -e "$from" ] && exit 200
done
exit 1
"""

SETTINGS = """\
# Written by app/backup/recovered.py for a server that is thrown away; production's own settings play no part.
data_directory = '{data}'
hba_file = '{folder}/pg_hba.conf'
ident_file = '{folder}/pg_ident.conf'
unix_socket_directories = '{folder}'
unix_socket_permissions = 0700
listen_addresses = '{addresses}'
port = {port}
shared_buffers = 128MB
max_connections = 100
wal_level = replica
archive_mode = off
synchronous_standby_names = ''
primary_conninfo = ''
restore_command = 'sh {fetch} "%f" "%p"'
recovery_target_timeline = 'latest'
recovery_target_action = 'promote'
# Nobody reads before the end, so no setting need be as large as production's.
hot_standby = off
password_encryption = 'scram-sha-256'
log_timezone = 'UTC'
timezone = 'UTC'
lc_messages = 'C'
log_line_prefix = '%m [%p] '
"""


class RecoveryError(Exception):
    """The backup did not become a server; the message is one line."""


@dataclass(frozen=True)
class Listen:
    """Where others come in besides the socket, and the lines of pg_hba.conf that say who; a certificate means TLS."""

    addresses: str
    hba: tuple[str, ...]
    ident: tuple[str, ...] = ()
    """Lines of pg_ident.conf, for those who come by certificate."""
    certificate: str = ""
    key: str = ""
    authority: str = ""


@dataclass(frozen=True)
class Server:
    """A server made of a restored tree: ``base/data`` is its data, ``base/server`` all else that it needs."""

    base: Path
    port: int
    programs: Path

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def folder(self) -> Path:
        """Settings, socket and log."""
        return self.base / "server"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def command(self) -> list[str]:
        """What runs it in the foreground, as a unit does."""
        settings = self.folder / "postgresql.conf"
        return [str(self.programs / "postgres"), "-D", str(self.data), "-c", f"config_file={settings}"]

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Through the socket, which only we and root can reach."""
        return f"host={self.folder} port={self.port} dbname={database} user={user} connect_timeout=5"

    def start(self, seconds: float) -> None:
        """Recover and come up; raise RecoveryError with the server's own reason when it does not in time."""
        end = time.monotonic() + seconds
        options = shlex.join(self.command[3:])
        limit = ("-t", str(max(1, int(seconds))))
        # Its own folder: whoever finds a process there knows whose it is.
        words = [str(self.programs / "pg_ctl"), "start", "-w", *limit, "-s", "-D", str(self.data), "-o", options]
        with self.log.open("ab") as log:
            done = subprocess.run(
                [*words, "-l", str(self.log)],
                cwd=self.data,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        # Where nobody reads during a recovery, pg_ctl takes its beginning for its end.
        while not done.returncode and not self.ready() and self.pid() and time.monotonic() < end:
            time.sleep(0.05)
        if not self.ready():
            raise RecoveryError(f"recovered database = not up within {seconds:.0f} s; {self.reason()}; {self.log}")

    def ready(self) -> bool:
        """Whether the recovery is over and writes are taken."""
        with contextlib.suppress(OSError, IndexError):
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def stop(self, seconds: float = 60) -> None:
        """A clean end, as pg_checksums wants it."""
        limit = ("-t", str(max(1, int(seconds))))
        words = [str(self.programs / "pg_ctl"), "stop", "-m", "fast", "-w", *limit, "-s", "-D", str(self.data)]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode and self.pid():
            raise RecoveryError(f"recovered database = not stopped within {seconds:.0f} s; {done.stderr.strip()}")

    def pid(self) -> int | None:
        """The running server's process."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            process = int((self.data / "postmaster.pid").read_text().split()[0])
            # After a crash the number may be anybody's.
            if Path(f"/proc/{process}/cwd").readlink() == self.data.resolve():
                return process
        return None

    def reason(self) -> str:
        """What its log says last about a failure."""
        found = REASONS.findall(self._said())
        return found[-1] if found else "its log tells no reason"

    def reached(self) -> tuple[str, str]:
        """Where the recovery ended, and the commit time of the last transaction; empty where none was replayed."""
        said = self._said()
        positions, commits = REACHED.findall(said), LAST_COMMIT.findall(said)
        return positions[-1] if positions else "", commits[-1] if commits else ""

    def ended(self) -> datetime | None:
        """When the last write was made that was replayed, in this or an earlier try; None: none was."""
        _, commit = self.reached()
        return datetime.fromisoformat(commit) if commit else None

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")[-100_000:]
        return ""


def prepared(
    base: Path, wal: Path, target: datetime | None = None, *, port: int, listen: Listen | None = None
) -> Server:
    """Make a server ready that recovers to ``target``, or to the end of the WAL, and then takes writes.

    ``base`` is a restored tree with ``data`` in it, which becomes the server's; ``wal`` is only read, and may be the
    spool while it grows. A target that the WAL does not reach is an error when the server starts.
    """
    server = Server(base.resolve(), port, programs_of(base / "data"))
    server.data.chmod(0o700)
    server.folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("standby.signal", "postmaster.pid", "postmaster.opts"):
        # A base comes from a replica, and brings what made it one.
        (server.data / name).unlink(missing_ok=True)
    (server.data / "postgresql.auto.conf").write_text("")
    (server.data / "recovery.signal").touch()
    segment = control(server, "Bytes per WAL segment")
    fetch = server.folder / "fetch"
    fetch.write_text(FETCH.format(wal=shlex.quote(str(wal.resolve())), segment=segment))
    addresses = listen.addresses if listen else ""
    made = SETTINGS.format(data=server.data, folder=server.folder, addresses=addresses, port=port, fetch=fetch)
    if listen and listen.certificate:
        made += f"ssl = on\nssl_cert_file = '{listen.certificate}'\nssl_key_file = '{listen.key}'\n"
        made += f"ssl_ca_file = '{listen.authority}'\n"
    if target:
        made += f"recovery_target_time = '{target.astimezone(UTC).isoformat(sep=' ')}'\n"
    (server.folder / "postgresql.conf").write_text(made)
    # The socket lies in a folder that nobody else may enter.
    lines = ["local all all trust", "local replication all trust", *(listen.hba if listen else ())]
    (server.folder / "pg_hba.conf").write_text("\n".join(lines) + "\n")
    (server.folder / "pg_ident.conf").write_text("".join(f"{line}\n" for line in (listen.ident if listen else ())))
    return server


@contextlib.contextmanager
def running(server: Server, seconds: float) -> Iterator[Server]:
    """The server, recovered and taking writes; ended afterwards, however that goes."""
    try:
        server.start(seconds)
        yield server
    finally:
        if server.pid():
            server.stop()


def programs_of(data: Path) -> Path:
    """The programs of the data's own version."""
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except OSError:
        raise RecoveryError(f"base backup = {data} without PG_VERSION; a whole data directory") from None
    found = PROGRAMS / version / "bin"
    if not (found / "postgres").exists():
        raise RecoveryError(
            f"PostgreSQL = no version {version} here; that of the backup; apt install postgresql-{version}"
        )
    return found


def control(server: Server, name: str) -> str:
    """A line of pg_controldata."""
    words = [str(server.programs / "pg_controldata"), "-D", str(server.data)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    found = re.search(rf"^{re.escape(name)}:\s+(.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise RecoveryError(f"base backup = {server.data} without {name}; a readable pg_control; {done.stderr.strip()}")
    return found[1].strip()


def verified(base: Path) -> str:
    """Compare the restored files with the backup's own manifest; raise RecoveryError naming the first that differs.

    The WAL is another matter: it is not in the base.
    """
    words = [
        str(programs_of(base / "data") / "pg_verifybackup"),
        "--no-parse-wal",
        "--exit-on-error",
        str(base / "data"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if done.returncode:
        raise RecoveryError(said[0] if said else f"pg_verifybackup = exit {done.returncode}")
    return said[-1] if said else "backup successfully verified"
