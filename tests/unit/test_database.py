"""The cluster's members: a watchdog that Patroni can open, and settings that reach a cluster that runs."""

import json
from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_host

from inventories.certificates import certificate_of
from inventories.settings import Site
from tasks.database import DROP_IN, cluster_settings, shared_settings
from tests.unit.plans import plan
from tests.unit.test_settings import changed

WATCHDOG = ["ExecStartPre=-+/sbin/modprobe softdog", "ExecStartPre=-+/bin/chown postgres /dev/watchdog"]


@pytest.mark.parametrize(("mode", "lines"), [("off", []), ("automatic", WATCHDOG), ("required", WATCHDOG)])
def test_patroni_gets_a_watchdog_that_it_may_open(prod: Site, mode: str, lines: list[str]) -> None:
    site = changed(prod, database=prod.database.model_copy(update={"watchdog": mode}))

    text = plan(site, site.machine("db1")).files[DROP_IN].content.decode()

    assert [line for line in text.splitlines() if line.startswith("ExecStartPre")] == lines


@pytest.mark.parametrize(
    ("needed", "held", "patched"),
    [
        (True, {}, False),
        (True, {"loop_wait": 9}, True),
        (True, {"postgresql": {"use_slots": True, "parameters": {"max_connections": 7, "wal_level": "replica"}}}, True),
        (True, {"ttl": None}, True),
        (False, {"loop_wait": 9}, False),
    ],
)
def test_a_cluster_that_runs_is_given_what_the_site_wants(
    prod: Site, needed: bool, held: dict[str, object], patched: bool
) -> None:
    wanted = shared_settings(prod.database)
    asked = SimpleNamespace(
        get_fact=lambda *_, **__: wanted | {"synchronous_mode": "quorum"} | held, noop=lambda _: None
    )
    certificate = certificate_of(prod, prod.machine("db1"), "patroni")

    with ctx_host.use(asked):
        commands = [*cluster_settings._inner(needed=needed, wanted=wanted, url="https://db1", certificate=certificate)]

    assert [json.loads(command.connector_arguments["_stdin"]) for command in commands] == [wanted] * patched
