"""The overlay mounts of the machines, as the kernel lists them."""

import time
from pathlib import Path

from tests.lab.host import LabError, run, succeeds


def mount_points(table: str) -> list[Path]:
    """The mount points in a mountinfo table, innermost last."""
    fields = (line.split(" ") for line in table.splitlines())
    return [Path(field[4].encode().decode("unicode_escape")) for field in fields]


def mounted_below(folder: Path) -> list[Path]:
    """Mounts at or under a folder, innermost first."""
    points = mount_points(Path("/proc/self/mountinfo").read_text())
    return [point for point in reversed(points) if point == folder or folder in point.parents]


def lower_layers_in_use() -> set[Path]:
    """Every folder that some overlay on this computer reads from."""
    used: set[Path] = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        for option in line.split(" ")[-1].split(","):
            if option.startswith("lowerdir="):
                used.update(Path(path) for path in option.removeprefix("lowerdir=").split(":"))
    return used


def mount_overlay(lower: list[Path], machine: Path) -> None:
    """Mount a machine's own disk over the folders that it shares, first one on top."""
    for name in ("upper", "work", "root"):
        (machine / name).mkdir(parents=True, exist_ok=True)
    layers = ":".join(str(path) for path in lower)
    options = f"lowerdir={layers},upperdir={machine / 'upper'},workdir={machine / 'work'}"
    run("mount", "-t", "overlay", "rag-lab", "-o", options, machine / "root")


def unmount(point: Path, seconds: float = 5) -> None:
    """Unmount, patiently first; a process that still looks at it loses sight of it in the end."""
    deadline = time.monotonic() + seconds
    while not succeeds("umount", point):
        if not point.is_mount():
            return
        if time.monotonic() > deadline:
            if not succeeds("umount", "--lazy", point):
                raise LabError(f"{point} = still mounted; its users must end first; fuser -vm {point}")
            return
        time.sleep(0.2)
