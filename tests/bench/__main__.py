"""python3 -m tests.bench PART: exit 0 when every promise holds, 1 when one does not, 2 when nothing was begun."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from pyinfra.api.exceptions import PyinfraError

from inventories.settings import SettingsError
from tasks.cluster import site_of
from tests.bench import application, backups, evaluation, failover, pgbench, recovery, reembed, report, search, start
from tests.bench.cluster import Cluster
from tests.bench.report import Figure
from tests.lab import fleet
from tests.lab.host import LabError, RefusalError, require_root_on_linux, require_tools

WITHOUT_THE_LAB: dict[str, Callable[[str], list[Figure]]] = {
    "evaluation-here": lambda _: evaluation.run_here(),
    "search": lambda repeats: search.run(int(repeats or 200)),
    "reembed": lambda repeats: reembed.run(int(repeats or 200)),
}
PARTS = ("failover", "pgbench", "application", "start", "evaluation", "recovery", "backups", *WITHOUT_THE_LAB)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Figures of the lab that runs.")
    parser.add_argument("part", metavar="PART")
    parser.add_argument("--fault", default="", metavar="NAME,NAME")
    parser.add_argument("--repeats", default="", metavar="NUMBER")
    return parser.parse_args()


def measured(part: str, fault: str, repeats: str) -> list[Figure]:
    """The figures of one part; refuses before anything is touched."""
    if part not in PARTS:
        raise RefusalError(
            f"PART = {part or 'not named'}; one of {', '.join(PARTS)} is needed; make bench PART=failover"
        )
    if repeats and not (repeats.isdecimal() and int(repeats)):
        raise RefusalError(f"REPEATS = {repeats}; a number from 1 is needed; make bench PART={part} REPEATS=5")
    try:
        faults = failover.chosen(fault)
    except ValueError as unknown:
        raise RefusalError(str(unknown)) from None
    if part in WITHOUT_THE_LAB:
        return WITHOUT_THE_LAB[part](repeats)
    require_root_on_linux()
    require_tools()
    try:
        lab, site = fleet.require_lab(), site_of("lab")
    except (LabError, PyinfraError, SettingsError) as absent:
        raise RefusalError(str(absent)) from None
    if not Cluster(lab, site).leader():
        raise RefusalError("database of the lab = has no leader; a deployed lab is needed; make deploy SITE=lab")
    on_the_lab: dict[str, Callable[[], list[Figure]]] = {
        "pgbench": lambda: pgbench.run(lab, site, int(repeats or 3)),
        "start": lambda: start.run(lab, site, int(repeats or 5)),
        "backups": lambda: backups.run(lab, site, int(repeats or 3)),
        "recovery": lambda: recovery.run(lab, site),
        "evaluation": lambda: evaluation.run(site),
        "application": lambda: application.run(lab, site),
        "failover": lambda: failover.run(lab, site, faults, int(repeats or 5)),
    }
    return on_the_lab[part]()


def missed(figures: Sequence[Figure]) -> list[str]:
    """Each promise that does not hold, in words."""
    return [
        f"{figure.what} = {'not measured' if figure.value is None else f'{figure.value:g} {figure.unit}'.strip()}; "
        f"{figure.must} is promised"
        for figure in figures
        if not figure.holds
    ]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    wanted = arguments()
    # Also where a shell started it in the background, which has it ignore ctrl-C.
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, interrupted)
    figures = measured(wanted.part, wanted.fault, wanted.repeats)
    broken = missed(figures)
    for line in broken:
        print(line, file=sys.stderr)
    print(f"bench: {len(figures)} figures in {report.FILE}, {len(broken)} promises missed")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RefusalError as refusal:
        sys.exit(print(refusal, file=sys.stderr) or 2)
    except (LabError, AssertionError) as problem:
        sys.exit(print(problem, file=sys.stderr) or 1)
    except KeyboardInterrupt:
        print("bench: interrupted; what it had hurt is healed, and the lab is as it was", file=sys.stderr)
        sys.exit(130)
