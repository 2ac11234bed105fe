"""A database machine that died for good is replaced by an empty one: one deploy, and it is a member again."""

from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tests.lab import fleet as lab_fleet
from tests.live.fleet import deploy
from tests.live.test_database import leader, whole
from tests.live.test_etcd import ASK
from tests.live.waiting import until

pytestmark = pytest.mark.lab
Run = Callable[[Machine | str, str], str]


def test_an_empty_machine_takes_the_place_of_a_dead_one(site: Site, run: Run, measured: Callable[[str], None]) -> None:
    # Given
    first = leader(site, run)
    dead = next(machine for machine in site.having("database") if machine.name != first)
    members = ASK.format(first, "etcd", "member list")
    identities = {line.split(", ")[2]: line.split(", ")[0] for line in run(first, members).splitlines()}
    lab_fleet.replace(lab_fleet.load(), dead.name)

    # When
    done = deploy(site.name)

    # Then
    assert done.rc == 0, done.said
    measured(f"{dead.name} replaced by an empty machine: {done.seconds:.0f} s until its deploy was done")
    until(lambda: whole(site, run), "a whole cluster", 60)
    now = {line.split(", ")[2]: line.split(", ")[:2] for line in run(first, members).splitlines()}
    assert now.keys() == identities.keys()
    # It does not vote under an identity whose promises it has forgotten.
    assert now[dead.name][0] != identities[dead.name]
    assert {words[1] for words in now.values()} == {"started"}
    for peer in site.having("etcd"):
        assert "is healthy" in run(peer, ASK.format(peer.name, "etcd", "endpoint health 2>&1"))
    assert deploy(site.name).changed == {}
