"""HAProxy's configuration: it is one, and the doors of the inference hosts let in as many as there are places."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inventories import network
from inventories.settings import Inference, Machine, Site
from tests.unit.plans import plan

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def configuration(site: Site, machine: Machine) -> str:
    return plan(site, machine).files["/etc/haproxy/haproxy.cfg"].content.decode()


def section(text: str, name: str) -> str:
    """The lines of one section."""
    found = re.search(rf"^{name}\n((?:    .*\n|\n(?=    ))*)", text, re.MULTILINE)
    assert found, name
    return found[1]


def test_a_door_lets_in_as_many_answers_as_ollama_has_places(prod: Site) -> None:
    site = prod.model_copy(update={"inference": prod.inference.model_copy(update={"parallel": 7})})
    machine = site.having("inference")[0]
    made = plan(site, machine)

    assert "Environment=OLLAMA_NUM_PARALLEL=7\n" in made.files["/etc/systemd/system/ollama.service"].content.decode()
    text = configuration(site, machine)
    door = section(text, "frontend ollama_door")
    for share, paths in (("answers", "/api/chat /api/generate"), ("embeddings", "/api/embed")):
        assert f"use_backend ollama_{share} if {{ path {paths} }}" in door
        backend = section(text, f"backend ollama_{share}")
        assert re.search(r"server here 127\.0\.0\.1:11434 maxconn 7 ", backend)
        assert re.search(r"timeout queue \d+s", backend)
        assert '503 content-type application/json string \'{"error": "server busy' in backend
        assert "hdr Retry-After 2" in backend


def test_a_code_that_is_good_once_is_sent_once(prod: Site) -> None:
    text = configuration(prod, prod.having("balancer")[0])

    for name in ("api", "api_live"):
        assert "http-request disable-l7-retry if { path /sign-in/oidc/callback }\n" in section(text, f"backend {name}")


def test_the_bound_of_one_process_is_never_tighter_than_that_of_the_hosts(site: Site) -> None:
    made = plan(site, site.having("app")[0]).files["/etc/rag/rag.toml"].content.decode()
    places = len(site.having("inference")) * site.inference.parallel

    assert f"max_in_flight = {places}\n" in made


def test_whoever_waits_at_two_doors_is_told_before_the_application_gives_up(prod: Site) -> None:
    from app.settings_of_models import Inference as Asked  # noqa: PLC0415 - the seam between the deploy and the program

    longest = max(share.patience for share in network.OLLAMA.shares if share.name == "answers")
    deadline = Asked.model_fields["deadline_seconds"].default

    assert 2 * longest + 30 < deadline
    assert Inference.model_fields["parallel"].default == prod.inference.parallel


@pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")
def test_haproxy_takes_every_machines_configuration(site: Site, tmp_path: Path) -> None:
    pair = ("-keyout", "one.key", "-out", "one.crt", "-subj", "/CN=test", "-days", "2")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(["openssl", "req", "-x509", *key, *pair], cwd=tmp_path, check=True, capture_output=True)
    assert HAPROXY
    for machine in site.machines:
        files = plan(site, machine).files
        if "/etc/haproxy/haproxy.cfg" not in files:
            continue
        (tmp_path / "no-service.http").write_bytes(files["/etc/haproxy/no-service.http"].content)
        text = re.sub(r"/etc/rag/pki/[\w-]+\.crt", str(tmp_path / "one.crt"), configuration(site, machine))
        text = re.sub(r"^    (user|group) .*\n", "", text, flags=re.MULTILINE)
        (tmp_path / "haproxy.cfg").write_text(text.replace("/etc/haproxy/", f"{tmp_path}/"))
        done = subprocess.run(
            [HAPROXY, "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr, done.stderr
