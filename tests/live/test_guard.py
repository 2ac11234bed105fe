"""A primary whose Patroni hangs ends before another machine leads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet
from tests.live.test_database import PSQL, WRITE, WRITERS, leader, whole
from tests.live.waiting import until

pytestmark = pytest.mark.lab
Run = Callable[[Machine | str, str], str]


def test_a_frozen_patroni_takes_its_primary_along_and_comes_back_as_a_replica(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    # Given
    first = leader(site, run)
    before = run(first, "systemctl show -P MainPID patroni")
    hosts = ",".join(peer.name for peer in site.having("database"))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(fleet.python, site.having("app")[0].name, WRITE, hosts=hosts, after=5, most=90)
        until(lambda: "1" in run(first, f'{PSQL}"{WRITERS}"'), "the writer")

        # When
        run(first, f"kill -STOP {before}")
        until(lambda: f"{before}" not in run(first, "systemctl show -P MainPID patroni").split(), "a new Patroni", 60)
        said = writing.result()

    # Then
    assert said["writes"] > 0
    assert "silent" in run(first, "journalctl --unit rag-guard --since -3min --output cat --no-pager")
    until(lambda: whole(site, run), "a whole cluster", 60)
    assert leader(site, run) != first
    measured(f"Patroni of {first} frozen: {said['gap']:.1f} s without an accepted write")


def test_a_pause_of_the_cluster_is_no_silence(site: Site, run: Run) -> None:
    first = leader(site, run)
    patronictl = "patronictl -c /etc/patroni/config.yml"
    run(first, f"{patronictl} pause --wait")
    postmaster = f"head -1 /var/lib/postgresql/{site.database.version}/rag/postmaster.pid"
    before = run(first, postmaster)
    stopped = run(first, "systemctl show -P MainPID patroni")
    try:
        run(first, f"kill -STOP {stopped}")
        # Longer than the guard waits: it looks each second, so it has looked this often.
        silence = site.database.guard_seconds + 4
        run(first, f"timeout {silence} tail -f /dev/null; true")

        assert run(first, postmaster) == before
        assert leader(site, run) in {first, ""}
    finally:
        run(first, f"kill -CONT {stopped}; true")
        run(first, f"{patronictl} resume --wait")
    until(lambda: whole(site, run), "a whole cluster", 60)
