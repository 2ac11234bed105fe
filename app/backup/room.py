"""Room on this host's disks: asked for before anything is written, and kept for who asked while they work."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from app.backup.metrics import BackupError
from app.backup.repositories import size_of
from app.backup.settings import Settings

# What else grows meanwhile: the received log, a server's own.
SPARE_BYTES = 512 * 1024 * 1024


class RoomError(BackupError):
    """There is too little; the message is one line."""


@dataclass
class Room:
    """What one kind of work will fill, by folder, and how large each will become."""

    name: str
    places: Path
    file: TextIO
    wanted: dict[Path, int] = field(default_factory=dict)

    def more(self, *wanted: tuple[Path, int]) -> str:
        """
        Ask for so many bytes beyond what each folder holds now; raise RoomError where its disk has them not to spare.

        Folders of one disk are asked for together, and what others asked for and have not yet filled is theirs.
        """
        now = self.wanted | {folder: size_of(folder) + size for folder, size in wanted}
        with (self.places / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = _others(self.places, self.name)
            said = [_judged(folder, now, others) for folder in _one_of_each_disk(now)]
            self.wanted = now
            self.file.seek(0)
            self.file.truncate()
            json.dump({str(folder): size for folder, size in now.items()}, self.file)
            self.file.flush()
        return ", ".join(said)


@contextlib.contextmanager
def kept(settings: Settings, name: str) -> Iterator[Room]:
    """Room for the unit of that name, until it ends, however that is; raise RoomError while another one works."""
    places = settings.run / "room"
    places.mkdir(parents=True, exist_ok=True)
    with (places / f"{name}.json").open("a+") as file:
        try:
            # The kernel lets go of it when its holder is killed.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RoomError(f"{name} = another one works; its end is needed; systemctl status '{name}*'") from None
        # What it asked for the last time is nobody's any more.
        file.truncate(0)
        yield Room(name, places, file)


def _others(places: Path, name: str) -> dict[str, dict[Path, int]]:
    """What the living asked for."""
    found: dict[str, dict[Path, int]] = {}
    for path in places.glob("*.json"):
        if path.stem == name:
            continue
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError):
                    found[path.stem] = {Path(folder): size for folder, size in json.load(file).items()}
    return found


def _judged(place: Path, wanted: Mapping[Path, int], others: Mapping[str, Mapping[Path, int]]) -> str:
    disk, free = _disk_of(place), shutil.disk_usage(_there(place)).free
    needed = _lacking(wanted, disk) + SPARE_BYTES
    held = {name: size for name, theirs in others.items() if (size := _lacking(theirs, disk))}
    said = f"disk of {place} = {_size(free)} free"
    said += "".join(f", {_size(size)} of them kept for {name}" for name, size in sorted(held.items()))
    if free - sum(held.values()) < needed:
        stop = f"systemctl stop {' '.join(sorted(held))}, or " if held else ""
        raise RoomError(f"{said}; {_size(needed)} needed; {stop}df -h {place}")
    return f"{said}, {_size(needed)} needed"


def _lacking(wanted: Mapping[Path, int], disk: int) -> int:
    """Bytes that are still to be written on that disk."""
    return sum(max(0, size - size_of(folder)) for folder, size in wanted.items() if _disk_of(folder) == disk)


def _one_of_each_disk(folders: Mapping[Path, int]) -> list[Path]:
    return list({_disk_of(folder): folder for folder in folders}.values())


def _disk_of(folder: Path) -> int:
    return _there(folder).stat().st_dev


def _there(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
