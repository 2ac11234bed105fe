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


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    """A server whose superuser rag has the password that the tests' credentials hold."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not binaries:
        pytest.fail("PostgreSQL = not installed; its server programs; make setup")
    data = folder / "postgresql"
    data.mkdir()
    as_postgres: list[str] = []
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        shutil.chown(data, "postgres")
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
        as_postgres = ["runuser", "-u", "postgres", "--"]
    port = free_port()
    initdb = [*as_postgres, str(binaries[-1] / "initdb"), "-D", str(data), "-U", "rag", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*initdb, "--no-sync", "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    pg_ctl = [*as_postgres, str(binaries[-1] / "pg_ctl"), "-D", str(data), "-w"]
    subprocess.run(
        [*pg_ctl, "-o", options, "-l", str(data / "log"), "start"], check=True, stdout=subprocess.DEVNULL, cwd="/"
    )
    try:
        yield port
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


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

    def wait(self) -> None:
        wait_for(f"{self.command} answers, see {self.log}", self._answers_or_ended)

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
