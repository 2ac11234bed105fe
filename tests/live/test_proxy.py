"""The entry: one address on one balancer, HTTPS with HSTS and nothing older than TLS 1.2, no figures for strangers."""

import ssl
from collections.abc import Callable

import httpx
import pytest

from inventories.settings import Machine, Site

Run = Callable[[Machine | str, str], str]


def test_the_common_address_is_on_exactly_one_balancer(site: Site, run: Run) -> None:
    assert site.vip is not None
    held = [
        machine.name
        for machine in site.having("balancer")
        if f"{site.vip.address}/" in run(machine, f"ip -4 -br address show dev {machine.interface}")
    ]

    assert len(held) == 1


def test_http_becomes_https_and_stays_so(site: Site, platform: httpx.Client) -> None:
    moved = httpx.get(f"http://{site.entry}/health/live", trust_env=False)

    assert (moved.status_code, moved.headers["location"]) == (308, f"https://{site.entry}/health/live")
    assert "max-age=31536000" in platform.get("/health/live").headers["strict-transport-security"]


def test_the_certificate_is_the_site_s(site: Site) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://{site.entry}/health/live", trust_env=False)


def test_tls_1_1_is_refused(site: Site) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises((httpx.ConnectError, httpx.ReadError)):
        httpx.get(f"https://{site.entry}/health/live", verify=old, trust_env=False)


def test_figures_are_not_public_but_the_monitoring_host_reads_them(
    site: Site, run: Run, platform: httpx.Client
) -> None:
    assert platform.get("/metrics").status_code == 404
    monitor, app = site.having("monitoring")[0], site.having("app")[0]
    keys = "--cacert /etc/rag/pki/ca.crt --cert /etc/rag/pki/monitoring.crt --key /etc/rag/pki/monitoring.key"
    said = run(monitor, f"curl -fsS {keys} https://{app.name}:8444/metrics")
    assert "# TYPE" in said
