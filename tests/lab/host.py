"""This computer: its commands, tools, disk and locks; every refusal is one line with its remedy."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGE_OF_TOOL = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
# Debian's keys, which debootstrap only recommends; without them a computer that is not Debian cannot check Debian's.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LOCKS = Path("/run/lock/rag-lab")


class LabError(Exception):
    """The lab could not do it: one line for the person who asked."""


class RefusalError(LabError):
    """The lab did not begin, since this computer or a setting is not fit for it."""


def say(line: str) -> None:
    print(line, flush=True)


def run(*command: str | Path, stdin: str | None = None, seconds: float = 120) -> str:
    """Run a command to its end and return what it printed; its last words become the error."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise LabError(
            f"{' '.join(words)} = no end after {seconds:.0f} s; see what this computer is busy with"
        ) from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise LabError(f"{' '.join(words)} = exit {done.returncode}; {last[0].strip()}")
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Whether a command is there and ends well."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    started = time.monotonic()
    say(f"lab: {what} …")
    yield
    say(f"lab: {what}: {time.monotonic() - started:.1f} s")


def run_long(what: str, log: Path, *command: str | Path, heartbeat: float = 10) -> None:
    """Run a command that takes minutes, with a line of life now and then; it never outlives this process."""
    # Its own process and mount namespaces: killing the first process ends every descendant and drops every mount.
    guarded = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    started = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            [*guarded, *(str(word) for word in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(heartbeat)
                    break
                say(f"lab: {what}: {time.monotonic() - started:.0f} s, {last_line(log)}")
        finally:
            child.kill()
            child.wait()
    if child.returncode != 0:
        raise LabError(f"{what} = exit {child.returncode}; {last_line(log)}; less {log}")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no output yet"


@contextlib.contextmanager
def locked(name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of this name; without ``wait`` a second holder is refused."""
    path = LOCKS / f"{name}.lock"
    descriptor = _lock(path, wait)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            LOCKS.rmdir()


def _lock(path: Path, wait: bool) -> int:
    while True:
        LOCKS.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            _take(descriptor, path, wait)
            # The former holder removes its file, and a lock on a removed file locks nobody out.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except RefusalError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode().strip() or "?"
        if not wait:
            line = f"{path} = held by process {holder}; one at a time is needed; wait for it: ps {holder}"
            raise RefusalError(line) from None
        say(f"lab: wait for process {holder}, which holds {path}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def replace_text(file: Path, text: str) -> None:
    """Write a file so that its readers see the former text or the new one, whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.rename(file)


def require_root_on_linux() -> None:
    if sys.platform != "linux":
        raise RefusalError(
            f"this computer = {sys.platform}; the lab needs Linux; run it in a Debian 12 or 13 virtual machine"
        )
    if os.geteuid() != 0:
        raise RefusalError(f"user = {os.environ.get('USER', os.geteuid())}; the lab needs root; sudo make lab")


def require_tools() -> None:
    """Have every tool on PATH; on Debian and its kin the missing ones are installed."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    missing = {tool: package for tool, package in PACKAGE_OF_TOOL.items() if shutil.which(tool) is None}
    if not KEYRING.exists():
        missing["Debian's keys"] = "debian-archive-keyring"
    if not missing:
        return
    packages = sorted(set(missing.values()))
    if not Path("/etc/debian_version").exists():
        raise RefusalError(f"{', '.join(missing)} = not installed; the lab needs them; install {' '.join(packages)}")
    with step(f"install {' '.join(packages)} on this computer"):
        install = ("apt-get", "-y", "-q", "--no-install-recommends", "install", *packages)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        if not succeeds(*install):
            run("apt-get", "-q", "update", seconds=300)
            run(*install, seconds=600)


def require_disk(folder: Path) -> None:
    kind = run("stat", "--file-system", "--format=%T", folder).strip()
    if kind == "overlayfs":
        raise RefusalError(f"{folder} = on {kind}; ext4, xfs or tmpfs is needed; RAG_LAB_DIR=/another/disk make lab")
    needed = float(os.environ.get("RAG_LAB_MIN_FREE_GB", "12"))
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise RefusalError(
            f"free disk under {folder} = {free:.1f} GB; {needed:g} GB are needed; RAG_LAB_DIR=/larger/disk make lab"
        )
