"""PostgreSQL's share of a machine, and what a site of one, two or three of them is worth."""

import pytest

from inventories.settings import Database, Site
from inventories.sizing import Sizing, promise, share_of
from tests.unit.test_settings import box, changed, without


def test_a_machine_with_databases_alone_gives_half_and_any_other_a_quarter(prod: Site, edge: Site) -> None:
    site = changed(prod, database=Database())

    assert share_of(site, site.machine("db1"), 64321, 8).memory_mb == 32000
    assert share_of(edge, edge.machine("edge1"), 64321, 8).memory_mb == 15872
    assert share_of(prod, prod.machine("db1"), 64321, 8).memory_mb == 16384


def test_a_kernel_s_update_does_not_change_the_share(prod: Site) -> None:
    site = changed(prod, database=Database())

    shares = {share_of(site, site.machine("db1"), memory, 8) for memory in range(64100, 64200)}

    assert len(shares) == 1


def test_sessions_are_enough_for_every_pool_of_the_program_on_the_last_member(prod: Site) -> None:
    application = prod.application

    opened = 2 * (application.workers * 2 * 8 + 12)

    assert share_of(prod, prod.machine("db1"), 64000, 8).connections >= opened + 25
    asked = changed(prod, database=Database(max_connections=400))
    assert share_of(asked, asked.machine("db1"), 64000, 8).connections == 400


@pytest.mark.parametrize("memory", [256, 1024, 16384, 1_000_000])
@pytest.mark.parametrize("cores", [1, 4, 128])
def test_every_figure_is_one_that_postgresql_takes(memory: int, cores: int) -> None:
    share = Sizing(memory, cores, 150)

    assert 0 < share.shared_buffers_mb < share.effective_cache_size_mb < memory
    assert 1 <= share.work_mem_mb <= 64
    assert 16 <= share.maintenance_work_mem_mb <= 1024
    assert share.max_parallel_workers_per_gather <= share.max_parallel_workers <= 8


def test_sessions_that_all_sort_at_once_stay_within_the_share() -> None:
    share = Sizing(16384, 8, 350)

    assert share.shared_buffers_mb + 350 * share.work_mem_mb <= share.memory_mb


def test_replication_follows_the_number_of_machines(prod: Site) -> None:
    one = changed(prod, machines=without(prod, "db2", "db3"))
    two = changed(prod, machines=(*without(prod, "db2", "db3"), box("db2", 12, "database")))

    assert [site.replication for site in (one, two, prod)] == ["none", "quorum", "quorum"]
    assert changed(prod, database=Database(replication="asynchronous")).replication == "asynchronous"


@pytest.mark.parametrize(
    ("databases", "etcds", "replication", "said"),
    [
        (1, 1, "none", "stops writes and questions"),
        (2, 1, "quorum", "nobody takes over"),
        (2, 3, "quorum", "which costs no acknowledged write; after that the one left acknowledges alone"),
        (3, 3, "quorum", "which costs no acknowledged write; after that a second replica still has every write"),
        (3, 3, "asynchronous", "costs the acknowledged writes of its last moment"),
    ],
)
def test_a_site_says_what_it_survives(databases: int, etcds: int, replication: str, said: str) -> None:
    assert said in promise(databases, etcds, replication)
