#!/usr/bin/python3
# Written by tasks/pushes.py; local edits are overwritten.
"""
Push a snapshot of etcd into this machine's repository on each backup host, which lets it add and no more.

A snapshot is looked into before it is pushed, and what restic took is read from its own words: it ends well too when it
took nothing. The last line says what was done; the figure of the last success stays what it was after a failure.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# restic 0.18 asks a full server again for a quarter of an hour.
PATIENCE_SECONDS = 180
SUCCESS = "rag_backup_last_success_timestamp_seconds"
# Word for word as on a backup host: node_exporter takes no figure with two explanations.
HELP = {
    "rag_backup_last_run_timestamp_seconds": "End of the last run of this kind of work.",
    "rag_backup_last_result": "1: the last run of this kind of work was good, 0: it was not.",
    "rag_backup_duration_seconds": "Length of its last run.",
    SUCCESS: "End of its last good run.",
}


class PushError(Exception):
    """Nothing was pushed; the message is one line for the operator."""


def told(thing: str, command: list[str], **environment: str) -> str:
    """What the command writes; a PushError that names the thing when it fails or hangs."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=variables, check=False
        )
    except subprocess.TimeoutExpired as late:
        said = late.stderr.decode(errors="replace") if isinstance(late.stderr, bytes) else str(late.stderr or "")
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "silent")
        raise PushError(
            f"{thing} = not ended in {PATIENCE_SECONDS} s, {last[:200]}; one that answers and has room; make cluster"
        ) from None
    if done.returncode:
        words = " ".join(done.stderr.split())[-250:]
        raise PushError(f"{thing} = exit {done.returncode}, {words}; see journalctl -u rag-etcd-snapshot -n 50")
    return done.stdout


def saved(words: argparse.Namespace, folder: Path) -> dict[str, int]:
    """The snapshot in the folder, and what etcd finds in it."""
    file = str(folder / "etcd.db")
    ask = ["etcdctl", "--endpoints", words.endpoint, "--cacert", words.etcd_authority]
    ask += ["--cert", words.etcd_certificate, "--key", words.etcd_key, "--dial-timeout", "5s"]
    told("etcd", [*ask, "--command-timeout", "120s", "snapshot", "save", file], ETCDCTL_API="3")
    found = json.loads(
        told("snapshot", ["etcdctl", "snapshot", "status", file, "--write-out", "json"], ETCDCTL_API="3")
    )
    if not found.get("totalKey"):
        raise PushError("snapshot = no keys in it; those of a cluster that runs; make cluster")
    return {"keys": int(found["totalKey"]), "bytes": int(found["totalSize"]), "revision": int(found["revision"])}


def pushed(words: argparse.Namespace, location: str, folder: Path, certificate: Path) -> str:
    """The id of the snapshot that the repository has now."""
    command = ["restic", "--json", "--no-cache", "--retry-lock=2m", "--repo", location, "--cacert", words.authority]
    command += ["--tls-client-cert", str(certificate), "--password-file", words.password]
    command += ["backup", "--host", words.machine, "--tag", "etcd", str(folder / "etcd.db")]
    for line in reversed(told(f"repository {location}", command).splitlines()):
        found = json.loads(line) if line.startswith("{") else {}
        if found.get("message_type") == "summary":
            if found.get("snapshot_id") and found.get("total_files_processed") == 1:
                return str(found["snapshot_id"])
            break
    raise PushError(f"repository {location} = no snapshot taken; see journalctl -u rag-etcd-snapshot -n 50")


def published(textfile: Path, began: float, *, well: bool) -> None:
    """The figures that every kind of backup has, for node_exporter."""
    now = time.time()
    before = re.findall(rf"^{SUCCESS}\S* (\S+)$", textfile.read_text(), re.MULTILINE) if textfile.exists() else []
    success = now if well else float(before[0]) if before else None
    figures = {
        "rag_backup_last_run_timestamp_seconds": now,
        "rag_backup_last_result": float(well),
        "rag_backup_duration_seconds": now - began,
        **({SUCCESS: success} if success is not None else {}),
    }
    lines = [
        f'# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n{name}{{kind="etcd"}} {value}'
        for name, value in figures.items()
    ]
    draft = textfile.with_suffix(".new")
    draft.write_text("\n".join([*lines, ""]))
    draft.chmod(0o644)
    draft.replace(textfile)


def main() -> int:
    """0: every backup host has it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("machine", "endpoint", "etcd-authority", "etcd-certificate", "etcd-key", "authority"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("certificate", "key", "password", "textfile"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("repositories", nargs="+")
    words = parser.parse_args()
    folder, began = Path(os.environ["RUNTIME_DIRECTORY"]), time.time()
    os.umask(0o077)
    try:
        found = saved(words, folder)
        # restic wants both in one file; this one is gone with the unit.
        both = folder / "push.pem"
        both.write_text(Path(words.certificate).read_text() + Path(words.key).read_text())
        ids = [pushed(words, location, folder, both) for location in words.repositories]
    except (PushError, OSError, ValueError) as error:
        published(Path(words.textfile), began, well=False)
        print(f"etcd: failed in {time.time() - began:.1f} s; {' '.join(str(error).split())}")
        return 1
    published(Path(words.textfile), began, well=True)
    print(
        f"etcd: done in {time.time() - began:.1f} s; {found['keys']} keys, {found['bytes']} bytes at revision "
        f"{found['revision']}, snapshot {', '.join(one[:8] for one in ids)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
