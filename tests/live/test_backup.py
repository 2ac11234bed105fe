"""The backup host: no acknowledged write is missing from what it received, and whatever stops it is noticed."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from inventories.network import NODE_EXPORTER, REST_DOOR
from inventories.settings import Machine, Site
from tests.live.fleet import Fleet, deploy
from tests.live.test_cluster import postmaster
from tests.live.test_database import PSQL, Run, leader, whole
from tests.live.waiting import until

FOLDER = "/var/lib/rag-backup"
SPOOL = f"{FOLDER}/spool"
PATRONICTL = "patronictl -c /etc/patroni/config.yml"
# As the backup host's own role: rows whose commit was acknowledged, with their transactions.
WRITE = """
import sys, time
from pathlib import Path
sys.path.insert(0, "/opt/rag/current/lib")
import psycopg2
enough = Path(values["enough"])
secret = open("/etc/credstore/backup-password").read()
end, acknowledged, failed, link = time.monotonic() + 240, [], 0, None
while time.monotonic() < end and not enough.exists():
    try:
        if link is None:
            link = psycopg2.connect(
                host=values["hosts"], user="rag_backup", dbname="rag", password=secret, connect_timeout=2,
                sslmode="verify-full", sslrootcert="/etc/rag/pki/ca.crt", sslcert="/etc/rag/pki/backup.crt",
                sslkey="/etc/rag/pki/backup.key", target_session_attrs="read-write")
            link.autocommit = True
        with link.cursor() as cursor:
            cursor.execute("insert into canaries (number) select coalesce(max(number), 0) + 1 from canaries "
                           "returning number, pg_current_xact_id()::text::bigint")
            row = cursor.fetchone()
        if not any("might not have been replicated" in notice for notice in link.notices):
            acknowledged.append(row)
        link.notices.clear()
        time.sleep(0.01)
    except psycopg2.Error:
        failed, link = failed + 1, None
        time.sleep(0.05)
print(json.dumps({"acknowledged": acknowledged, "failed": failed}))
"""
# Every commit of the spool, as PostgreSQL itself reads it: of each segment the newest timeline's file.
COMMITS = """
import re, shutil, subprocess, tempfile
from pathlib import Path
newest = {}
for path in sorted(Path(values["spool"]).iterdir()):
    found = re.fullmatch(r"([0-9A-F]{8})([0-9A-F]{16})([.]partial)?", path.name)
    if found and path.stat().st_size:
        newest[found[2]] = (found[1], path)
said = []
with tempfile.TemporaryDirectory(dir=values["folder"]) as folder:
    for place, (timeline, path) in newest.items():
        shutil.copyfile(path, f"{folder}/{timeline}{place}")
    for place, (timeline, path) in newest.items():
        if place < values["since"]:
            continue
        dump = ["/usr/lib/postgresql/17/bin/pg_waldump", "--rmgr=Transaction", "--path", folder,
                f"{timeline}{place}", f"{timeline}{place}"]
        done = subprocess.run(dump, capture_output=True, text=True)
        said += re.findall(r"tx: +(\\d+), .*desc: COMMIT", done.stdout)
print(json.dumps(sorted({int(tx) for tx in said})))
"""


@pytest.fixture(scope="module")
def ops(site: Site) -> str:
    if not site.having("backup"):
        pytest.skip("the site has no backup host")
    return site.having("backup")[0].name


def status(run: Run, ops: str) -> str:
    """What `systemctl status rag-wal` tells a person."""
    return run(ops, "systemctl show --property=StatusText --value rag-wal")


def figures(site: Site, run: Run, ops: str) -> dict[str, float]:
    """As Prometheus gets them: from node_exporter, certificate against certificate."""
    pki = "/etc/rag/pki"
    text = run(
        ops,
        f"curl --fail --silent --cacert {pki}/ca.crt --cert {pki}/node-exporter.crt --key {pki}/node-exporter.key "
        f"https://{ops}:{NODE_EXPORTER}/metrics | grep ^rag_backup",
    )
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines())}


def receiving(site: Site, run: Run, ops: str) -> bool:
    """From the present primary, all of it."""
    said = status(run, ops)
    assert f"receiving from {leader(site, run)}: " in said, said
    assert ", 0.0 MB behind" in said, said
    return True


def place(site: Site, run: Run) -> str:
    """Name of the segment that the primary writes, without its timeline."""
    return run(leader(site, run), PSQL + '"select pg_walfile_name(pg_current_wal_lsn())"')[8:]


def switch(site: Site, run: Run, times: int) -> None:
    """So many segments of log, nearly empty."""
    first = leader(site, run)
    one = "select pg_logical_emit_message(true, 'live-test', 'a write'); select pg_switch_wal();"
    run(first, f"{PSQL.removesuffix('--command ')} --quiet <<'END' >/dev/null\n{one * times}\ncheckpoint;\nEND\n")


@contextmanager
def stopped(run: Run, ops: str, *units: str) -> Iterator[None]:
    run(ops, f"systemctl stop {' '.join(units)}")
    try:
        yield
    finally:
        run(ops, f"systemctl start {' '.join(units)}")


def covered(site: Site, run: Run, ops: str) -> bool:
    found = figures(site, run, ops)
    assert (found["rag_backup_wal_receiving"], found["rag_backup_wal_uncovered"]) == (1, 0), status(run, ops)
    return True


def test_the_log_is_received_and_its_figures_are_served(site: Site, run: Run, ops: str) -> None:
    until(lambda: receiving(site, run, ops), "the log is received", 60)
    # The first base backup of a new site begins by itself.
    until(lambda: covered(site, run, ops), "a base backup goes together with the log", 180)

    found = figures(site, run, ops)
    assert found["rag_backup_wal_behind_bytes"] >= 0
    assert found["rag_backup_canary_number"] > 0
    assert found['rag_backup_last_result{kind="wal"}'] == 1


def test_every_unit_of_the_backups_is_locked_down_and_says_when_it_works(run: Run, ops: str) -> None:
    units = run(ops, "cd /etc/systemd/system; ls rag-*.service").split()
    listed = run(ops, "systemctl list-timers --all --no-pager")

    assert {"rag-wal.service", "rag-rest.service", "rag-backup.service", "rag-drill.service"} <= set(units)
    for work in ("backup", "base", "dump", "maintain", "drill", "drill-weekly"):
        assert f"rag-{work}.timer" in listed
    said = run(ops, f"systemd-analyze security --no-pager {' '.join(units)} | grep 'Overall exposure'")
    scores = [float(score) for score in re.findall(r": ([\d.]+)", said)]
    assert len(scores) == len(units)
    assert max(scores) < 2.5, said


def test_no_secret_is_in_an_argument_list_or_the_journal(site: Site, run: Run, ops: str, fleet: Fleet) -> None:
    hidden = [site.secret(f"{name}-password") for name in ("backup", "repository", "drill")]
    search = """
import subprocess
from pathlib import Path
lists = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
journal = subprocess.run(["journalctl", "--no-pager", "-o", "cat", "-n", "20000"], capture_output=True).stdout
print(json.dumps([place for secret in values["hidden"] for place, text in (("arguments", lists), ("journal", journal))
                  if secret.encode() in text]))
"""
    assert fleet.python(ops, search, hidden=hidden) == []


def test_what_takes_pushes_sees_what_is_pushed_and_nothing_else(run: Run, ops: str) -> None:
    process = run(ops, "systemctl show --property=MainPID --value rag-rest")
    inside = f"nsenter --mount --target {process} --"

    assert run(ops, f"{inside} ls -A {FOLDER}") == "pushed"
    assert run(ops, f"{inside} ls -A {FOLDER}/pushed") == run(ops, f"ls -A {FOLDER}/pushed")
    assert run(ops, f"{inside} find /etc/rag /opt/rag -type f | wc -l") == "0"


@pytest.mark.lab
def test_no_acknowledged_write_is_missing_after_a_switchover_and_a_killed_primary(
    site: Site, run: Run, fleet: Fleet, ops: str, measured: Callable[[str], None]
) -> None:
    until(lambda: whole(site, run), "a whole cluster", 120)
    since, hosts = place(site, run), ",".join(peer.name for peer in site.having("database"))
    enough = f"{FOLDER}/run/live-test-enough"
    run(ops, f"rm -f {enough}")

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(fleet.python, ops, WRITE, seconds=300, hosts=hosts, enough=enough)
        first = leader(site, run)
        run(first, f"{PATRONICTL} switchover --force --leader {first}")
        until(lambda: leader(site, run) not in {"", first}, "another primary", 60)
        until(lambda: whole(site, run), "a whole cluster", 120)
        second = leader(site, run)
        run(second, f"kill -9 {postmaster(site, run, second)}")
        until(lambda: leader(site, run) not in {"", second}, "a primary again", 60)
        until(lambda: receiving(site, run, ops), "the receiver has found the primary and has all of it", 60)
        run(ops, f"touch {enough}")
        ledger = told.result()
    until(lambda: receiving(site, run, ops), "the receiver has found the primary and has all of it", 60)

    spooled = set(fleet.python(ops, COMMITS, spool=SPOOL, folder=f"{FOLDER}/run", since=since))
    rows = [(number, tx) for number, tx in ledger["acknowledged"]]
    assert len(rows) > 100
    assert [number for number, tx in rows if tx not in spooled] == []
    kept = run(leader(site, run), PSQL + f'"select count(*) from canaries where number >= {rows[0][0]}" rag')
    assert int(kept) >= len(rows)
    measured(f"backup host: {len(rows)} writes acknowledged over two changes of the primary, 0 missing in the spool")
    until(lambda: whole(site, run), "a whole cluster", 120)


@pytest.mark.lab
def test_a_backup_host_that_was_away_during_a_failover_fetches_what_it_missed(site: Site, run: Run, ops: str) -> None:
    gaps = figures(site, run, ops)["rag_backup_wal_gaps"]
    with stopped(run, ops, "rag-wal"):
        first = leader(site, run)
        switch(site, run, 2)
        run(first, f"{PATRONICTL} switchover --force --leader {first}")
        until(lambda: leader(site, run) not in {"", first}, "another primary", 60)
        switch(site, run, 2)

    until(lambda: receiving(site, run, ops), "the log is received", 60)
    until(lambda: covered(site, run, ops), "nothing is missing", 30)
    assert figures(site, run, ops)["rag_backup_wal_gaps"] == gaps
    until(lambda: whole(site, run), "a whole cluster", 120)


@pytest.mark.lab
def test_log_that_is_lost_is_noticed_and_a_base_backup_made_at_once(
    site: Site, run: Run, ops: str, measured: Callable[[str], None]
) -> None:
    with stopped(run, ops, "rag-wal"):
        # More than is kept without a slot; then one that begins later, as of a replica cloned after the receiver left.
        switch(site, run, 24)
        run(leader(site, run), PSQL + "\"select pg_drop_replication_slot('rag_backup')\"")
        switch(site, run, 2)
        began = run(ops, "date +%s")

    def noticed() -> str:
        said = run(ops, f"journalctl -u rag-wal --since @{began} -o cat --no-pager | grep 'a base backup is needed'")
        assert "log is missing between " in said
        assert "systemctl status rag-base" in said
        return said

    until(noticed, "the hole is told", 60)
    until(
        lambda: run(ops, f"journalctl -u rag-base --since @{began} -o cat --no-pager | grep '^base: done'"),
        "a base",
        120,
    )
    until(lambda: covered(site, run, ops), "the new base backup goes together with the log", 60)
    after = int(run(ops, "date +%s")) - int(began)
    measured(f"backup host: a hole in the log was covered by a new base backup {after} s after the receiver came back")


@pytest.mark.lab
def test_a_full_disk_of_the_spool_is_noticed_and_nothing_is_lost_by_it(site: Site, run: Run, ops: str) -> None:
    size = f"$(( $(du -sm {SPOOL}.real | cut -f 1) + 20 ))m"
    with stopped(run, ops, "rag-backup.timer", "rag-wal"):
        run(
            ops,
            f"systemctl stop rag-backup; mv {SPOOL} {SPOOL}.real && mkdir {SPOOL} && "
            f"mount -t tmpfs -o size={size},mode=700,uid=rag-backup,gid=rag-backup tmpfs {SPOOL} && "
            f"cp -a {SPOOL}.real/. {SPOOL}/",
        )
        try:
            run(ops, "systemctl start rag-wal")
            until(lambda: receiving(site, run, ops), "the log is received", 60)
            switch(site, run, 3)

            def full() -> bool:
                assert "the disk is full" in status(run, ops), status(run, ops)
                return figures(site, run, ops)["rag_backup_wal_receiving"] == 0

            until(full, "the full disk is told", 60)
            run(ops, f"mount -o remount,size=4g {SPOOL}")
            until(lambda: receiving(site, run, ops), "the log is received again", 60)
            until(lambda: covered(site, run, ops), "nothing is missing", 30)
        finally:
            run(
                ops,
                f"systemctl stop rag-wal; cp -an {SPOOL}/. {SPOOL}.real/ && "
                f"for f in {SPOOL}.real/*.partial; do test -e ${{f%.partial}} && rm $f; done; "
                f"umount {SPOOL} && rmdir {SPOOL} && mv {SPOOL}.real {SPOOL}",
            )
    until(lambda: receiving(site, run, ops), "the log is received", 60)
    until(lambda: covered(site, run, ops), "nothing is missing", 30)


@pytest.mark.lab
def test_a_deploy_leaves_what_was_received_and_kept_alone(site: Site, run: Run, ops: str) -> None:
    places = " ".join(f"{FOLDER}/{name}" for name in ("spool", "repositories", "pushed", "aside"))
    kept = f"find {places} ! -name '*.partial' -printf '%i %p\\n'"
    run(ops, f"touch {FOLDER}/aside/live-test {FOLDER}/spool/00000000.history")
    try:
        with stopped(run, ops, "rag-backup.timer", "rag-wal"):
            run(ops, "systemctl stop rag-backup")
            before = set(run(ops, kept).splitlines())
            again = deploy(site.name, "--limit", ops)
            assert not again.rc, again.said
        # The deploy itself started what was stopped, which only adds.
        assert before <= set(run(ops, kept).splitlines())
    finally:
        run(ops, f"rm -f {FOLDER}/aside/live-test {FOLDER}/spool/00000000.history")


@pytest.mark.lab
def test_the_door_lets_each_host_add_to_its_own_folder_alone(site: Site, run: Run, ops: str) -> None:
    first, second = (machine.name for machine in site.having("etcd")[:2])

    def asked(machine: Machine | str, path: str, method: str = "GET", certificate: str = "push") -> str:
        shown = f"--cert /etc/rag/pki/{certificate}.crt --key /etc/rag/pki/{certificate}.key"
        return run(
            machine,
            f"curl -s -o /dev/null -w '%{{http_code}}' --path-as-is --max-time 10 --cacert /etc/rag/pki/ca.crt {shown} "
            f"-X {method} https://{ops}:{REST_DOOR}{path}; true",
        )

    assert asked(first, f"/{first}/etcd/config") == "200"
    assert asked(first, f"/{second}/etcd/config") == "403"
    assert asked(first, f"/{first}/../{second}/etcd/config") == "403"
    assert asked(first, f"/{first}/%2e%2e/{second}/etcd/config") == "403"
    assert asked(first, f"/{first}/etcd/config", certificate="node-exporter") == "403"
    # What is there can neither be deleted nor be written over, and no repository of the backup host's own is in reach.
    assert asked(first, f"/{first}/etcd/config", "DELETE") == "403"
    assert asked(first, f"/{first}/etcd/config", "POST") == "403"
    assert asked(first, "/") == "403"
