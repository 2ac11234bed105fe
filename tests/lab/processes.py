"""The processes of a machine, asked from the kernel each time: no pid is ever remembered."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import LabError


@dataclass(frozen=True)
class Boot:
    """A running machine: its systemd-nspawn, its first process, and since when."""

    nspawn: int
    init: int | None
    age: float


def find(disk: Path) -> Boot | None:
    """The systemd-nspawn of the machine with this disk, told by its command line alone."""
    wanted = f"--directory={disk / 'root'}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        words = _command_line(folder)
        if words and words[0].endswith(b"systemd-nspawn") and wanted in words and not _is_nspawn_child(folder, wanted):
            return Boot(int(folder.name), _init_below(int(folder.name)), _age(folder))
    return None


def _is_nspawn_child(folder: Path, wanted: bytes) -> bool:
    """Between fork and exec, nspawn's children carry its command line."""
    parent = _stat(folder)[1] if _stat(folder) else "0"
    return wanted in _command_line(folder.with_name(parent))


def _command_line(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may itself hold spaces."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _age(folder: Path) -> float:
    fields = _stat(folder)
    if not fields:
        return 0.0
    up = float(Path("/proc/uptime").read_text().split()[0])
    return up - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _init_below(nspawn: int) -> int | None:
    """The child that is process 1 of its own namespace and has become the machine's init."""
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat(folder)
        if len(fields) > 1 and fields[1] == str(nspawn):
            with contextlib.suppress(OSError):
                status = (folder / "status").read_text()
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if inner.split()[-1] == "1" and not _command_line(folder)[0].endswith(b"systemd-nspawn"):
                    return int(folder.name)
    return None


def listens(boot: Boot, port: int) -> bool:
    """
    Whether anything in the machine listens on this port.

    Its kernel is asked, since sshd counts a connection without a login against its sender and refuses it after some.
    """
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{boot.init}/net/{family}").read_text().splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def cgroup_root() -> Path | None:
    """Where cgroup2 is mounted for writing, alone or beside cgroup v1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if (
            tail.startswith("cgroup2 ")
            and fields[3] == "/"
            and os.access(fields[4], os.W_OK)
            and "rw" in fields[5].split(",")
        ):
            return Path(fields[4])
    return None


def make_cgroup(path: Path) -> None:
    """A control group of the machine's own, with the controllers that this computer gives away."""
    path.mkdir(parents=True, exist_ok=True)
    root = cgroup_root()
    for parent in reversed([folder for folder in path.parents if root and (folder == root or root in folder.parents)]):
        for controller in (parent / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def kill_cgroup(path: Path) -> None:
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")


def in_cgroup(path: Path) -> list[int]:
    found: list[int] = []
    for file in path.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in file.read_text().split()]
    return found


def remove_cgroup(path: Path) -> None:
    """Remove an empty group, and its shadow in cgroup v1 where there is one."""
    root = cgroup_root()
    shadow = Path("/sys/fs/cgroup/systemd") / path.relative_to(root) if root else path
    for top in {path, shadow}:
        for folder in sorted((file.parent for file in top.rglob("cgroup.procs")), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()


def end(boot: Boot, seconds: float = 15) -> None:
    """Kill a machine as a pulled plug does, and return when its nspawn has ended too."""
    if boot.init is not None:
        _kill(boot.init)
    else:
        _kill(boot.nspawn)
    if not _gone(boot.nspawn, seconds):
        _kill(boot.nspawn)
        if not _gone(boot.nspawn, seconds):
            raise LabError(
                f"process {boot.nspawn} = alive after SIGKILL; see what it waits for; cat /proc/{boot.nspawn}/stack"
            )


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        fields = _stat(Path(f"/proc/{pid}"))
        # A zombie holds nothing any more; whoever started it may take its time to notice.
        if not fields or fields[0] in "ZX":
            return True
        time.sleep(0.05)
    return False
