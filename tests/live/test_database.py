"""PostgreSQL: one primary, replicas with every write, TLS and scram for everybody, a new primary after a crash."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from inventories.settings import Machine, Site
from inventories.sizing import share_of
from tests.live.fleet import Fleet, deploy
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 --command "

WRITERS = "select count(*) from pg_stat_activity where application_name = 'live-test'"
# Writes until some seconds after the first write that came back, and tells the longest pause between two.
WRITE = """
import sys, time
sys.path.insert(0, "/opt/rag/current/lib")
import psycopg2
secret = open("/etc/credstore/database-password").read()
end, accepted, failed, back, link = time.monotonic() + values["most"], [], 0, None, None
while time.monotonic() < (back + values["after"] if back else end):
    try:
        if link is None:
            link = psycopg2.connect(
                host=values["hosts"], user="rag", dbname="rag", password=secret, connect_timeout=2,
                sslmode="verify-full", sslrootcert="/etc/rag/pki/ca.crt", sslcert="/etc/rag/pki/app.crt",
                sslkey="/etc/rag/pki/app.key", target_session_attrs="read-write",
                application_name="live-test")
            link.autocommit = True
        link.cursor().execute("select pg_logical_emit_message(true, 'live-test', 'a write'); select pg_sleep(0.02)")
        accepted.append(time.monotonic())
        back = back or (accepted[-1] if failed else None)
    except psycopg2.Error:
        failed, link = failed + 1, None
        time.sleep(0.05)
gaps = [later - sooner for sooner, later in zip(accepted, accepted[1:])]
print(json.dumps({"writes": len(accepted), "failed": failed, "gap": max(gaps, default=0)}))
"""


def members(site: Site, run: Run) -> dict[str, str]:
    """Member to role and state, as Patroni lists them."""
    listed = json.loads(run(site.having("database")[0], "patronictl -c /etc/patroni/config.yml list -f json"))
    return {entry["Member"]: f"{entry['Role']}, {entry['State']}" for entry in listed}


def leader(site: Site, run: Run) -> str:
    return next((name for name, role in members(site, run).items() if role == "Leader, running"), "")


def whole(site: Site, run: Run) -> bool:
    # A replica that only runs is not well: it may be on a timeline of its own and answer with what was.
    replicas = ["Quorum Standby, streaming"] * (len(site.having("database")) - 1)
    found = members(site, run)
    assert sorted(found.values()) == ["Leader, running", *replicas], found
    return True


def test_one_leads_and_the_others_hold_every_write(site: Site, run: Run) -> None:
    until(lambda: whole(site, run), "a whole cluster")
    others = len(site.having("database")) - 1

    said = run(leader(site, run), PSQL + '"show data_checksums; show synchronous_standby_names; show ssl"')

    assert said.splitlines()[0] == "on"
    assert ("ANY 1" in said) == bool(others)
    # A backup host that receives the log is none of them, and acknowledges nothing.
    members = ", ".join(f"'{machine.name}'" for machine in site.having("database"))
    standbys = PSQL + f'"select state, sync_state from pg_stat_replication where application_name in ({members})"'
    assert run(leader(site, run), standbys).splitlines() == ["streaming|quorum"] * others
    assert said.splitlines()[-1] == "on"


def test_patroni_knows_how_far_each_replica_is(site: Site, run: Run) -> None:
    # Without it a crashed primary comes back as a replica that never notices that its history is another.
    # Its own troubles come with every round, which are two seconds apart; a port scan's broken handshakes pass.
    for machine in site.having("database"):

        def untroubled(machine: Machine = machine) -> bool:
            said = run(machine, "journalctl --unit patroni --since -8s --output cat --no-pager")
            assert "Traceback" not in said, said[-600:]
            return "no action" in said or "I am" in said

        until(untroubled, f"rounds of Patroni without trouble on {machine.name}", 60)


@pytest.mark.lab
def test_a_write_is_on_the_replicas(site: Site, run: Run) -> None:
    first = leader(site, run)
    run(first, PSQL + '"create table if not exists public.probe (n int); insert into probe values (42)"')
    try:
        for peer in site.having("database"):

            def arrived(peer: Machine = peer) -> bool:
                return "42" in run(peer, PSQL + '"select n from probe"')

            until(arrived, f"the row on {peer.name}", 10)
    finally:
        run(first, PSQL + '"drop table probe"')


def test_postgresql_has_its_share_of_the_machine(site: Site, run: Run) -> None:
    for machine in site.having("database"):
        memory, cores = run(
            machine, "echo $(( $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) / 1024 )) $(nproc)"
        ).split()
        share = share_of(site, machine, int(memory), int(cores))

        said = run(machine, PSQL + "\"select name, setting::bigint * case unit when '8kB' then 8 when 'kB' then 1 "
                   "else 1024 end / 1024 from pg_settings where unit in ('8kB', 'kB', 'MB') union all "
                   "select name, setting::bigint from pg_settings where name = 'max_connections'\"")  # fmt: skip

        found = {name: int(value) for name, value in (line.split("|") for line in said.splitlines())}
        assert found["shared_buffers"] == share.shared_buffers_mb
        assert found["effective_cache_size"] == share.effective_cache_size_mb
        assert found["work_mem"] == share.work_mem_mb
        assert found["maintenance_work_mem"] == share.maintenance_work_mem_mb
        assert found["max_connections"] == share.connections
        assert found["max_slot_wal_keep_size"] == site.database.slot_wal_mb


def test_the_backup_host_s_place_in_the_log_is_kept_on_every_member(site: Site, run: Run) -> None:
    for machine in site.having("database"):
        slots = run(machine, PSQL + '"select slot_name from pg_replication_slots"').split()
        assert ("rag_backup" in slots) == bool(site.having("backup")), machine.name


@pytest.mark.lab
def test_settings_that_all_members_share_are_kept_by_the_deploy(site: Site, run: Run) -> None:
    first, *_ = site.having("database")
    patronictl = "patronictl -c /etc/patroni/config.yml"
    run(first, f"{patronictl} edit-config rag --force --set loop_wait=3 --set primary_stop_timeout=17")
    try:
        assert deploy(site.name).changed == {"Database | Keep the cluster's settings": [first.name]}

        said = run(first, f"{patronictl} show-config rag")
        assert f"loop_wait: {site.database.loop_wait}\n" in said
        assert "primary_stop_timeout: 17" in said
    finally:
        run(first, f"{patronictl} edit-config rag --force --set primary_stop_timeout=null")


@pytest.mark.lab
def test_a_killed_postmaster_is_followed_by_a_primary_that_takes_writes(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    # Given: an app host that writes all the time, the way the program does.
    first = leader(site, run)
    hosts = ",".join(peer.name for peer in site.having("database"))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(fleet.python, site.having("app")[0].name, WRITE, hosts=hosts, after=5, most=60)
        until(lambda: "1" in run(first, f'{PSQL}"{WRITERS}"'), "the writer")

        # When
        run(first, f"kill -9 $(head -1 /var/lib/postgresql/{site.database.version}/rag/postmaster.pid)")
        said = writing.result()

    # Then
    assert said["failed"] > 0
    assert said["writes"] > 0
    measured(f"postmaster of {first} killed: {said['gap']:.1f} s without an accepted write, then {leader(site, run)}")
    until(lambda: whole(site, run), "the crashed member's return", 120)
