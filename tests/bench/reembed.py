"""How fast passages are embedded with another model, and what searches feel of it.

All of it runs on this computer, with a stand-in for the models that answers at once: what is measured is everything but
the embedding itself. One person searches, without a pause.
"""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.app.conftest import whole_site
from tests.app.ollama_standin import EMBED, NEXT
from tests.app.reembedding import PATH, name_models
from tests.bench import report
from tests.bench.report import Figure, at_most
from tests.bench.search import PASSAGES, Stage, filled, p95, words
from tests.lab.host import RefusalError

AREA = "reembed"


def run(repeats: int) -> list[Figure]:
    """Fill a site, search it, change its model and search on; the figures."""
    if not Path("build/venv/chroma/bin/chroma").exists():
        raise RefusalError("build/venv/chroma = not there; Chroma's program; make build/venv/chroma/ready")
    with whole_site() as site:
        stage = filled(site)
        name_models(site, embedding_model=EMBED, next_embedding_model=NEXT)
        for process in (site.api, site.worker, site.index):
            process.stop()
            process.start()
        site.wait_until_ready()
        _searches(stage, lambda number: number < 20)
        before, worse_before = _searches(stage, lambda number: number < repeats)
        began = time.monotonic()
        started = stage.person.call("POST", PATH)
        assert started.status_code == 202, started.text
        marks: dict[str, float] = {}

        def goes_on(number: int) -> bool:
            if number % 10 == 0:
                change: dict[str, Any] = stage.person.get(PATH)
                for name, reached in (
                    ("embedded", change["done"] == change["passages"]),
                    ("switched", change["state"] == "switched"),
                ):
                    if reached:
                        marks.setdefault(name, time.monotonic() - began)
            return "switched" not in marks

        during, worse = _searches(stage, goes_on)
    where = report.machine()

    def figure(what: str, value: float, unit: str, limit: float | None = None) -> Figure:
        return at_most(AREA, what, value, unit, limit, len(during), where)

    found = [
        figure("passages embedded anew", PASSAGES / marks["embedded"], "passages/s"),
        figure("until questions go over", marks["switched"], "s"),
        figure("one search before, p50", statistics.median(before), "ms"),
        figure("one search meanwhile, p50", statistics.median(during), "ms"),
        figure("one search before, p95", p95(before), "ms"),
        figure("one search meanwhile, p95", p95(during), "ms"),
        figure("the slowest search before", max(before), "ms"),
        figure("the slowest search meanwhile", max(during), "ms"),
        figure("searches failed or degraded", worse + worse_before, "", 0),
    ]
    print(report.table(("", ""), [(one.what, f"{one.value:.1f} {one.unit}") for one in found]))
    report.write(found)
    return found


def _searches(stage: Stage, goes_on: Callable[[int], bool]) -> tuple[list[float], int]:
    """Milliseconds of each search, and how many failed or did without their vectors."""
    made = random.Random(2)  # noqa: S311 - the same questions each time
    took: list[float] = []
    worse = 0
    while goes_on(len(took)):
        params = {"collection": stage.collection, "q": words(made, 6)}
        began = time.monotonic()
        answer = stage.person.call("GET", "/api/v1/search", params=params)
        took.append((time.monotonic() - began) * 1000)
        worse += answer.status_code != 200 or answer.json()["degraded"] is not None
    return took, worse
