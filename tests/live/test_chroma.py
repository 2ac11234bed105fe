"""Chroma: on loopback alone, and it refills from PostgreSQL when its folder is gone."""

import time
from collections.abc import Callable

import httpx
import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet
from tests.live.test_questions import found_on, ready_everywhere, remembered
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
# All vectors that the machine's Chroma holds.
COUNT = """
from urllib.request import urlopen
base = "http://127.0.0.1:8000/api/v2/tenants/default_tenant/databases/default_database/collections"
try:
    held = json.load(urlopen(base + "?limit=1000", timeout=10))
    print(sum(json.load(urlopen(f"{base}/{one['id']}/count", timeout=10)) for one in held))
except OSError:
    print(0)
"""


def test_it_listens_on_loopback_alone(site: Site, run: Run) -> None:
    for machine in site.having("app"):
        assert run(machine, "ss -Hltn 'sport = 8000'").split()[3] == "127.0.0.1:8000"


@pytest.mark.lab
def test_a_deleted_index_refills_from_postgresql(
    site: Site, run: Run, fleet: Fleet, platform: httpx.Client, measured: Callable[[str], None]
) -> None:
    machine = site.having("app")[-1].name
    with remembered(
        platform, "refill.md", b"# Refill\n\nThe spare key of the archive hangs behind the green door.\n"
    ) as name:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        vectors = fleet.python(machine, COUNT)
        assert vectors > 0

        began = time.monotonic()
        run(machine, "systemctl stop rag-chroma; rm -rf /var/lib/rag-chroma/* ; systemctl start rag-chroma")
        asked = {"collection": name, "q": "Where is the spare key?"}
        meanwhile = platform.get("/api/v1/search", params=asked).raise_for_status().json()
        until(lambda: fleet.python(machine, COUNT) >= vectors, f"{vectors} vectors on {machine}", 180)
        measured(f"index of {machine} deleted: {vectors} vectors are back after {time.monotonic() - began:.1f} s")
        until(lambda: ready_everywhere(site, run), "every app host ready again")

        assert "green door" in meanwhile["results"][0]["text"]
        found = found_on(fleet, platform, machine, asked)
        assert "green door" in found["results"][0]["text"]
        assert found["degraded"] is None
