"""PART=application: fifty colleagues at once, the pace of ingestion, and an index that is filled from nothing."""

import secrets
from contextlib import closing

from inventories.settings import Site
from tests.bench import report
from tests.bench.cluster import Cluster
from tests.bench.ingestion import ingestion, refill
from tests.bench.load import load
from tests.bench.made import Made, collection
from tests.bench.report import Figure
from tests.lab import demo
from tests.lab.fleet import Lab
from tests.lab.host import say


def run(lab: Lab, site: Site) -> list[Figure]:
    """All three, one after the other; what was made is taken away."""
    name, where = f"bench-{secrets.token_hex(3)}", report.machine()
    say(f"bench: the application on {where}; the models are {site.inference.chat_model.name} and others of the lab's")
    with closing(demo.client(site)) as http:
        made = Made(Cluster(lab, site), site, http, name)
        figures = []
        with collection(made):
            for part in (load, ingestion, refill):
                found = part(made, where)
                report.write(found)
                figures += found
    print(f"\n{report.table(('what', 'value', 'must'), [_row(figure) for figure in figures])}\n", flush=True)
    return figures


def _row(figure: Figure) -> tuple[str, str, str]:
    value = "not measured" if figure.value is None else f"{figure.value:g} {figure.unit}".strip()
    return figure.what, value, figure.must
