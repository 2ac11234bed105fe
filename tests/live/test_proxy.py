"""The entry: one address on one balancer, HTTPS with HSTS and nothing older than TLS 1.2, no figures for strangers."""

import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet
from tests.live.test_questions import ready_everywhere, remembered
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]

# The state that HAProxy gives the app hosts, by its own account.
APP_HOSTS = """
import socket
with socket.socket(socket.AF_UNIX) as control:
    control.connect("/run/haproxy/admin.sock")
    control.sendall(b"show stat\\n")
    said = b"".join(iter(lambda: control.recv(65536), b"")).decode()
rows = [line.split(",") for line in said.splitlines()]
print(json.dumps([row[17] for row in rows if row[:1] == ["api"] and row[1] not in ("FRONTEND", "BACKEND")]))
"""


def holders(site: Site, run: Run) -> list[str]:
    """The balancers that have the entry's address."""
    return [
        machine.name
        for machine in site.having("balancer")
        if f"{site.entry}/" in run(machine, f"ip -4 -br address show dev {machine.interface}")
    ]


def test_the_common_address_is_on_exactly_one_balancer(site: Site, run: Run) -> None:
    assert len(holders(site, run)) == 1


@pytest.mark.lab
def test_a_balancer_without_haproxy_gives_the_address_away_and_takes_it_back_from_nobody(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    first = holders(site, run)[0]
    began = time.monotonic()
    run(first, "systemctl stop haproxy")
    try:
        until(lambda: holders(site, run) not in ([first], []), "another holder of the address", 20)
        with fleet.client(seconds=2) as client:
            until(lambda: client.get("/health/ready").status_code == 200, "an answer from there", 20)
        measured(f"HAProxy of {first} stopped: the other balancer answers after {time.monotonic() - began:.1f} s")
        second = holders(site, run)
        assert second != [first]
    finally:
        run(first, "systemctl start haproxy")
    until(lambda: "active" in run(first, "systemctl is-active haproxy keepalived"), "both balancers")

    with fleet.client(seconds=5) as client:
        assert client.get("/health/ready").status_code == 200
    assert holders(site, run) == second


def test_http_becomes_https_and_stays_so(site: Site, platform: httpx.Client) -> None:
    moved = httpx.get(f"http://{site.entry}/health/live", trust_env=False)

    assert (moved.status_code, moved.headers["location"]) == (308, f"https://{site.entry}/health/live")
    assert "max-age=31536000" in platform.get("/health/live").headers["strict-transport-security"]


def test_the_certificate_is_the_site_s(site: Site) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://{site.entry}/health/live", trust_env=False)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_tls_1_1_is_refused(site: Site) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    url = f"https://{site.entry}/health/live"

    # This computer would speak it: the alert comes from the other side.
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError, match=r"(?i)alert protocol version"):
        httpx.get(url, verify=old, trust_env=False)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert httpx.get(url, verify=old, trust_env=False).status_code == 200


def test_figures_are_not_public_but_the_monitoring_host_reads_them(
    site: Site, run: Run, platform: httpx.Client
) -> None:
    for spelled in ("/metrics", "/%6detrics", "/metrics/"):
        assert platform.get(spelled).status_code == 404
    monitor, app = site.having("monitoring")[0], site.having("app")[0]
    keys = "--cacert /etc/rag/pki/ca.crt --cert /etc/rag/pki/monitoring.crt --key /etc/rag/pki/monitoring.key"
    for port, figure in ((8444, "rag_requests_total"), (8445, "rag_jobs"), (8446, "rag_index_lag_changes")):
        assert f"# TYPE {figure} " in run(monitor, f"curl -fsS {keys} https://{app.name}:{port}/metrics")


@pytest.mark.lab
def test_without_inference_people_sign_in_and_search_and_are_told_at_once_what_is_missing(
    site: Site, run: Run, fleet: Fleet, platform: httpx.Client
) -> None:
    with remembered(platform, "key.md", b"# Keys\n\nThe spare key hangs behind the green door.\n") as name:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        for machine in site.having("inference"):
            run(machine, "systemctl stop ollama")
        try:
            for machine in site.having("balancer"):
                hosts = ["DOWN"] * len(site.having("app"))
                until(
                    lambda name=machine.name, hosts=hosts: fleet.python(name, APP_HOSTS) == hosts, "no app host ready"
                )
            fleet.signed_in(ready=False).close()
            found = (
                platform.get("/api/v1/search", params={"collection": name, "q": "spare key"}).raise_for_status().json()
            )
            asked = platform.post("/api/v1/questions", json={"collection": name, "question": "Where is the spare key?"})
        finally:
            for machine in site.having("inference"):
                run(machine, "systemctl start ollama")
        until(lambda: ready_everywhere(site, run), "every app host ready again", 120)

    assert "green door" in found["results"][0]["text"]
    assert found["degraded"] == "inference"
    assert (asked.status_code, asked.headers["retry-after"]) == (503, "2")
    assert asked.json()["detail"].startswith("inference = ")


@pytest.mark.lab
def test_answers_being_written_outlive_a_restart_of_every_app_host(
    site: Site, run: Run, fleet: Fleet, platform: httpx.Client
) -> None:
    def last_event(collection: str) -> str:
        asked = {"collection": collection, "question": "Where is the spare key?", "stream": True}
        with platform.stream("POST", "/api/v1/questions", json=asked) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("event: ")]
        return lines[-1] if answer.status_code == 200 and lines else f"status {answer.status_code}"

    with remembered(platform, "key.md", b"# Keys\n\nThe spare key hangs behind the green door.\n") as name:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(last_event, name) for _ in range(24)]
            for machine in site.having("app"):
                run(machine, "systemctl restart rag-api")
                until(lambda: ready_everywhere(site, run), "every app host ready again")

    assert [answer.result() for answer in answers] == ["event: answer"] * len(answers)


def test_what_somebody_looks_for_is_in_no_balancer_s_journal_and_a_request_is_named_by_us(
    site: Site, run: Run, platform: httpx.Client
) -> None:
    word = f"word{uuid4().hex}"

    answer = platform.get("/api/v1/search", params={"collection": word, "q": word}, headers={"X-Request-ID": word})

    assert answer.status_code == 404
    number = answer.json()["request_id"]
    assert number not in {"", word}
    journal = "journalctl --sync; journalctl --unit haproxy --since -5min --output cat"
    said = "".join(run(machine, journal) for machine in site.having("balancer"))
    assert number in said
    assert word not in said
