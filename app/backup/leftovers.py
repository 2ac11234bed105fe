"""Processes that a killed drill or restore left behind: known by where they work."""

import contextlib
import os
import signal
import time
from pathlib import Path

from app.backup.recovered import RecoveryError


def end_left(folder: Path, seconds: float = 20) -> list[str]:
    """End every process that works inside the folder, as a killed drill leaves them; their names.

    A process is known by its working directory, which nobody else's is, not by a number that may be another's by now.
    """
    found = _inside(folder)
    for process, (_, place) in found.items():
        # A server told so frees its shared memory and ends its children; killed it would do neither.
        if (place / "postmaster.pid").exists():
            _signal(process, signal.SIGQUIT)
    end = time.monotonic() + seconds
    servers = {process for process, (_, place) in found.items() if (place / "PG_VERSION").exists()}
    while servers & _inside(folder).keys() and time.monotonic() < end:
        time.sleep(0.1)
    while left := _inside(folder):
        for process in left:
            _signal(process, signal.SIGKILL)
        if time.monotonic() > end + seconds:
            raise RecoveryError(f"{folder} = in use by {', '.join(map(str, left))}; an end of these; kill them")
        time.sleep(0.1)
    return sorted({name for name, _ in found.values()})


def _inside(folder: Path) -> dict[int, tuple[str, Path]]:
    """Processes that work inside, each with its name and working directory."""
    folder = folder.resolve()
    found: dict[int, tuple[str, Path]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # Others' processes and those that ended meanwhile.
        with contextlib.suppress(OSError):
            place = (entry / "cwd").readlink()
            if place == folder or folder in place.parents:
                found[int(entry.name)] = ((entry / "comm").read_text().strip(), place)
    return found


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
