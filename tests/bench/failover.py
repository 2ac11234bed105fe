"""PART=failover: the ledger is kept while the database cluster is hurt in every way, and then it is counted."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from inventories.settings import Site
from tests.bench import clients, report
from tests.bench.clients import Told
from tests.bench.cluster import Cluster, MissedError, last_words, until
from tests.bench.faults import FAULTS, Fault, Scene, nothing
from tests.bench.ledger import Verdict, judge, judge_collections, longest_gap, spread
from tests.bench.report import Figure, at_most
from tests.lab.fleet import Lab
from tests.lab.host import LabError, say

AREA = "failover"
SCHEMA = """
drop schema if exists bench cascade;
create schema bench;
grant usage on schema bench to rag;
create table bench.ledger (id text primary key, tries int not null default 1);
create table bench.effect (id text not null);
grant select, insert, update on bench.ledger, bench.effect to rag;
"""
# Beside the fault's own moment: what was before belongs to the picture, and an acknowledgement may come late.
BEFORE = 2.0


@dataclass(frozen=True)
class Sample:
    """One repeat of one fault."""

    write_gap: float
    read_gap: float
    answered: int
    failed_questions: tuple[str, ...]
    acknowledged: int
    verdict: Verdict
    collections: int
    collections_wrong: tuple[str, ...]
    failed_calls: int
    whole_after: float | None
    problem: str = ""


@dataclass(frozen=True)
class Bench:
    """What every repeat needs."""

    cluster: Cluster
    password: str
    collection: str
    run: str

    @property
    def site(self) -> Site:
        return self.cluster.site


def run(lab: Lab, site: Site, faults: Sequence[Fault], repeats: int) -> list[Figure]:
    """Every fault so many times, the table, and the figures; the lab is left as it was found."""
    cluster, name, where = Cluster(lab, site), uuid4().hex[:6], report.machine()
    say(f"bench: {len(faults)} faults, {repeats} repeats each, on {where}")
    cluster.wait_until_whole(120)
    figures: list[Figure] = []
    samples: dict[str, list[Sample]] = {}
    try:
        cluster.sql(cluster.leader(), SCHEMA, "rag")
        with clients.collection_to_ask(site, f"bench-{name}") as collection:
            bench = Bench(cluster, site.secret("database-password"), collection, name)
            for fault in faults:
                samples[fault.name] = repeat(bench, fault, repeats)
                figures += figures_of(fault, samples[fault.name], where)
                report.write(figures_of(fault, samples[fault.name], where))
    finally:
        clear(cluster)
        if samples:
            done = [fault for fault in faults if samples.get(fault.name)]
            print(f"\n{shown(done, samples)}\n", flush=True)
    return figures


def clear(cluster: Cluster) -> None:
    """Take away what the bench made in the database, also collections, which the API cannot take away."""
    try:
        until(cluster.leader, 120, "a leader")
        cluster.sql(
            cluster.leader(),
            "drop schema if exists bench cascade; delete from collections where name like 'bench-%'",
            "rag",
            seconds=120,
        )
    except LabError as problem:
        say(f"bench: what it made in the database stays until the next run: {problem}")


def repeat(bench: Bench, fault: Fault, repeats: int) -> list[Sample]:
    """A fault so many times; a repeat that goes wrong is told, healed and followed by the next."""
    samples = []
    try:
        for number in range(1, repeats + 1):
            sample = once(bench, fault, number)
            samples.append(sample)
            say(f"bench: {fault.what}, {number} of {repeats}: {told_of(sample)}")
    finally:
        scene = Scene(bench.cluster)
        try:
            fault.restore(scene)
        except LabError as problem:
            say(f"bench: {fault.what}: afterwards: {problem}")
    return samples


def told_of(sample: Sample) -> str:
    """A repeat in one line."""
    parts = [
        f"write gap {sample.write_gap:.2f} s",
        f"read gap {sample.read_gap:.2f} s",
        f"{sample.acknowledged} acknowledged",
        f"{sample.answered} answers, {len(sample.failed_questions)} failed",
        "not whole" if sample.whole_after is None else f"whole after {sample.whole_after:.1f} s",
        f"{sample.collections} collections, {sample.failed_calls} calls failed",
    ]
    wrong = [
        *([f"{len(sample.verdict.lost)} LOST"] if sample.verdict.lost else []),
        *([f"{len(sample.verdict.doubled)} DOUBLED"] if sample.verdict.doubled else []),
        *(f"SECOND PRIMARY: {line}" for line in sample.verdict.second_primary),
        *sample.collections_wrong[:3],
        *sample.failed_questions[:3],
        *([sample.problem] if sample.problem else []),
    ]
    return "; ".join([", ".join(parts), *wrong])


def once(bench: Bench, fault: Fault, number: int) -> Sample:
    """One repeat: a whole cluster, everybody at work, the fault, the healing, a whole cluster, the count."""
    cluster, scene, told = bench.cluster, Scene(bench.cluster, number), Told()
    cluster.make_whole()
    scene.leader = cluster.leader()
    fault.prepare(scene)
    scene.leader = cluster.leader()
    cluster.sql(scene.leader, "truncate bench.ledger, bench.effect", "rag")
    problem, whole_after = "", None
    with ExitStack() as works:
        works.enter_context(clients.ledger(cluster, bench.password, told))
        works.enter_context(clients.asking(bench.site, bench.collection, told))
        works.enter_context(clients.making_collections(bench.site, f"bench-{bench.run}-{fault.name}-{number}", told))
        until(lambda: len(told.writes) > 50 and told.answered and told.reads, 60, "writes, reads and answers")
        failed_before = len(told.failed_questions)
        time.sleep(BEFORE)
        began = time.monotonic()
        try:
            try:
                fault.inflict(scene)
                struck = time.monotonic()
                fault.hold(scene)
            except KeyboardInterrupt:
                say(f"bench: interrupted; {fault.what} is healed first")
                raise
            finally:
                healing = time.monotonic()
                fault.heal(scene)
            # What somebody must end is counted from there, all else from the moment that it was done.
            since = struck if fault.heal is nothing else healing
            cluster.wait_until_whole(fault.deadline - (time.monotonic() - healing))
            whole_after = time.monotonic() - since
            count = len(told.writes)
            until(lambda: len(told.writes) > count + 20, 30, "writes on the whole cluster")
        except (MissedError, LabError) as missed:
            problem = str(missed)
            log = Path("build", f"bench-{fault.name}-{number}.log")
            log.write_text(f"{problem}\n\n{last_words(cluster, cluster.members)}")
            say(f"bench: {fault.what}, {number}: {problem}; {log} has the last words of each member")
        ended = time.monotonic()
    verdict = counted(cluster, told)
    return Sample(
        write_gap=longest_gap([write.ended for write in told.writes], began - BEFORE, ended),
        read_gap=longest_gap(told.reads, began - BEFORE, ended),
        answered=len(told.answered),
        failed_questions=tuple(told.failed_questions[failed_before:]),
        acknowledged=len(told.acknowledged),
        verdict=verdict,
        collections=len(told.made),
        collections_wrong=wrong_collections(bench, told),
        failed_calls=len(told.failed_calls),
        whole_after=whole_after,
        problem=problem,
    )


def counted(cluster: Cluster, told: Told) -> Verdict:
    """The verdict, counted on every member: what a replica lacks is lost with the next change of the primary."""
    cluster.make_whole()
    leader = cluster.leader()
    flushed = cluster.sql(leader, "select pg_current_wal_flush_lsn()")
    lost: set[str] = set()
    doubled: set[str] = set()
    for name in cluster.members:
        replayed(cluster, name, flushed)
        verdict = judge(told.acknowledged, cluster.sql(name, "select id from bench.effect", "rag").split())
        keys = Counter(cluster.sql(name, "set enable_indexscan = off; select id from bench.ledger", "rag").split())
        lost |= {*verdict.lost, *(write.id for write in told.acknowledged if write.id not in keys)}
        doubled |= {*verdict.doubled, *(key for key, count in keys.items() if count > 1)}
    order = judge(told.acknowledged, [write.id for write in told.acknowledged]).second_primary
    return Verdict(tuple(sorted(lost)), tuple(sorted(doubled)), order)


def replayed(cluster: Cluster, name: str, place: str) -> None:
    """Return when a member shows everything up to a place in the log."""
    behind = f"select pg_is_in_recovery() and pg_last_wal_replay_lsn() < '{place}'"
    until(lambda: cluster.sql(name, behind) == "f", 30, f"{name} has replayed everything")


def wrong_collections(bench: Bench, told: Told) -> tuple[str, ...]:
    """What the API got wrong, in words."""
    found = judge_collections(told.made, told.taken, clients.listed_collections(bench.site))
    return (
        *(f"collection {name} was acknowledged and is not there" for name in found.missing),
        *(f"collection {name} is there twice" for name in found.doubled),
        *(f"collection {name} was refused as taken though it was ours" for name in found.refused),
    )


def figures_of(fault: Fault, samples: Sequence[Sample], where: str) -> list[Figure]:
    """A fault's figures beside its promises."""
    count = len(samples)

    def figure(what: str, value: float | None, unit: str, limit: float | None = None) -> Figure:
        return at_most(AREA, f"{fault.what}: {what}", value, unit, limit, count, where)

    least, middle, most = spread([sample.write_gap for sample in samples])
    whole = [sample.whole_after for sample in samples if sample.whole_after is not None]
    limit = fault.deadline if fault.whole is None else fault.whole
    return [
        figure("without an accepted write, min", least, "s"),
        figure("without an accepted write, median", middle, "s", fault.middle),
        figure("without an accepted write, max", most, "s", fault.most),
        figure("without an accepted read, max", max(sample.read_gap for sample in samples), "s"),
        figure("failed questions", sum(len(sample.failed_questions) for sample in samples), "", 0),
        figure("acknowledged writes", sum(sample.acknowledged for sample in samples), ""),
        figure("acknowledged writes lost", sum(len(sample.verdict.lost) for sample in samples), "", 0),
        figure("writes doubled", sum(len(sample.verdict.doubled) for sample in samples), "", 0),
        figure("second primaries", sum(len(sample.verdict.second_primary) for sample in samples), "", 0),
        figure("collections made by the API", sum(sample.collections for sample in samples), ""),
        figure("collections lost, doubled or refused", sum(len(sample.collections_wrong) for sample in samples), "", 0),
        figure("calls of the API's writer that failed", sum(sample.failed_calls for sample in samples), ""),
        figure("whole again after, max", max(whole) if len(whole) == count else None, "s", limit),
        figure("repeats that went wrong", sum(bool(sample.problem) for sample in samples), "", 0),
    ]


def promised(fault: Fault) -> str:
    """The promise on writes in words."""
    parts = [
        *([f"median ≤ {fault.middle:g} s"] if fault.middle is not None else []),
        *([f"max ≤ {fault.most:g} s"] if fault.most is not None else []),
        *([f"whole ≤ {fault.whole:g} s"] if fault.whole is not None else []),
    ]
    return ", ".join(parts) or "zeros"


HEAD = (
    "fault",
    "write gap min/median/max",
    "read gap",
    "failed questions",
    "acknowledged",
    "lost",
    "doubled",
    "second primary",
    "API wrong",
    "whole after",
    "promise",
    "holds",
)


def shown(faults: Sequence[Fault], samples: dict[str, list[Sample]]) -> str:
    """The table that a person reads."""
    rows = []
    for fault in faults:
        found = samples[fault.name]
        gaps = "/".join(f"{value:.2f}" for value in spread([sample.write_gap for sample in found]))
        whole = [sample.whole_after for sample in found]
        known = [value for value in whole if value is not None]
        questions = sum(sample.answered + len(sample.failed_questions) for sample in found)
        rows.append(
            (
                fault.what,
                f"{gaps} s",
                f"{max(sample.read_gap for sample in found):.2f} s",
                f"{sum(len(sample.failed_questions) for sample in found)} of {questions}",
                str(sum(sample.acknowledged for sample in found)),
                str(sum(len(sample.verdict.lost) for sample in found)),
                str(sum(len(sample.verdict.doubled) for sample in found)),
                str(sum(len(sample.verdict.second_primary) for sample in found)),
                str(sum(len(sample.collections_wrong) for sample in found)),
                f"{max(known):.1f} s" if len(known) == len(whole) else "not",
                promised(fault),
                "yes" if all(figure.holds for figure in figures_of(fault, found, "")) else "NO",
            )
        )
    return report.table(HEAD, rows)


def chosen(names: str) -> list[Fault]:
    """The faults of these names, every one when none is named."""
    known = {fault.name: fault for fault in FAULTS}
    wanted = [name for name in names.replace(" ", ",").split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"FAULT = {unknown[0]}; one of {', '.join(known)} is needed; make bench FAULT=switchover")
    return [known[name] for name in wanted] or list(FAULTS)
