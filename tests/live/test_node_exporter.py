"""node_exporter: a machine's figures, for the monitoring host's certificate alone."""

from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tests.live.certificates import forged

Run = Callable[[Machine | str, str], str]
ASK = (
    "curl -sS --max-time 10 --cacert /etc/rag/pki/ca.crt {1} https://{0}:9100/metrics 2>&1"
    " | grep -e promhttp_metric_handler_requests_total -e certificate; true"
)
MONITORING = "--cert /etc/rag/pki/monitoring.crt --key /etc/rag/pki/monitoring.key"


def test_the_monitoring_host_reads_every_machine_s_figures_and_needs_its_certificate(site: Site, run: Run) -> None:
    monitor = site.having("monitoring")[0]
    for machine in site.machines:
        assert "promhttp_metric_handler_requests_total" in run(monitor, ASK.format(machine.name, MONITORING))
        assert "certificate required" in run(monitor, ASK.format(machine.name, ""))


@pytest.mark.lab
def test_another_machine_s_certificate_reads_nothing(site: Site, run: Run) -> None:
    monitor, app = site.having("monitoring")[0], site.having("app")[0]
    with forged(site, run, monitor, app.name, "monitoring") as certificate:
        for machine in site.having("database"):
            said = run(monitor, ASK.format(machine.name, certificate))

            assert "promhttp" not in said
            assert "bad certificate" in said, said


def test_the_exporter_cannot_put_a_link_where_root_writes_figures(site: Site, run: Run) -> None:
    link = "cd /; runuser -u prometheus -- ln -s /etc /var/lib/prometheus/link 2>&1; rm -f /var/lib/prometheus/link"
    for machine in site.machines:
        assert "Permission denied" in run(machine, link)
