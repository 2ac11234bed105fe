"""PostgreSQL: one primary, replicas with every write, TLS and scram for everybody, a new primary after a crash."""

import json
from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 --command "


def members(site: Site, run: Run) -> dict[str, str]:
    """Member to role, as far as they run."""
    listed = json.loads(run(site.having("database")[0], "patronictl -c /etc/patroni/config.yml list -f json"))
    return {entry["Member"]: entry["Role"] for entry in listed if entry["State"] in {"running", "streaming"}}


def leader(site: Site, run: Run) -> str:
    return next((name for name, role in members(site, run).items() if role == "Leader"), "")


def whole(site: Site, run: Run) -> bool:
    roles = members(site, run)
    return sorted(roles) == [peer.name for peer in site.having("database")] and "Leader" in roles.values()


def test_one_leads_and_the_others_hold_every_write(site: Site, run: Run) -> None:
    until(lambda: whole(site, run), "a whole cluster")
    until(lambda: sorted(members(site, run).values())[1:] == ["Quorum Standby"] * (len(site.having("database")) - 1),
          "replicas in the quorum")  # fmt: skip

    said = run(leader(site, run), PSQL + '"show data_checksums; show synchronous_standby_names; show ssl"')

    assert said.splitlines()[0] == "on"
    assert "ANY 1" in said
    assert said.splitlines()[-1] == "on"


@pytest.mark.lab
def test_a_write_is_on_the_replicas(site: Site, run: Run) -> None:
    first = leader(site, run)
    run(first, PSQL + '"create table if not exists public.probe (n int); insert into probe values (42)"')
    try:
        for peer in site.having("database"):
            until(lambda peer=peer: "42" in run(peer, PSQL + '"select n from probe"'), f"the row on {peer.name}", 10)
    finally:
        run(first, PSQL + '"drop table probe"')


def test_the_application_s_role_owns_its_database_and_nothing_else(site: Site, run: Run) -> None:
    said = run(
        leader(site, run),
        PSQL + '"select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls from pg_roles '
        "where rolname = 'rag'; select rolpassword like 'SCRAM-SHA-256%' from pg_authid where rolname = 'rag'\"",
    )

    assert said.split() == ["f", "t"]


def test_connections_without_tls_or_with_a_wrong_password_are_refused(site: Site, run: Run) -> None:
    app, primary = site.having("app")[0], leader(site, run)
    program = (
        "import sys; sys.path.insert(0, '/opt/rag/current/lib'); import psycopg2\n"
        "secret = open('/etc/credstore/database-password').read()\n"
        "def asked(password, **how):\n"
        "    try:\n"
        f"        psycopg2.connect(host='{primary}', user='rag', dbname=how.pop('dbname', 'rag'), "
        "password=password, connect_timeout=5, **how).close(); return 'in'\n"
        "    except psycopg2.OperationalError as error: return str(error)\n"
        "full = {'sslmode': 'verify-full', 'sslrootcert': '/etc/rag/pki/ca.crt'}\n"
        "print(asked(secret, **full), '|', asked('wrong', **full), '|', asked(secret, sslmode='disable'), '|', "
        "asked(secret, dbname='postgres', **full))"
    )

    well, wrong, plain, elsewhere = run(app, f"python3 - <<'END'\n{program}\nEND").replace("\n", " ").split(" | ")

    assert well == "in"
    assert "password authentication failed" in wrong
    assert "no encryption" in plain
    assert "no pg_hba.conf entry" in elsewhere


@pytest.mark.lab
def test_a_killed_postmaster_is_followed_by_a_primary_that_takes_writes(site: Site, run: Run) -> None:
    first = leader(site, run)

    run(first, f"kill -9 $(head -1 /var/lib/postgresql/{site.database.version}/rag/postmaster.pid)")

    takes = PSQL + '"create temporary table probe (n int); insert into probe values (1); select 1 from probe"'
    until(lambda: (now := leader(site, run)) and run(now, takes), "a primary that takes writes")
    until(lambda: whole(site, run), "the crashed member's return", 120)
