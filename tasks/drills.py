"""`make drills`: what the restore drills of a site proved, as a table, and as a page with the trend."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError

from inventories.settings import Machine, Site
from tasks.cluster import site_of
from tasks.drill_page import page
from tasks.members import RefusedError
from tasks.restored import as_keeper
from tasks.ssh import ask

FOLDER = "/var/lib/rag-backup/drills"
MOST = 90
COLUMNS = ("began (UTC)", "kind", "verdict", "RTO", "answer", "RPO", "cited", "took", "did not pass")

Drill = dict[str, Any]


def drills_of(site: Site, machine: Machine) -> list[Drill]:
    """The evidence that lies on a backup host, oldest first."""
    script = f"cd {FOLDER} 2>/dev/null && ls -1 | grep '[.]json$' | tail -n {MOST} | xargs -r cat; true"
    return parsed(ask(site, machine, as_keeper(script), what="evidence of the drills"))


def parsed(text: str) -> list[Drill]:
    """One JSON value after the other."""
    found: list[Drill] = []
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def as_table(drills: Sequence[Drill]) -> str:
    """A line for each drill, then the checks of the last one."""
    rows = [COLUMNS, *(_row(drill) for drill in drills)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    last = drills[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    checks = [
        f"  {check['verdict']:<13}  {check['name']:<10}  {check['seconds']:7.1f} s  {check['found']}"
        for check in last["checks"]
    ]
    return "\n".join([*lines, "", f"the last one, with {versions}:", *checks])


def _row(drill: Drill) -> tuple[str, ...]:
    wrong = [f"{check['name']}: {check['found']}" for check in drill["checks"] if check["verdict"] != "pass"]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    answers = drill["answers"]
    return (
        drill["began"][:16].replace("T", " "),
        "weekly" if drill["kind"] == "drill-weekly" else "daily",
        drill["verdict"],
        *(seconds(drill[f"{name}_seconds"]) for name in ("rto", "answer", "rpo")),
        f"{answers['cited']}/{answers['asked']}" if answers else "-",
        seconds(drill["seconds"]),
        f"{wrong[0][:100]}{more}" if wrong else "-",
    )


def seconds(value: float | None) -> str:
    """As people read it; a drill that did not come so far has none."""
    return "-" if value is None else f"{value:.1f} s"


def main(arguments: list[str]) -> int:
    """SITE; exit 0: the last drill passed, 1: it did not or there is none, 2: refused."""
    try:
        site = site_of(arguments[0] if arguments else "")
        machines = site.having("backup")
        if not machines:
            raise RefusedError(f"SITE = {site.name} without a machine with role backup; one; docs/backup.md")
        found = [(machine, drills_of(site, machine)) for machine in machines]
    except PyinfraError as refused:
        print(refused, file=sys.stderr)
        return 2
    for machine, drills in found:
        if not drills:
            print(f"{machine.name} = no drill yet; one; systemctl start rag-drill", file=sys.stderr)
            continue
        path = Path("build") / f"drills-{site.name}-{machine.name}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(f"{site.name}: restore drills on {machine.name}", drills), encoding="utf-8")
        print(f"{as_table(drills)}\n\nthe trend: {path}")
    return 0 if all(drills and drills[-1]["verdict"] == "pass" for _, drills in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
