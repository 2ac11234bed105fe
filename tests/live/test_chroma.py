"""Chroma: on loopback alone, and it refills from PostgreSQL when its folder is gone."""

from collections.abc import Callable

import httpx
import pytest

from inventories.settings import Machine, Site
from tests.live.test_questions import ready_everywhere, remembered
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]


def test_it_listens_on_loopback_alone(site: Site, run: Run) -> None:
    for machine in site.having("app"):
        assert run(machine, "ss -Hltn 'sport = 8000'").split()[3] == "127.0.0.1:8000"


@pytest.mark.lab
def test_a_deleted_index_refills_from_postgresql(site: Site, run: Run, platform: httpx.Client) -> None:
    with remembered(
        platform, "refill.md", b"# Refill\n\nThe spare key of the archive hangs behind the green door.\n"
    ) as name:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        for machine in site.having("app"):
            run(machine, "systemctl stop rag-chroma; rm -rf /var/lib/rag-chroma/* ; systemctl start rag-chroma")
        until(lambda: ready_everywhere(site, run), "every app host ready again", 180)
        until(lambda: platform.get("/health/ready").status_code == 200, "the balancers have seen it")

        found = platform.get("/api/search", params={"collection": name, "q": "Where is the spare key?"}).json()

        assert "green door" in found["results"][0]["text"]
        assert found["degraded"] is None
