"""What may be done to a cluster and what may not, for one, two and three members."""

from dataclasses import replace
from typing import Any

import pytest

from inventories.settings import Site
from tasks.members import (
    NEAR,
    Cluster,
    Member,
    behind,
    best,
    cluster_of,
    healthy,
    order_of_roll,
    refusal_of_reinit,
    refusal_of_removal,
    refusal_of_switchover,
    why_not,
)
from tests.unit.test_settings import changed

LEADER = Member("db1", role="leader", state="running", sync="leader")
THREE = Cluster((LEADER, Member("db2"), Member("db3")), etcd={"db1": True, "db2": True, "db3": True})
TWO = Cluster((LEADER, Member("db2")), etcd={"db1": True})
ONE = Cluster((LEADER,), etcd={"db1": True}, sync="off")
SIZES = [(1, ONE), (2, TWO), (3, THREE)]


def hurt(cluster: Cluster, name: str, **values: Any) -> Cluster:
    """The cluster with one member changed."""
    members = tuple(replace(member, **values) if member.name == name else member for member in cluster.members)
    return replace(cluster, members=members)


@pytest.fixture
def sized(prod: Site, size: int) -> Site:
    """Prod with that many database machines; etcd on three, or on the first."""
    machines = []
    for machine in prod.machines:
        roles = machine.roles - ({"database"} if machine.name in ("db1", "db2", "db3")[size:] else set())
        machines.append(machine.model_copy(update={"roles": frozenset(roles)}))
    return changed(prod, machines=tuple(machines))


@pytest.mark.parametrize(("size", "cluster"), SIZES)
def test_a_cluster_in_which_all_is_as_it_should_be_is_healthy(sized: Site, cluster: Cluster) -> None:
    assert why_not(cluster, sized) == ""
    assert healthy(cluster, sized)


@pytest.mark.parametrize(
    ("size", "cluster", "why"),
    [
        (1, Cluster(etcd={"db1": True}), "nobody leads"),
        (1, replace(ONE, etcd={"db1": False}), "etcd has no majority, db1 is silent"),
        (1, hurt(ONE, "db1", state="stopped"), "db1 leads and is stopped"),
        (2, replace(TWO, members=(LEADER,)), "db2 is not a member"),
        (2, hurt(TWO, "db2", role="leader", state="running"), "db1 and db2 both lead"),
        (2, hurt(TWO, "db2", state="start failed"), "db2 is start failed"),
        (3, hurt(THREE, "db3", timeline=7), "db3 is on timeline 7 and db1 on 1"),
        (3, hurt(THREE, "db3", lag=NEAR + 1), f"db3 is {NEAR + 1} bytes behind"),
        (3, hurt(THREE, "db3", lag=None), "db3 is an unknown number of bytes behind"),
        (3, hurt(THREE, "db2", sync=""), "db2 is not in the quorum set"),
        (3, hurt(hurt(THREE, "db2", sync=""), "db3", state="silent"), "db2 is not in the quorum set, db3 is silent"),
        (
            3,
            replace(THREE, etcd={"db1": True, "db2": False, "db3": False}),
            "etcd has no majority, db2, db3 is silent",
        ),
    ],
)
def test_what_is_wrong_is_said(sized: Site, cluster: Cluster, why: str) -> None:
    assert why_not(cluster, sized) == why
    assert not healthy(cluster, sized)


@pytest.mark.parametrize("size", [3])
def test_one_silent_etcd_of_three_and_a_little_lag_are_no_reason_to_stop(sized: Site) -> None:
    etcd = {"db1": True, "db2": True, "db3": False}

    assert healthy(hurt(replace(THREE, etcd=etcd), "db2", lag=NEAR), sized)


@pytest.mark.parametrize("size", [3])
def test_what_is_about_to_be_mended_does_not_hold_its_own_mending_up(sized: Site) -> None:
    broken = hurt(THREE, "db3", state="start failed")

    assert why_not(broken, sized, without=frozenset({"db3"})) == ""
    assert why_not(hurt(broken, "db2", sync=""), sized, without=frozenset({"db3"})) == "db2 is not in the quorum set"


@pytest.mark.parametrize(
    ("cluster", "to", "why"),
    [
        (THREE, None, ""),
        (THREE, "db3", ""),
        (TWO, None, ""),
        (ONE, None, "there is no other member"),
        (ONE, "db1", "db1 leads already"),
        (THREE, "db1", "db1 leads already"),
        (THREE, "db9", "db9 is not a member; db1, db2, db3 are"),
        (replace(THREE, paused=True), None, "the cluster is paused"),
        (replace(THREE, etcd={"db1": True, "db2": False}), "db2", "etcd has no majority"),
        (hurt(THREE, "db1", state="starting"), "db2", "no healthy leader gives the lead away"),
        (hurt(THREE, "db2", state="stopped"), "db2", "db2 is stopped"),
        (hurt(THREE, "db2", state="stopped"), None, ""),
        (hurt(THREE, "db2", lag=NEAR * 9), "db2", f"db2 is {NEAR * 9} bytes behind"),
        (hurt(THREE, "db2", sync=""), "db2", "db2 is not in the quorum set"),
        (hurt(THREE, "db2", tags={"nofailover": True}), "db2", "db2 must never lead, as its tags say"),
        (hurt(THREE, "db2", tags={"failover_priority": 0}), "db2", "db2 must never lead, as its tags say"),
        (hurt(TWO, "db2", state="stopped"), None, "no member could take over: db2 is stopped"),
    ],
)
def test_a_switchover_is_refused_when_it_would_make_things_worse(cluster: Cluster, to: str | None, why: str) -> None:
    assert refusal_of_switchover(cluster, to) == why


def test_the_best_member_is_fit_then_preferred_then_least_behind() -> None:
    assert best(ONE) == ""
    assert best(TWO) == "db2"
    assert best(THREE) == "db2"
    assert best(hurt(THREE, "db2", lag=5)) == "db3"
    assert best(hurt(hurt(THREE, "db2", lag=5), "db2", tags={"failover_priority": 2})) == "db2"
    assert best(hurt(THREE, "db2", sync="")) == "db3"
    assert best(THREE, among=frozenset({"db3"})) == "db3"
    assert best(hurt(THREE, "db3", state="silent"), among=frozenset({"db3"})) == ""


def test_replicas_come_first_the_broken_ones_before_all_and_who_leads_comes_last() -> None:
    assert order_of_roll(ONE, {"db1"}) == ["db1"]
    assert order_of_roll(TWO, {"db1", "db2"}) == ["db2", "db1"]
    assert order_of_roll(THREE, {"db1", "db2", "db3"}) == ["db2", "db3", "db1"]
    assert order_of_roll(hurt(THREE, "db3", state="stopped"), {"db1", "db2", "db3"}) == ["db3", "db2", "db1"]
    assert order_of_roll(THREE, {"db3", "db1"}) == ["db3", "db1"]
    # A member that is not there counts as broken.
    assert order_of_roll(TWO, {"db1", "db2", "db3"}) == ["db3", "db2", "db1"]


@pytest.mark.parametrize(
    ("cluster", "name", "why"),
    [
        (THREE, "db2", ""),
        (THREE, "db1", "db1 leads, its data are the cluster's"),
        (ONE, "db1", "db1 leads, its data are the cluster's"),
        (TWO, "db2", "db2 is the only replica in sync"),
        (hurt(TWO, "db2", state="start failed"), "db2", ""),
        (hurt(THREE, "db3", state="stopped"), "db2", "db2 is the only replica in sync"),
        (hurt(THREE, "db3", state="stopped"), "db3", ""),
        (hurt(THREE, "db1", state="stopped"), "db3", "no healthy leader has the data"),
        (replace(THREE, paused=True), "db3", "the cluster is paused"),
    ],
)
def test_a_replica_is_fetched_anew_only_when_another_holds_every_write(cluster: Cluster, name: str, why: str) -> None:
    assert refusal_of_reinit(cluster, name) == why


@pytest.mark.parametrize(
    ("cluster", "name", "why"),
    [
        (THREE, "db3", ""),
        (TWO, "db2", ""),
        (THREE, "db1", "db1 leads; switch over first"),
        (ONE, "db1", "db1 is the last member"),
        (THREE, "db9", "db9 is not a member; db1, db2, db3 are"),
        # Patroni has forgotten a member that is long dead; etcd has not.
        (replace(TWO, etcd={"db1": True, "db2": True, "db3": False}), "db3", ""),
        (replace(THREE, etcd={"db1": True, "db2": False, "db3": True}), "db3", "etcd would lose its majority"),
        (replace(THREE, etcd={"db1": True, "db2": False, "db3": True}), "db2", ""),
        (replace(THREE, etcd={"db1": True, "db2": False, "db3": False}), "db3", "etcd would lose its majority"),
        (hurt(THREE, "db2", state="stopped"), "db3", "without db3 no replica would be in sync"),
        (hurt(THREE, "db2", state="stopped"), "db2", ""),
        (hurt(THREE, "db1", state="stopped"), "db3", "nobody leads"),
    ],
)
def test_a_member_is_taken_away_only_when_the_others_can_do_without(cluster: Cluster, name: str, why: str) -> None:
    assert refusal_of_removal(cluster, name) == why


def entry(name: str, role: str, state: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "state": state, "timeline": 3, "tags": {}, **values}


def told(**values: Any) -> dict[str, Any]:
    """What a healthy cluster of three tells."""
    members = [
        entry("db1", "leader", "running"),
        entry("db2", "quorum_standby", "streaming", lag=0),
        entry("db3", "quorum_standby", "streaming", lag=0),
    ]
    return {
        "cluster": {"members": members},
        "config": {"synchronous_mode": "quorum", "failsafe_mode": True},
        "told": {
            "db1": {"role": "primary", "state": "running", "server_version": 170012, "timeline": 3},
            "db2": {"role": "replica", "state": "running", "server_version": 170012, "replication_state": "streaming"},
            "db3": {"role": "replica", "state": "running", "server_version": 170012, "replication_state": "streaming"},
        },
        "etcd": {"db1": True, "db2": True, "db3": True},
        "primary": {
            "standbys": [
                {"name": "db2", "state": "streaming", "sync": "quorum", "lag": 7},
                {"name": "db3", "state": "streaming", "sync": "quorum", "lag": 0},
            ],
            "slots": [{"name": "db2", "type": "physical", "active": True, "wal": "reserved", "kept": 0}],
        },
    } | values


def test_the_answers_of_a_machine_become_the_cluster() -> None:
    found = cluster_of(told())

    assert [(one.name, one.role, one.sync, one.lag, one.timeline) for one in found.members] == [
        ("db1", "leader", "leader", 0, 3),
        ("db2", "replica", "quorum", 7, 3),
        ("db3", "replica", "quorum", 0, 3),
    ]
    assert (found.paused, found.sync, found.failsafe, found.version) == (False, "quorum", True, "17.12")
    assert found.slots[0].name == "db2"
    assert cluster_of(told(config={"pause": True})).paused
    assert cluster_of(told(config={"synchronous_mode": True})).sync == "on"
    assert cluster_of(told(config={})).sync == "off"


def test_what_the_primary_sees_now_is_believed_before_what_a_replica_wrote_down() -> None:
    primary = {"standbys": [{"name": "db3", "state": "catchup", "sync": "async", "lag": 12}], "slots": []}

    found = cluster_of(told(primary=primary))

    assert behind(found, found.members[1]) == "db2 is not streaming"
    assert behind(found, found.members[2]) == "db3 is not streaming"
    assert [one.sync for one in found.replicas] == ["", ""]


def test_last_words_of_a_silent_patroni_do_not_count() -> None:
    silent = told()
    silent["told"]["db2"] = None

    found = cluster_of(silent)

    assert found.members[1].state == "silent"
    assert refusal_of_switchover(found, "db2") == "db2 is silent"


def test_a_primary_without_the_lease_is_named() -> None:
    split = told()
    split["told"]["db3"]["role"] = "primary"

    found = cluster_of(split)

    assert found.members[2].state == "a primary without the lease"
    assert found.leader
    assert found.leader.name == "db1"


@pytest.mark.parametrize("size", [3])
def test_without_etcd_the_members_still_tell_about_themselves(sized: Site) -> None:
    found = cluster_of(told(cluster=None, primary=None, etcd=dict.fromkeys(("db1", "db2", "db3"), False)))

    assert [(one.name, one.role, one.state) for one in found.members] == [
        ("db1", "leader", "running"),
        ("db2", "replica", "streaming"),
        ("db3", "replica", "streaming"),
    ]
    assert not healthy(found, sized)
    assert refusal_of_switchover(found, "db2") == "etcd has no majority"


def test_a_pending_restart_is_seen_wherever_it_is_told() -> None:
    listed = told()
    listed["cluster"]["members"][1]["pending_restart"] = True
    listed["told"]["db3"]["pending_restart"] = True

    assert [one.pending_restart for one in cluster_of(listed).members] == [False, True, True]
