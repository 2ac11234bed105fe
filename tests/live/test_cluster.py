"""Day 2 of the cluster: the verbs do what they say, refuse what would make it worse, and writes go on meanwhile."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import ROOT, Fleet
from tests.live.test_database import PSQL, WRITE, Run, leader, whole
from tests.live.waiting import until


def verb(site: Site, *words: str) -> "subprocess.CompletedProcess[str]":
    """What the Makefile's verb calls."""
    return subprocess.run(
        [sys.executable, "-m", "tasks.cluster", site.name, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def well(site: Site, *words: str) -> str:
    done = verb(site, *words)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(site: Site, *words: str) -> str:
    done = verb(site, *words)
    assert done.returncode == 2, f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stderr.count("\n") == 1
    return done.stderr


def replicas(site: Site, run: Run) -> list[str]:
    first = leader(site, run)
    return [machine.name for machine in site.having("database") if machine.name != first]


def postmaster(site: Site, run: Run, name: str) -> str:
    return run(name, f"sed -n 1p /var/lib/postgresql/{site.database.version}/rag/postmaster.pid")


@pytest.fixture(autouse=True)
def healthy_before_and_after(site: Site, run: Run) -> Iterator[None]:
    """A test of this file begins and ends with a whole cluster, so that the next one is not to blame."""
    until(lambda: whole(site, run), "a whole cluster", 120)
    yield
    if site.name == "lab":
        until(lambda: whole(site, run), "a whole cluster again", 120)


@contextmanager
def writing(site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None], what: str) -> Iterator[None]:
    """An app host writes meanwhile, as the program does; afterwards the longest pause is said, and was not long."""
    hosts = ",".join(peer.name for peer in site.having("database"))
    # It ends three seconds after the first write that came back from a failure.
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(fleet.python, site.having("app")[0].name, WRITE, hosts=hosts, after=3, most=90)
        busy = PSQL + "\"select count(*) from pg_stat_activity where application_name = 'live-test'\""
        until(lambda: run(leader(site, run), busy) == "1", "the writer")
        yield
        said = told.result()
    measured(f"{what}: {said['gap']:.1f} s without an accepted write, {said['writes']} writes")
    assert said["writes"] > 0
    # A loaded lab is slower than the two seconds that the bench holds it to.
    assert said["gap"] < 10


def test_the_table_and_the_json_tell_the_truth(site: Site, run: Run) -> None:
    told = json.loads(well(site, "json"))
    table = well(site, "show")

    first = leader(site, run)
    assert [one["name"] for one in told["members"] if one["role"] == "leader"] == [first]
    assert {one["name"]: one["address"] for one in told["members"]} == {
        machine.name: str(machine.address) for machine in site.having("database")
    }
    asked = run(first, PSQL + '"select count(*) from pg_replication_slots; show server_version"').splitlines()
    assert len(told["slots"]) == int(asked[0])
    assert asked[1].startswith(told["version"])
    assert told["etcd"] == {machine.name: True for machine in site.having("etcd")}
    assert told["healthy"], told["why"]
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    assert rows[first][2:4] == ["leader", "running"]


@pytest.mark.lab
def test_the_lead_goes_to_the_member_that_is_named(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    to = replicas(site, run)[-1]

    with writing(site, run, fleet, measured, f"switchover to {to}"):
        well(site, "switchover", to)

    assert leader(site, run) == to


@pytest.mark.lab
def test_a_switchover_to_nobody_fit_is_refused(site: Site, run: Run) -> None:
    first, lame = leader(site, run), replicas(site, run)[0]

    assert f"{first} leads already" in refused(site, "switchover", first)
    assert "db9 is not a member" in refused(site, "switchover", "db9")
    run(lame, "systemctl stop patroni")
    try:
        assert lame in refused(site, "switchover", lame)
    finally:
        run(lame, "systemctl start patroni")
    assert leader(site, run) == first


@pytest.mark.lab
def test_a_replica_that_lags_is_not_switched_to(site: Site, run: Run) -> None:
    first, late = leader(site, run), replicas(site, run)[0]
    # Patroni undoes a pause of the replay at its next round, so the process itself stands still.
    startup = run(late, "pgrep -f '^postgres: rag: startup'")
    run(late, f"kill -STOP {startup}")
    try:
        # More than Patroni's limit of 1 MiB.
        run(first, PSQL + "\"select pg_logical_emit_message(false, 'lag', repeat('x', 3000000))\"")
        assert "bytes behind" in refused(site, "switchover", late)
    finally:
        run(late, f"kill -CONT {startup}")


@pytest.mark.lab
def test_a_rolling_restart_makes_every_postgresql_new_while_writes_go_on(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    names = [machine.name for machine in site.having("database")]
    old = {name: postmaster(site, run, name) for name in names}
    first = leader(site, run)

    with writing(site, run, fleet, measured, "rolling restart"):
        said = well(site, "rolling-restart")

    assert {name: postmaster(site, run, name) == pid for name, pid in old.items()} == dict.fromkeys(names, False)
    restarted = [line.split()[2].rstrip(":") for line in said.splitlines() if line.endswith(": restarting")]
    assert restarted == [*sorted(set(names) - {first}), first]
    assert leader(site, run) != first


@pytest.mark.lab
def test_a_replica_whose_data_are_damaged_is_fetched_anew(site: Site, run: Run) -> None:
    first, broken = leader(site, run), replicas(site, run)[0]
    assert "leads" in refused(site, "reinit", first)
    folder = f"/var/lib/postgresql/{site.database.version}/rag"
    run(broken, f"mount --bind {folder}/pg_wal {folder}/pg_wal")
    assert f"{folder}/pg_wal is a file system of its own" in refused(site, "reinit", broken)
    run(broken, f"umount {folder}/pg_wal")
    run(broken, f"kill -9 $(sed -n 1p {folder}/postmaster.pid); rm -rf {folder}/global")

    well(site, "reinit", broken)

    assert run(broken, PSQL + '"select pg_is_in_recovery()"') == "t"


@pytest.mark.lab
def test_nobody_takes_over_while_failover_is_paused(site: Site, run: Run) -> None:
    first = leader(site, run)
    well(site, "pause")
    try:
        assert "paused" in refused(site, "switchover")
        assert "paused" in refused(site, "rolling-restart")
        assert "PAUSED" in well(site, "show")

        run(first, f"kill -9 {postmaster(site, run, first)}")

        # Patroni of the others looks three times and leaves the lead where it was.
        for _ in range(3):
            well(site, "show")
            others = [
                json.loads(run(name, f"curl -s {CERTIFIED} https://{name}:8008/patroni"))["role"]
                for name in replicas_but(site, first)
            ]
            assert others == ["replica"] * len(others)
    finally:
        well(site, "resume")
    assert "already" in well(site, "resume")


CERTIFIED = "--cacert /etc/rag/pki/ca.crt --cert /etc/rag/pki/patroni.crt --key /etc/rag/pki/patroni.key"


def replicas_but(site: Site, first: str) -> list[str]:
    return [machine.name for machine in site.having("database") if machine.name != first]


@pytest.mark.lab
def test_two_at_once_are_refused(site: Site, run: Run) -> None:
    held: Machine = site.having("database")[-1]
    lock = "exec 9>>/run/lock/rag-cluster; flock 9; echo 'test by somebody' > /run/lock/rag-cluster"
    run(held, f"systemd-run --quiet --unit rag-test-lock sh -c {json.dumps(f'{lock}; sleep 60')}")
    try:
        until(lambda: "somebody" in run(held, "cat /run/lock/rag-cluster 2>/dev/null; true"), "the lock")

        said = refused(site, "switchover")

        assert "another action runs: test by somebody" in said
    finally:
        run(held, "systemctl stop rag-test-lock")


@pytest.mark.lab
def test_who_leads_is_not_taken_away(site: Site, run: Run) -> None:
    first = leader(site, run)

    assert "switch over first" in refused(site, "remove-member", first)
    assert "MEMBER = db9" in refused(site, "remove-member", "db9")
    assert leader(site, run) == first
