"""The cluster's members: a watchdog that Patroni can open, and settings that reach a cluster that runs."""

import pytest

from inventories.settings import Site
from tasks.database import DROP_IN
from tests.unit.plans import plan
from tests.unit.test_settings import changed

WATCHDOG = ["ExecStartPre=-+/sbin/modprobe softdog", "ExecStartPre=-+/bin/chown postgres /dev/watchdog"]


@pytest.mark.parametrize(("mode", "lines"), [("off", []), ("automatic", WATCHDOG), ("required", WATCHDOG)])
def test_patroni_gets_a_watchdog_that_it_may_open(prod: Site, mode: str, lines: list[str]) -> None:
    site = changed(prod, database=prod.database.model_copy(update={"watchdog": mode}))

    text = plan(site, site.machine("db1")).files[DROP_IN].content.decode()

    assert [line for line in text.splitlines() if line.startswith("ExecStartPre")] == lines
