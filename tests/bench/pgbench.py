"""PART=pgbench: what it costs that a replica has every write before it is acknowledged."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from inventories.settings import Site
from tests.bench import report
from tests.bench.cluster import Cluster, until
from tests.bench.ledger import spread
from tests.bench.report import Figure
from tests.lab.fleet import Lab
from tests.lab.host import LabError, say

AREA = "pgbench"
DATABASE = "rag_pgbench"
SECONDS = 20
CLIENTS = 8
SCALE = 10


@dataclass(frozen=True)
class Pace:
    """What one run of pgbench reached."""

    tps: float
    latency_ms: float


def pace_of(said: str) -> Pace:
    """pgbench's own words."""
    tps = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    latency = re.search(r"^latency average = ([\d.]+) ms", said, re.MULTILINE)
    if not tps or not latency:
        raise LabError(f"pgbench = {said[-200:]!r}; a line with tps is needed; try it on the primary by hand")
    return Pace(float(tps[1]), float(latency[1]))


def run(lab: Lab, site: Site, repeats: int) -> list[Figure]:
    """Quorum and none in turn, so that what else the computer does meets both; the setting is put back."""
    cluster, where = Cluster(lab, site), report.machine()
    cluster.wait_until_whole(60)
    first = cluster.leader()
    before = cluster.settings().get("synchronous_mode", False)
    say(f"bench: pgbench on {first}, {CLIENTS} clients, scale {SCALE}, {SECONDS} s, {repeats} times each, on {where}")
    paces: dict[str, list[Pace]] = {"quorum": [], "off": []}
    try:
        with database(cluster, site, first) as measured:
            for number in range(1, repeats + 1):
                for mode, value in (("quorum", "quorum"), ("off", False)):
                    set_mode(cluster, first, value)
                    pace = measured(SECONDS)
                    paces[mode].append(pace)
                    say(f"bench: {mode}, {number} of {repeats}: {pace.tps:.0f} tps, {pace.latency_ms:.1f} ms")
    finally:
        with suppress(LabError):
            set_mode(cluster, first, before)
    figures = figures_of(paces, where)
    report.write(figures)
    print(f"\n{shown(paces)}\n", flush=True)
    return figures


@contextmanager
def database(cluster: Cluster, site: Site, first: str) -> Iterator[Callable[[int], Pace]]:
    """A database of pgbench's on that member, gone at the end; what is yielded runs it for so many seconds."""
    tool = f"cd /; runuser -u postgres -- /usr/lib/postgresql/{site.database.version}/bin/pgbench"

    def measured(seconds: int) -> Pace:
        cluster.sql(first, "checkpoint", seconds=120)
        command = f"{tool} --no-vacuum --client {CLIENTS} --jobs 2 --time {seconds} {DATABASE} 2>&1"
        return pace_of(cluster.shell(first, command, seconds + 60))

    try:
        cluster.sql(first, f"drop database if exists {DATABASE}")
        cluster.sql(first, f"create database {DATABASE}")
        cluster.shell(first, f"{tool} --initialize --quiet --scale {SCALE} {DATABASE} 2>&1", 300)
        yield measured
    finally:
        with suppress(LabError):
            cluster.sql(first, f"drop database if exists {DATABASE}")


def set_mode(cluster: Cluster, first: str, mode: object) -> None:
    """Change it and wait until PostgreSQL waits for replicas, or for none."""
    cluster.configure({"synchronous_mode": mode})
    waits = bool(mode)
    until(
        lambda: bool(cluster.sql(first, "show synchronous_standby_names")) == waits,
        60,
        f"synchronous_mode = {mode} in PostgreSQL of {first}",
    )


def figures_of(paces: dict[str, list[Pace]], where: str) -> list[Figure]:
    """Transactions per second, quorum beside none."""
    _, off, _ = spread([pace.tps for pace in paces["off"]])
    figures = []
    for mode, found in paces.items():
        _, tps, _ = spread([pace.tps for pace in found])
        _, latency, _ = spread([pace.latency_ms for pace in found])
        what = f"synchronous_mode {mode}"
        base = Figure(
            AREA, f"{what}: transactions per second", round(tps, 1), "1/s", "", True, None, None, len(found), where
        )
        if mode != "off":
            base = replace(base, peer=round(off, 1), ratio=round(tps / off, 3))
        figures += [base, Figure(AREA, f"{what}: latency", latency, "ms", "", True, None, None, len(found), where)]
    return figures


def shown(paces: dict[str, list[Pace]]) -> str:
    """The table that a person reads."""
    _, off, _ = spread([pace.tps for pace in paces["off"]])
    rows: list[Sequence[str]] = []
    for mode, found in paces.items():
        tps = [pace.tps for pace in found]
        latency = [pace.latency_ms for pace in found]
        rows.append(
            (
                mode,
                "/".join(f"{value:.0f}" for value in spread(tps)),
                "/".join(f"{value:.1f}" for value in spread(latency)),
                f"{spread(tps)[1] / off:.2f}",
            )
        )
    return report.table(("synchronous_mode", "tps min/median/max", "latency ms", "of off"), rows)
