#!/usr/bin/python3
# Written by tasks/database.py; local edits are overwritten.
"""
Count whom PostgreSQL turned away, by reason, from the journal into a file that node_exporter reads.

The counts live in that file and the place in the journal beside it, so a restart goes on where the last round ended. A
kill in the middle of a round may lose what that round had read.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

ROUND_SECONDS = 10
METRIC = "rag_database_refused_total"
REASONS = {
    "password": "password authentication failed|no password supplied|peer authentication failed",
    "certificate": "requires a valid client certificate|certificate verify failed|alert unknown ca|alert certificate",
    "tls": "could not accept SSL connection|no encryption",
    "address": "no pg_hba.conf entry|pg_hba.conf rejects",
}


def reason(line: str) -> str | None:
    """Why PostgreSQL turned somebody away, if that is what the line says."""
    if " FATAL:  " not in line and " LOG:  could not accept" not in line:
        return None
    return next((name for name, said in REASONS.items() if re.search(said, line)), None)


def counted(text: str) -> dict[str, int]:
    """The counts of an earlier round."""
    return {name: int(count) for name, count in re.findall(METRIC + r'\{reason="(\w+)"\} (\d+)', text)}


def written(counts: dict[str, int]) -> str:
    """The counts as node_exporter reads them."""
    lines = [f'{METRIC}{{reason="{name}"}} {counts.get(name, 0)}' for name in REASONS]
    return "\n".join([f"# HELP {METRIC} Connections that PostgreSQL refused.", f"# TYPE {METRIC} counter", *lines, ""])


def main(folder: Path, textfile: Path) -> None:
    """Read on where the last round ended, until stopped."""
    ask = ["journalctl", "--unit=patroni", "--output=cat", "--quiet", f"--cursor-file={folder / 'cursor'}"]
    while True:
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        counts = counted(textfile.read_text() if textfile.exists() else "")
        for found in filter(None, map(reason, said.splitlines())):
            counts[found] = counts.get(found, 0) + 1
        draft = textfile.with_suffix(".new")
        draft.write_text(written(counts))
        draft.chmod(0o644)
        draft.replace(textfile)
        time.sleep(ROUND_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
