"""What somebody tries who runs in the parser's place; told by name, each attempt that went through."""

import ctypes
import json
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path


def went_through(told: str) -> list[str]:
    """The attempts that did what they wanted."""
    aims = json.loads(told)
    done = []
    for name, attempt in attempts(aims).items():
        try:
            attempt()
        except (OSError, subprocess.SubprocessError):
            continue
        done.append(name)
    return done


def attempts(aims: dict[str, str]) -> dict[str, Callable[[], object]]:
    """By name; ``aims`` are where things are."""
    folder = Path(aims["folder"])
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        **{f"read {name}": Path(aims[name]).read_bytes for name in ("secret", "settings", "repository", "passwords")},
        "read the worker's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "read other processes": lambda: list(Path("/proc").iterdir()),
        "list the root": lambda: list(Path("/").iterdir()),
        "list the secrets": lambda: list(Path(aims["secret"]).parent.iterdir()),
        "write a file": lambda: (folder / "written").write_bytes(b""),
        "make a folder": (folder / "made").mkdir,
        "rename a file": lambda: (folder / "kept").rename(folder / "renamed"),
        "remove a file": (folder / "doomed").unlink,
        "reach the database": lambda: socket.create_connection(("127.0.0.1", int(aims["port"])), 5),
        "reach a socket in a folder": lambda: socket.socket(socket.AF_UNIX).connect(aims["socket"]),
        "start a program": lambda: subprocess.run(["/usr/bin/true"], check=True),
        "signal the worker": lambda: os.kill(parent, 0),
        "set the worker's limits": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "make a namespace": lambda: called(libc.unshare(0x10000000)),
    }


def called(result: int) -> None:
    """Raise OSError when the call failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
