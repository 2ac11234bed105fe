"""PART=start: how long the program of each app host takes from its start to ready."""

import statistics

from inventories import network
from inventories.settings import Site
from tests.bench import report
from tests.bench.cluster import Cluster
from tests.bench.report import Figure
from tests.lab.fleet import Lab
from tests.lab.host import say

# The budget of a start that finds a ready database, index and inference host.
MOST_SECONDS = 5.0

# Seconds from `systemctl start` to the first 200; the machine's own clock, no connection in between.
STARTED = f"""
systemctl stop rag-api
before=$(date +%s%N)
systemctl start rag-api
until curl -fs -o /dev/null --max-time 5 http://127.0.0.1:{network.API.backend}/health/ready; do sleep 0.02; done
echo $(( $(date +%s%N) - before ))
"""


def run(lab: Lab, site: Site, repeats: int) -> list[Figure]:
    """One host after the other, so that the others answer meanwhile."""
    cluster, where = Cluster(lab, site), report.machine()
    figures = []
    for machine in site.having("app"):
        say(f"bench: rag-api of {machine.name} starts {repeats} times")
        seconds = [int(cluster.shell(machine.name, STARTED, 90)) / 1e9 for _ in range(repeats)]
        what = f"{machine.name}: rag-api, start to ready"
        for name, value in (("median", statistics.median(seconds)), ("longest", max(seconds))):
            figures.append(report.at_most("application", f"{what}, {name}", value, "s", MOST_SECONDS, repeats, where))
    report.write(figures)
    rows = [(figure.what, f"{figure.value:g} s", figure.must) for figure in figures]
    print(f"\n{report.table(('what', 'value', 'must'), rows)}\n", flush=True)
    return figures
