"""etcd: every member healthy, closed to strangers, back after a crash."""

from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tests.live.test_database import leader
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
ASK = (
    "ETCDCTL_API=3 etcdctl --endpoints https://{0}:2379 --cacert /etc/rag/pki/etcd-ca.crt "
    "--cert /etc/rag/pki/{1}.crt --key /etc/rag/pki/{1}.key --command-timeout 5s {2}"
)


def test_every_member_is_healthy(site: Site, run: Run) -> None:
    members = site.having("etcd")

    listed = run(members[0], ASK.format(members[0].name, "etcd", "member list"))

    assert sorted(line.split(", ")[2] for line in listed.splitlines()) == [peer.name for peer in members]
    for peer in members:
        assert run(peer, ASK.format(peer.name, "etcd", "endpoint health 2>&1")).count("is healthy") == 1


def test_only_its_own_ca_s_certificates_open_it(site: Site, run: Run) -> None:
    member = site.having("etcd")[0]
    nobody = "curl -sS --max-time 5 --cacert /etc/rag/pki/etcd-ca.crt https://{0}:2379/version 2>&1; true"
    stranger = "curl -sS --max-time 5 --cacert /etc/rag/pki/etcd-ca.crt {1} https://{0}:2379/version 2>&1; true"
    other = "--cert /etc/rag/pki/postgresql.crt --key /etc/rag/pki/postgresql.key"

    assert "etcdserver" not in run(member, nobody.format(member.name))
    assert "etcdserver" not in run(member, stranger.format(member.name, other))
    assert "etcdserver" in run(member, stranger.format(member.name, other.replace("postgresql", "etcd")))


@pytest.mark.lab
def test_a_killed_member_comes_back(site: Site, run: Run) -> None:
    member = site.having("etcd")[-1]
    before = run(member, "systemctl show -P MainPID etcd")

    run(member, "systemctl kill -s KILL etcd")

    until(lambda: run(member, ASK.format(member.name, "etcd", "endpoint health 2>&1")), "etcd's health")
    assert run(member, "systemctl show -P MainPID etcd") != before


@pytest.mark.lab
def test_the_machine_that_leads_postgresql_hands_etcds_lead_to_another_one(site: Site, run: Run) -> None:
    first = leader(site, run)
    members = {
        line.split(", ")[2]: line.split(", ")[0]
        for line in run(first, ASK.format(first, "etcd", "member list")).splitlines()
    }

    def leads() -> str:
        told = run(first, ASK.format(first, "etcd", "endpoint status --write-out fields"))
        number = int(next(line.split(" : ")[1] for line in told.splitlines() if line.startswith('"Leader"')))
        return next(name for name, key in members.items() if int(key, 16) == number)

    until(lambda: leads() != first, "another leader of etcd")
    run(first, ASK.format(leads(), "etcd", f"move-leader {members[first]}"))

    until(lambda: leads() != first, "another leader of etcd", 20)
    assert leader(site, run) == first
