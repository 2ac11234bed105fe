"""restic 0.18 with its results read and its silences found: nothing here counts as done on an exit code alone."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.backup.process import Failure, Repository, RepositoryError, failure, run

__all__ = ["Failure", "Repository", "RepositoryError", "Snapshot"]

# A snapshot says under which name it was taken; the machine's own may change when it is built anew.
HOST = "rag"
HOURS = 3600.0
AT_ONCE = 1000


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as its repository tells it."""

    id: str
    at: datetime
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    files: int
    bytes: int
    added: int
    packed: int
    original: str = ""
    """Id of the snapshot that this one is a copy of, else its own."""
    host: str = ""


def init(repository: Repository, *, like: Repository | None = None) -> None:
    """Make an empty repository; ``like`` another one, copies between them find what is there already."""
    arguments = ["init", *(["--copy-chunker-params"] if like else [])]
    done = run(repository, arguments, origin=like)
    if not any(message.get("message_type") == "initialized" for message in done.messages):
        raise failure(repository, "failed", "made no repository")


def backup(
    repository: Repository,
    folder: Path,
    *,
    tags: Sequence[str],
    least_files: int = 1,
    skip_unchanged: bool = False,
    seconds: float = HOURS,
) -> Snapshot | None:
    """
    A snapshot whose tree is what ``folder`` holds; None: as the one before, with ``skip_unchanged``.

    Fewer files than ``least_files`` are refused before restic is asked, and what it took is counted after.
    """
    # With one of several paths missing, restic takes the others and says that all is well.
    if not folder.is_dir():
        raise failure(repository, "failed", f"nothing backed up, {folder} is not there", f"ls -ld {folder}")
    there = sum(len(files) for _, _, files in os.walk(folder))
    if there < least_files:
        reason = f"nothing backed up, {folder} holds {there} files and {least_files} are expected"
        raise failure(repository, "failed", reason, f"ls -l {folder}")
    arguments = ["backup", "--host", HOST, "--group-by", "host,tags", "--tag", ",".join(tags)]
    arguments += ["--skip-if-unchanged"] if skip_unchanged else []
    told = summary(run(repository, [*arguments, "."], cwd=folder, seconds=seconds).messages)
    if told is None or int(told["total_files_processed"]) < least_files:
        raise failure(repository, "failed", f"{folder} was not read, restic counts {told and told.get('files_new')}")
    if not told.get("snapshot_id") and skip_unchanged:
        return None
    return _taken(repository, told, str(folder), tags)


def backup_output(
    repository: Repository,
    name: str,
    command: Sequence[str],
    *,
    tags: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 24 * HOURS,
) -> Snapshot:
    """A snapshot of one file, ``name``: what the command writes. A command that fails leaves no snapshot."""
    arguments = ["backup", "--host", HOST, "--group-by", "host,tags", "--tag", ",".join(tags)]
    arguments += ["--stdin-filename", name, "--stdin-from-command", "--", *command]
    told = summary(run(repository, arguments, seconds=seconds, environment=environment).messages)
    if told is None or not told.get("total_bytes_processed"):
        raise failure(repository, "failed", f"{command[0]} wrote nothing")
    return _taken(repository, told, f"/{name}", tags)


def snapshots(repository: Repository, *, tag: str | None = None) -> list[Snapshot]:
    """All of the repository, or those with the tag, oldest first."""
    done = run(repository, ["snapshots", *(["--tag", tag] if tag else [])])
    return sorted((_snapshot(entry) for entry in _document(repository, done.stdout)), key=lambda known: known.at)


def restore(
    repository: Repository,
    snapshot_id: str,
    target: Path,
    *,
    verify: bool = True,
    include: Sequence[str] = (),
    seconds: float = 24 * HOURS,
) -> int:
    """
    Lay the snapshot's tree into ``target`` and return its bytes; what is there already and right is kept.

    ``verify`` reads back what was written and compares; ``include`` takes patterns of paths, all files without.
    """
    arguments = ["restore", snapshot_id, "--target", str(target), *(["--verify"] if verify else [])]
    for pattern in include:
        arguments += ["--include", pattern]
    told = summary(run(repository, arguments, seconds=seconds).messages)
    if told is None:
        raise failure(repository, "failed", f"restore of {snapshot_id[:8]} told no result")
    # What stands at nothing is not in its words at all.
    total, restored, skipped = (int(told.get(name, 0)) for name in ("total_files", "files_restored", "files_skipped"))
    if restored < total:
        raise failure(repository, "corrupt", f"{restored} of {total} files of {snapshot_id[:8]} restored")
    if not restored + skipped:
        raise failure(repository, "failed", f"{snapshot_id[:8]} holds nothing of what is wanted")
    return int(told.get("total_bytes", 0)) + int(told.get("bytes_skipped", 0))


def check(repository: Repository, *, part: tuple[int, int] | None = None, seconds: float = 24 * HOURS) -> None:
    """
    Structure whole, and with ``part`` (n, t) every byte of the packs in that n-th of t parts.

    Takes no lock, which would keep all else out for as long as it reads; so nobody may prune meanwhile.
    """
    subset = [f"--read-data-subset={part[0]}/{part[1]}"] if part else []
    told = summary(run(repository, ["check", "--no-lock", *subset], seconds=seconds).messages)
    if told is None:
        raise failure(repository, "failed", "check told no result")
    if told["num_errors"]:
        raise failure(repository, "corrupt", f"{told['num_errors']} errors")


def forget(repository: Repository, ids: Sequence[str]) -> int:
    """Forget these and no others; how many. A server that allows no deleting refuses in silence, which is found out."""
    before = {known.id for known in snapshots(repository)}
    unwanted = before & set(ids)
    # A list of all that months left behind is longer than an argument list may be.
    for some in range(0, len(ids), AT_ONCE):
        run(repository, ["forget", *ids[some : some + AT_ONCE]], lock_minutes=30)
    after = {known.id for known in snapshots(repository)}
    if unwanted & after:
        reason = f"{len(unwanted & after)} of {len(unwanted)} snapshots were to be forgotten and are still there"
        raise failure(repository, "refused", reason)
    if lost := before - unwanted - after:
        raise failure(repository, "failed", f"{len(lost)} snapshots are gone that were to be kept")
    return len(unwanted)


def prune(repository: Repository, *, seconds: float = 24 * HOURS) -> None:
    """Give back the space of what no snapshot names."""
    run(repository, ["prune"], seconds=seconds, lock_minutes=30)


def copy(source: Repository, target: Repository, wanted: Sequence[Snapshot], *, seconds: float = 24 * HOURS) -> int:
    """
    Copy these snapshots, as far as ``target`` lacks them, and return how many those were; it is asked again afterwards.

    A copy of a copy is known by the first one's id, as restic itself knows it.
    """
    had = {known.original for known in snapshots(target)}
    lacking = [one for one in wanted if one.original not in had]
    if not lacking:
        return 0
    for some in range(0, len(lacking), AT_ONCE):
        ids = [one.id for one in lacking[some : some + AT_ONCE]]
        run(target, ["copy", *ids], seconds=seconds, origin=source)
    has = {known.original for known in snapshots(target)}
    if missing := [one for one in lacking if one.original not in has]:
        raise failure(target, "failed", f"{len(missing)} of {len(lacking)} copied snapshots are not there")
    return len(lacking)


def files_of(repository: Repository, snapshot_id: str) -> dict[str, int]:
    """Name and size of every file of a snapshot, as it lies below the folder that was taken."""
    messages = run(repository, ["ls", snapshot_id]).messages
    found = {told["path"].lstrip("/"): int(told.get("size", 0)) for told in messages if told.get("type") == "file"}
    if not found:
        raise failure(repository, "failed", f"{snapshot_id[:8]} lists no files")
    return found


def bytes_of(repository: Repository, ids: Sequence[str]) -> int:
    """What these take when they are laid one over the other: what they have in common is there once."""
    files: dict[str, int] = {}
    for one in ids:
        for name, size in files_of(repository, one).items():
            files[name] = max(size, files.get(name, 0))
    return sum(files.values())


def unlock(repository: Repository) -> int:
    """Take away the locks of those who are dead, never those of the living; how many are left."""
    run(repository, ["unlock"])
    listed = run(repository, ["list", "locks", "--no-lock"]).stdout
    return len([line for line in listed.splitlines() if line.strip()])


def summary(messages: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """restic's own last word on what it did."""
    return next((told for told in reversed(messages) if told.get("message_type") == "summary"), None)


def _taken(repository: Repository, told: dict[str, Any], path: str, tags: Sequence[str]) -> Snapshot:
    if not told.get("snapshot_id"):
        raise failure(repository, "failed", f"no snapshot of {path}")
    return Snapshot(
        id=told["snapshot_id"],
        at=datetime.fromisoformat(told["backup_start"]),
        paths=(path,),
        tags=tuple(tags),
        original=told["snapshot_id"],
        host=HOST,
        **_sizes(told),
    )


def _document(repository: Repository, text: str) -> Any:
    """What restic writes as one JSON value; older lines of advice may stand before it."""
    for line in reversed(text.splitlines()):
        if line.startswith("["):
            return json.loads(line)
    raise failure(repository, "failed", "restic listed nothing")


def _snapshot(entry: dict[str, Any]) -> Snapshot:
    return Snapshot(
        id=entry["id"],
        at=datetime.fromisoformat(entry["time"]),
        paths=tuple(entry["paths"]),
        tags=tuple(entry.get("tags") or ()),
        original=entry.get("original") or entry["id"],
        host=entry.get("hostname", ""),
        **_sizes(entry.get("summary") or {}),
    )


def _sizes(told: dict[str, Any]) -> dict[str, int]:
    return {
        "files": int(told.get("total_files_processed", 0)),
        "bytes": int(told.get("total_bytes_processed", 0)),
        "added": int(told.get("data_added", 0)),
        "packed": int(told.get("data_added_packed", 0)),
    }
