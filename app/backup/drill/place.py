"""Where a drill works: one folder, one drill at a time, and nothing left of an earlier one."""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from app.backup import leftovers
from app.backup.drill.checks import CheckError
from app.backup.settings import Settings
from app.settings import ConfigurationError


@contextlib.contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """An empty folder, removed afterwards; raise ConfigurationError while another drill has it."""
    settings.scratch.mkdir(mode=0o700, exist_ok=True)
    folder = settings.scratch / "drill"
    with (settings.scratch / "drill.lock").open("a") as lock:
        try:
            # The kernel lets go of it when a drill is killed; what that left is put away here.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                "drill = another one runs; its end is needed; systemctl status 'rag-drill*'"
            ) from None
        put_away(folder)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            put_away(folder)


def put_away(folder: Path) -> None:
    """End what works in the folder and delete it."""
    if not folder.exists():
        return
    leftovers.end_left(folder)
    shutil.rmtree(folder)


def free_port() -> int:
    """A port on loopback that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], answers: Callable[[], bool], seconds: float
) -> Iterator[None]:
    """A program at work in a folder of its own; raise CheckError when it ends or does not answer in time."""
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / "log"
    with log.open("ab") as said:
        child = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        end = time.monotonic() + seconds
        while not answers():
            if child.poll() is not None or time.monotonic() > end:
                state = "ended" if child.poll() is not None else f"silent for {seconds:.0f} s"
                lines = log.read_text(errors="replace").splitlines()
                raise CheckError(f"{folder.name} = {state}; an answer; {lines[-1] if lines else 'it said nothing'}")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(15)


@contextlib.contextmanager
def credentials(folder: Path, secrets: Mapping[str, str]) -> Iterator[Path]:
    """A folder of secrets that are worth nothing outside the scratch place, in the place of the unit's own."""
    folder.mkdir(mode=0o700)
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    before = os.environ.get("CREDENTIALS_DIRECTORY")
    os.environ["CREDENTIALS_DIRECTORY"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["CREDENTIALS_DIRECTORY"]
        else:
            os.environ["CREDENTIALS_DIRECTORY"] = before
