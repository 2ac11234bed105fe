"""Real servers for the tests: PostgreSQL, Chroma and our own processes, on loopback ports of their own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for(what: str, condition: Callable[[], object], seconds: float = 20) -> None:
    """Return once the condition holds; fail with its name when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 0.2):
        return True
    return False


@dataclass(frozen=True)
class PostgreSQL:
    """A server whose superuser is postgres; it can lose and regain its place as the primary."""

    data: Path
    port: int
    programs: Path
    address: str = "127.0.0.1"
    settings: str = ""

    def start(self) -> None:
        where = f"-c port={self.port} -c listen_addresses={self.address} -c unix_socket_directories=''"
        self._pg_ctl("-o", f"{where} -c fsync=off {self.settings}", "-l", str(self.data / "log"), "start")

    def stop(self) -> None:
        self._pg_ctl("-m", "fast", "stop")

    def end(self) -> None:
        """Whether it still runs or not."""
        if listens(self.port, self.address):
            self._pg_ctl("-m", "immediate", "stop")

    def demote(self) -> None:
        """As a replica whose primary is gone: it answers, and takes nothing."""
        self.stop()
        (self.data / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        self._pg_ctl("promote")

    def kill(self) -> None:
        """As when the kernel kills it: no goodbye to anybody."""
        for process in self._processes():
            os.kill(process, signal.SIGKILL)
        wait_for("the server is gone", lambda: not listens(self.port, self.address))

    @contextlib.contextmanager
    def frozen(self, titled: str = "") -> Iterator[None]:
        """It says nothing any more, though its machine still takes what it is sent; or only those sessions do so."""
        stopped = [process for process in self._processes() if not titled or titled in _title(process)]
        assert stopped
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def _pg_ctl(self, *arguments: str) -> None:
        _as_postgres(str(self.programs / "pg_ctl"), "-D", str(self.data), "-w", *arguments)


def _title(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


@contextlib.contextmanager
def postgresql(folder: Path, settings: str = "") -> Iterator[PostgreSQL]:
    """A fresh server, running."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.fail("PostgreSQL = not installed; its server programs; make setup")
    data = _folder_of_postgres(folder, "postgresql")
    initdb = (str(programs[-1] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
    _as_postgres(*initdb, "--no-sync", "--locale=C.UTF-8")
    server = PostgreSQL(data, free_port(), programs[-1], settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def replica_of(primary: PostgreSQL, folder: Path) -> Iterator[PostgreSQL]:
    """A streaming replica, running; on the primary's port, as on a site, and an address of its own."""
    data = _folder_of_postgres(folder, "replica")
    copy = (str(primary.programs / "pg_basebackup"), "-h", primary.address, "-p", str(primary.port), "-U", "postgres")
    _as_postgres(*copy, "-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
    server = PostgreSQL(data, primary.port, primary.programs, "127.0.0.2")
    server.start()
    try:
        yield server
    finally:
        server.end()


def _folder_of_postgres(folder: Path, name: str) -> Path:
    data = folder / name
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
        folder.chmod(0o755)
    return data


def _as_postgres(*command: str) -> None:
    # PostgreSQL refuses to run as root.
    prefix = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


@dataclass
class Process:
    """One of our programs; may be ended, killed and started again."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    answers: Callable[[], bool] = lambda: True
    _child: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return self._child.pid if self._child else None

    def wait(self) -> None:
        wait_for(f"{self.command} answers, see {self.log}", self._answers_or_ended, 60)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process as systemd would, or kill it with all its children; its exit code."""
        if self._child is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)
        code = self._child.wait(20)
        self._child = None
        return code

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It says nothing, though its machine still takes what it is sent."""
        assert self._child
        self._child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _answers_or_ended(self) -> bool:
        if not self.running:
            pytest.fail(f"ended: {self.command}: {self.log.read_text()[-2000:]}")
        return self.answers()


def chroma(folder: Path, port: int) -> Process:
    """The server that the fleet runs."""
    program = Path(os.environ.get("RAG_CHROMA_BIN", ROOT / "build/venv/chroma/bin/chroma"))
    if not program.exists():
        pytest.fail(f"RAG_CHROMA_BIN = {program}; Chroma's program; make setup")
    command = [str(program), "run", "--path", str(folder / "chroma"), "--host", "127.0.0.1", "--port", str(port)]
    return Process(command, dict(os.environ), folder / "chroma.log", lambda: listens(port))


def ours(command: list[str], environment: dict[str, str], log: Path, url: str) -> Process:
    """One of the application's processes, there once ``url`` answers at all."""

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, trust_env=False).status_code > 0
        return False

    return Process([sys.executable, "-m", *command], environment, log, answers)
