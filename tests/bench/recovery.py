"""PART=recovery: the whole cluster dies while somebody writes; what was acknowledged is counted in what comes back.

First out of the repository alone, as if the backup host had died too; then in place, with the backup host alive.
"""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from inventories.settings import Site
from tasks import in_place, restored, ssh
from tasks.in_place import Order, Phases
from tests.bench import report
from tests.bench.cluster import Cluster, until
from tests.bench.ledger import Write, lost
from tests.bench.report import Figure, at_least, at_most
from tests.lab.fleet import Lab
from tests.lab.host import say

AREA = "recovery"
LEDGER = "recovery_ledger"
# Longer than a copy into the repository takes to follow the last one; then the cluster dies.
BEFORE_SECONDS = 60
WRITE_SECONDS = 150
FILLER_MB = 200
# Acknowledges by standard output only what PostgreSQL has acknowledged with a replica that has it too.
WRITER = """
import sys, time, uuid, json
sys.path.insert(0, "/opt/rag/current/lib")
import psycopg2
hosts, seconds = sys.argv[1], float(sys.argv[2])
secret = open("/etc/credstore/database-password").read()
end, link, told, failures = time.monotonic() + seconds, None, [], 0
while time.monotonic() < end and failures < 40:
    try:
        if link is None:
            link = psycopg2.connect(host=hosts, user="rag", dbname="rag", password=secret, connect_timeout=2,
                sslmode="verify-full", sslrootcert="/etc/rag/pki/ca.crt", sslcert="/etc/rag/pki/app.crt",
                sslkey="/etc/rag/pki/app.key", target_session_attrs="read-write")
            link.autocommit = True
        name, began = str(uuid.uuid4()), time.time()
        link.cursor().execute("insert into recovery_ledger (id) values (%s)", (name,))
        told.append([name, began, time.time()])
        time.sleep(0.005)
    except psycopg2.Error:
        link = None
        failures += bool(told)
        time.sleep(0.1)
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Stage:
    """The lab with a table of its own for the writes."""

    cluster: Cluster
    site: Site

    @property
    def keeper(self) -> str:
        return self.site.having("backup")[0].name

    def sql(self, statement: str) -> str:
        return self.cluster.sql(self.cluster.leader(), statement, "rag", 300)


def run(lab: Lab, site: Site) -> list[Figure]:
    """The figures; the lab is whole again afterwards, with the data of before."""
    stage, where = Stage(Cluster(lab, site), site), report.machine()
    say(f"bench: recovery on {where}")
    prepare(stage)
    writes = disaster(stage)
    figures = alone(stage, writes, where) + alive(stage, writes, where)
    stage.sql(f"drop table if exists {LEDGER}, {LEDGER}_filler")
    report.write(figures)
    print(f"\n{report.table(('what', 'value', 'must'), [_row(figure) for figure in figures])}\n", flush=True)
    return figures


def prepare(stage: Stage) -> None:
    """The table of the ledger, something to restore, and a base with both."""
    stage.sql(f"drop table if exists {LEDGER}, {LEDGER}_filler")
    stage.sql(f"create table {LEDGER} (id text primary key, at timestamptz default clock_timestamp())")
    stage.sql(f"grant insert on {LEDGER} to rag")
    # Digests do not compress, as documents and vectors do not.
    rows = FILLER_MB * 1000
    stage.sql(
        f"create table {LEDGER}_filler as select string_agg(sha256((n * 40 + part)::text::bytea), ''::bytea) as bytes "
        f"from generate_series(1, {rows}) n, generate_series(1, 31) part group by n"
    )
    stage.cluster.shell(stage.keeper, "systemctl start rag-base", 1800)
    stage.cluster.shell(stage.keeper, "systemctl start rag-backup", 600)


def disaster(stage: Stage) -> list[Write]:
    """Somebody writes, and in the middle every PostgreSQL, Patroni and the copies into the repository end at once."""
    hosts = ",".join(stage.cluster.members)
    app = stage.site.having("app")[0]
    words = ssh.command(stage.site.ssh, app, f"python3 - {hosts} {WRITE_SECONDS}")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writing:
        assert writing.stdin is not None
        writing.stdin.write(WRITER)
        writing.stdin.close()
        written = f"select coalesce(extract(epoch from max(at) - min(at)), 0) from {LEDGER}"
        until(
            lambda: float(stage.sql(written)) > BEFORE_SECONDS, WRITE_SECONDS, f"writes of {BEFORE_SECONDS} s", every=1
        )
        stage.cluster.shell(stage.keeper, "systemctl stop rag-backup.timer; systemctl stop rag-backup.service")
        kill = "systemctl stop rag-guard; systemctl kill --signal=KILL patroni; systemctl stop patroni"
        killers = [
            subprocess.Popen(ssh.command(stage.site.ssh, machine, kill)) for machine in stage.site.having("database")
        ]
        for killer in killers:
            killer.wait(120)
        assert writing.stdout is not None
        told = json.loads(writing.stdout.read())
    say(f"bench: {len(told)} writes acknowledged until the cluster died")
    return [Write(name, began, ended, "", 0) for name, began, ended in told]


def alone(stage: Stage, writes: Sequence[Write], where: str) -> list[Figure]:
    """As if the backup host had died too: out of the last snapshot that was taken before."""
    machine = stage.site.machine(stage.keeper)
    copy = restored.make(stage.site, machine, {"to": None}, say)
    stored = restored.query(stage.site, machine, f"select id from {LEDGER}").split()
    missing = lost(writes, Counter(stored))
    kept = set(stored)
    last = max((write.ended for write in writes if write.id in kept), default=min(write.started for write in writes))
    seconds = max(write.ended for write in writes) - last
    copying = copied(stage)
    restored.end(stage.site, machine)
    laid = copy.seconds["base"] + copy.seconds["log"]
    return [
        at_most(AREA, "writes missing, only the repository survives", len(missing), "", None, len(writes), where),
        at_most(AREA, "time of writes missing, only the repository survives", seconds, "s", 30, 1, where),
        at_most(AREA, "restored beside production", sum(copy.seconds.values()), "s", None, 1, where),
        at_most(AREA, "bytes laid down", copy.bytes / 1e6, "MB", None, 1, where),
        at_least(AREA, "restore's rate as a part of cp's", copy.bytes / laid / copying, "", 0.6, 1, where),
    ]


def copied(stage: Stage) -> float:
    """Bytes a second of cp -a and sync, of what was restored, beside it on the same disk."""
    script = (
        f"cd {restored.COPY} && mkdir ../cp && began=$(date +%s.%N) && cp -a . ../cp/ && sync -f ../cp && "
        "echo $began $(date +%s.%N) $(du -sb ../cp | cut -f 1); rm -rf ../cp"
    )
    began, ended, size = stage.cluster.shell(stage.keeper, script, 900).split()
    return int(size) / (float(ended) - float(began))


def alive(stage: Stage, writes: Sequence[Write], where: str) -> list[Figure]:
    """The backup host has what reached it: the site goes back to that, in place."""
    phases = Phases(say, time.monotonic)
    in_place.recover(stage.site, Order(None), lambda _: None, phases)
    print(phases.table(), flush=True)
    stored = stage.sql(f"select id from {LEDGER}").split()
    missing = lost(writes, Counter(stored))
    figures: list[Figure] = [
        at_most(AREA, "writes missing, the backup host survives", len(missing), "", 0, len(writes), where),
        at_most(AREA, "the site in place again", sum(phases.seconds.values()), "s", 900, 1, where),
    ]
    for name, took in phases.seconds.items():
        figures.append(at_most(AREA, f"phase: {name}", took, "s", None, 1, where))
    return figures


def _row(figure: Figure) -> tuple[str, str, str]:
    value = "not measured" if figure.value is None else f"{figure.value:g} {figure.unit}".strip()
    return figure.what, value, figure.must
