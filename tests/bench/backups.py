"""PART=backups: what backups cost the primary, and what a question feels of a drill."""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from inventories.settings import Site
from tests.bench import pgbench, report
from tests.bench.cluster import Cluster, until
from tests.bench.load import filled
from tests.bench.made import Made, collection
from tests.bench.processors import apart
from tests.bench.report import Figure, at_least, at_most
from tests.lab import demo
from tests.lab.fleet import Lab
from tests.lab.host import say

AREA = "backups"
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
# Longer than two copies into the repository are apart, so that each run meets both.
SECONDS = 50
ROUNDS = 12
PAUSE_SECONDS = 1.5


@dataclass
class Felt:
    """Seconds of each answer and each search of one person."""

    answers: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)


def run(lab: Lab, site: Site, repeats: int) -> list[Figure]:
    """Both figures; backups run again afterwards, whatever happened."""
    cluster, where = Cluster(lab, site), report.machine()
    keeper = site.having("backup")[0].name
    with weights_hold():
        figures = cost(cluster, site, keeper, "shared processors", repeats, where)
        with apart(lab, cluster.members, [one.name for one in site.machines if one.name not in cluster.members]):
            figures += cost(cluster, site, keeper, "processors apart", repeats, where)
        figures += beside_drills(cluster, site, keeper, repeats, where)
    report.write(figures)
    rows = [(one.what, f"{one.value:g} {one.unit}".strip(), one.must) for one in figures if one.value is not None]
    print(f"\n{report.table(('what', 'value', 'must'), rows)}\n", flush=True)
    return figures


@contextmanager
def weights_hold() -> Iterator[None]:
    """
    What a unit yields to others by Nice= holds among all machines of the lab meanwhile.

    Without a controller of the processors there, the kernel takes every unit for as important as every other one, and
    neither Nice= nor CPUWeight= counts. A backup host's neighbour on real machines is another computer, or weighed.
    """
    before = AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
    if before:
        AUTOGROUP.write_text("0")
    try:
        yield
    finally:
        if before:
            AUTOGROUP.write_text(before)


def cost(cluster: Cluster, site: Site, keeper: str, how: str, repeats: int, where: str) -> list[Figure]:
    """Transactions per second with the log received and copied, beside without, in turn.

    Where the machines share their processors, the receiver's and the copier's work is taken from the primary too; where
    the database has some to itself, what it pays is left: the sender of the log. The two runs of a round stand against
    each other, each first in every second round, since the computer's own pace changes from minute to minute.
    """
    cluster.wait_until_whole(60)
    first = cluster.leader()
    paces: dict[str, list[float]] = {"without": [], "with": []}
    with pgbench.database(cluster, site, first) as measured:
        try:
            for number in range(1, repeats + 1):
                for mode in ("without", "with") if number % 2 else ("with", "without"):
                    (_received if mode == "with" else _not_received)(cluster, keeper)
                    paces[mode].append(measured(SECONDS).tps)
                    say(f"bench: {how}, {mode} backups, {number} of {repeats}: {paces[mode][-1]:.0f} tps")
        finally:
            _received(cluster, keeper)
    without, having = median(paces["without"]), median(paces["with"])
    kept = median(after / before for before, after in zip(paces["without"], paces["with"], strict=True))
    what = f"the primary's pace with backups over without, {how}"
    ratio = at_least(AREA, what, kept, "", 0.95, repeats, where)
    pace = at_most(AREA, f"transactions with backups, {how}", having, "1/s", None, repeats, where)
    return [replace(pace, peer=round(without, 1), ratio=round(kept, 3)), ratio]


def _received(cluster: Cluster, keeper: str) -> None:
    cluster.shell(keeper, "systemctl start rag-wal rag-backup.timer")
    said = (
        "select count(*) from pg_stat_replication where application_name = 'rag-wal' and state = 'streaming'"
        " and pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn) < 1000000"
    )
    until(lambda: cluster.sql(cluster.leader(), said) == "1", 60, "the log is received and nothing of before is left")
    # What was written meanwhile is copied now, and not while it is measured; nor is it brought to the disk then.
    cluster.shell(keeper, "systemctl start rag-backup; sync", 600)


def _not_received(cluster: Cluster, keeper: str) -> None:
    cluster.shell(keeper, "systemctl stop rag-backup.timer; systemctl stop rag-backup.service rag-wal; sync", 120)


def beside_drills(cluster: Cluster, site: Site, keeper: str, repeats: int, where: str) -> list[Figure]:
    """One person who asks and searches with pauses, while drills follow each other and while none runs, in turn."""
    alone, beside = Felt(), Felt()
    with closing(demo.client(site)) as http:
        made = Made(cluster, site, http, f"bench-{secrets.token_hex(3)}")
        with collection(made):
            questions = filled(made)
            _ask(made, questions, 3, Felt())
            for _ in range(repeats):
                _ask(made, questions, ROUNDS, alone)
                with drills(cluster, keeper):
                    _ask(made, questions, ROUNDS, beside)
    figures = []
    for what, before, after in (("answer", alone.answers, beside.answers), ("search", alone.searches, beside.searches)):
        most = at_most(AREA, f"{what} during a drill, median", median(after) * 1000, "ms", None, len(after), where)
        ratio = median(after) / median(before)
        figures.append(replace(most, peer=round(median(before) * 1000, 1), ratio=round(ratio, 3)))
        figures.append(at_most(AREA, f"{what} during a drill over without", ratio, "", 1.2, len(after), where))
    return figures


@contextmanager
def drills(cluster: Cluster, keeper: str) -> Iterator[None]:
    """Drills, one after the other, until the block ends and the last one with it; a failed one fails the bench."""
    over = threading.Event()

    def follow_each_other() -> None:
        while not over.is_set():
            cluster.shell(keeper, "systemctl start rag-drill", 900)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(follow_each_other)
        try:
            yield
        finally:
            over.set()
        running.result()


def _ask(made: Made, questions: Sequence[str], rounds: int, felt: Felt) -> None:
    for number in range(rounds):
        question = questions[number % len(questions)]
        began = time.monotonic()
        asked = {"collection": made.name, "question": question}
        made.http.post("/api/v1/questions", json=asked).raise_for_status()
        felt.answers.append(time.monotonic() - began)
        began = time.monotonic()
        made.http.get("/api/v1/search", params={"collection": made.name, "q": question}).raise_for_status()
        felt.searches.append(time.monotonic() - began)
        time.sleep(PAUSE_SECONDS)
