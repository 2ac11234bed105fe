"""What a drill takes from the repositories, and whether a damaged repository is found out."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from app.backup import continuity, restic
from app.backup.choice import NEVER, Choice, OutsideError, Recoveries, choose, with_earlier
from app.backup.continuity import GapError
from app.backup.drill.checks import CheckError
from app.backup.process import Repository, RepositoryError, run
from app.backup.recovered import RecoveryError, verified
from app.backup.restic import Snapshot
from app.backup.spool import SEGMENT_BYTES, segment_of

# Bases are daily: two hours for one that was late or long.
BASE_HOURS = 26
# From a write until it is surely in a snapshot that begins then.
SURELY = timedelta(seconds=2)
# Room for the control where the copy takes none: two small folders and one pack.
SPOILT_BYTES = 256 * 1024 * 1024
# The smallest file of a base that no server starts without.
CONTROLLED = "data/global"
CONTROL_FILE = "pg_control"


@dataclass(frozen=True)
class Chosen:
    """A base backup and the WAL to go with it."""

    base: Snapshot
    wal: Snapshot


def newest(bases: Sequence[Snapshot], wals: Sequence[Snapshot]) -> Chosen:
    """What a restore to the latest takes; raise CheckError where there is none."""
    return _chosen(bases, wals, None, NEVER)


def reaching(
    bases: Sequence[Snapshot], wals: Sequence[Snapshot], moment: datetime, proof: datetime, recoveries: Recoveries
) -> Chosen:
    """The base that a restore to the moment takes, and WAL of after ``proof``: a write that shows that it passed."""
    later = _chosen(bases, wals, proof + SURELY, recoveries)
    return Chosen(_chosen(bases, wals, moment, recoveries).base, later.wal)


def _chosen(bases: Sequence[Snapshot], wals: Sequence[Snapshot], to: datetime | None, recoveries: Recoveries) -> Chosen:
    try:
        choice = choose(bases, wals, to, recoveries)
    except OutsideError as error:
        raise CheckError(str(error)) from None
    return Chosen(
        next(one for one in bases if one.id == choice.base), next(one for one in wals if one.id == choice.log[-1])
    )


def ages(chosen: Chosen, at: datetime, wal_seconds: float) -> str:
    """How old both are; raise CheckError when one is older than its schedule allows."""
    base, wal = at - chosen.base.at, at - chosen.wal.at
    said = f"base {chosen.base.id[:8]} of {_length(base)} ago, WAL {chosen.wal.id[:8]} of {_length(wal)} ago"
    if base > timedelta(hours=BASE_HOURS):
        raise CheckError(f"{said}; a base of the last {BASE_HOURS} h; systemctl status rag-base")
    if wal > timedelta(seconds=wal_seconds):
        raise CheckError(f"{said}; WAL of the last {wal_seconds:.0f} s; systemctl status rag-wal rag-backup.timer")
    return said


def _length(age: timedelta) -> str:
    seconds = age.total_seconds()
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def needed(chosen: Chosen) -> int:
    """Bytes that a recovery of these takes: the database once more for its growth and its index."""
    return 2 * chosen.base.bytes + chosen.wal.bytes


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def fetched(
    repositories: Mapping[str, Repository],
    chosen: Chosen,
    wals: Sequence[Snapshot],
    base: Path,
    wal: Path,
    ask: Callable[[int], object],
) -> str:
    """
    Restore both and compare what was written with the repository; where the WAL begins too late, earlier WAL too.

    + ask: for the room of that, before it is written
    """
    try:
        size = restic.restore(repositories["base"], chosen.base.id, base)
        size += restic.restore(repositories["wal"], chosen.wal.id, wal)
        if begins_too_late(base, wal):
            # Oldest first: of a segment that was still written, the last snapshot has the most.
            shutil.rmtree(wal)
            several = with_earlier(Choice(chosen.base.id, (chosen.wal.id,), None), [chosen.base], wals)
            ask(restic.bytes_of(repositories["wal"], several.log))
            size += sum(restic.restore(repositories["wal"], one, wal) for one in several.log)
    except RepositoryError as error:
        raise CheckError(str(error)) from None
    return f"{_size(size)} restored and compared"


def begins_too_late(base: Path, wal: Path) -> bool:
    """Whether the first segment that the base needs is not there, under no timeline."""
    wanted = continuity.start_of(base / "data").lsn
    present = [found for path in wal.iterdir() if (found := segment_of(path.name))]
    return not any(segment.start <= wanted < segment.start + SEGMENT_BYTES for segment in present)


def manifest(base: Path) -> dict[str, Any]:
    """What was written down beside the base when it was made."""
    found: dict[str, Any] = json.loads((base / "rag-manifest.json").read_text(encoding="utf-8"))
    return found


def whole(base: Path) -> str:
    """Every file of the base against PostgreSQL's own manifest of it."""
    try:
        return verified(base)
    except RecoveryError as error:
        raise CheckError(str(error)) from None


def unbroken(base: Path, wal: Path) -> str:
    """WAL from the base on, over every timeline, without a gap."""
    try:
        found = continuity.chain(wal, continuity.start_of(base / "data"))
    except GapError as error:
        raise CheckError(str(error)) from None
    return f"{found.segments} segments over {found.timelines} timelines, {found.first} to {found.last}"


def spoilt(repository: Repository, base: Snapshot, folder: Path) -> str:
    """
    The negative control: a copy of the repository with one flipped byte must not restore, and without it must.

    A drill that would not see the difference proves nothing.
    """
    copy = Repository(str(folder / "repository"), repository.password_file, repository.environment)
    shutil.copytree(repository.location, copy.location, copy_function=_linked)
    restic.restore(copy, f"{base.id}:{CONTROLLED}", folder / "good")
    pack, place = stored(copy, base)
    flip(Path(copy.location) / "data" / pack[:2] / pack, place)
    try:
        restic.restore(copy, f"{base.id}:{CONTROLLED}", folder / "bad")
    except RepositoryError as error:
        if error.kind == "corrupt":
            return f"a flipped byte in pack {pack[:8]} of a copy was found out"
        raise CheckError(f"a flipped byte was taken for something else: {error}") from None
    raise CheckError(f"a copy with a flipped byte in pack {pack[:8]} was restored as if it were whole")


def stored(repository: Repository, base: Snapshot) -> tuple[str, int]:
    """The pack with the base's pg_control, and a place in the middle of its bytes: nobody reads what is beside them."""
    tree = json.loads(run(repository, ["cat", "tree", f"{base.id}:{CONTROLLED}"]).stdout)
    node = next(node for node in tree["nodes"] if node["name"] == CONTROL_FILE)
    blob = node["content"][0]
    for name in run(repository, ["list", "index"]).stdout.split():
        index = json.loads(run(repository, ["cat", "index", name.strip('"')]).stdout)
        for pack in index["packs"]:
            for one in pack["blobs"]:
                if one["id"] == blob:
                    return str(pack["id"]), one["offset"] + one["length"] // 2
    raise CheckError(f"repository = without a pack for blob {blob[:8]}")


def flip(path: Path, place: int) -> None:
    """Change one bit of a file of our own, and not of the one whose second name it is."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()
    path.write_bytes(data)


def _linked(source: str, target: str) -> None:
    """Files of a repository never change, so a second name costs nothing; on another disk they are copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
