"""A machine that cannot carry its roles is refused with what it has, what it needs and where to look."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from inventories.settings import Machine, Site
from tasks import preflight
from tasks.preflight import LISTENERS, MIDWAY, Found, Hardware, problems
from tests.unit.machines import Here
from tests.unit.test_settings import changed

FITS: Found = {
    "debian": ["debian-13"],
    "architecture": ["x86_64"],
    "memory": ["64000"],
    "disk": ["90000"],
    "nvidia": ["1"],
    "clock": ["0"],
    "archive": ["there"],
    "watchdog": ["there"],
    "port": [
        "22 sshd ssh.service",
        "2379 etcd etcd.service",
        "443 haproxy haproxy.service",
        "8080 python3 rag-api.service",
    ],
}


@pytest.fixture(autouse=True)
def nothing_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_data_mb", {})


def refused(site: Site, name: str, **found: list[str]) -> list[str]:
    machine = site.machine(name)
    return problems(site, machine, FITS | {"address": [str(machine.address)]} | found)


def with_pulled_models(site: Site, **values: object) -> Site:
    return changed(site, inference=site.inference.model_copy(update={"model_store": None} | values))


def test_a_machine_that_fits_is_taken(prod: Site) -> None:
    site = with_pulled_models(prod)

    assert [refused(site, machine.name) for machine in site.machines] == [[]] * len(site.machines)


@pytest.mark.parametrize(
    ("name", "found", "line"),
    [
        ("db1", {"debian": ["debian-12"]}, "system = debian-12; Debian 13 is needed"),
        ("db1", {"address": ["192.0.2.1"]}, "interface eth0 = 192.0.2.1; 198.51.100.11 is needed there; ip -br"),
        ("db1", {"address": []}, "interface eth0 = no address; 198.51.100.11 is needed there"),
        ("db1", {"memory": ["16895"]}, "memory = 16895 MB; 16896 MB are needed for its roles"),
        ("db1", {"disk": ["10239"]}, "free disk in /var/lib = 10239 MB; 10240 MB are needed"),
        ("db1", {"clock": ["-61"]}, "clock = -61 s against the controller; 60 s at most are needed"),
        (
            "app1",
            {"lsm": ["capability,yama,apparmor"]},
            "/sys/kernel/security/lsm = capability,yama,apparmor; landlock",
        ),
        ("app1", {"namespaces": ["0"]}, "user.max_user_namespaces = 0; one at least is needed; sysctl -w user.max"),
        ("gpu1", {"nvidia": ["0"]}, "gpu = declared; no NVIDIA device is on PCI"),
        ("app1", {"port": ["443 nginx nginx.service"]}, "port 443 = nginx of nginx.service; a free port is needed; ss"),
        ("app1", {"port": ["8000 python3"]}, "port 8000 = python3 of no unit; a free port is needed"),
        (
            "app1",
            {"midway": ["yes"]},
            "recovery = stopped midway; its end is needed; make restored-end SITE=prod",
        ),
        ("app1", {"vip": ["02:aa"], "peer": ["02:bb"]}, "vip.address = 198.51.100.100, which 02:aa answers; a free"),
    ],
)
def test_a_machine_that_does_not_fit_is_refused_in_one_line(
    prod: Site, name: str, found: dict[str, list[str]], line: str
) -> None:
    (said,) = refused(with_pulled_models(prod), name, **found)

    assert said.startswith(line)
    assert re.fullmatch(r"[^\n]+ = [^\n]+; [^\n]+; [^\n]+", said)


def test_a_recovery_that_stopped_midway_is_seen_by_what_it_keeps_from_starting(tmp_path: Path) -> None:
    drop_in = tmp_path / "systemd/patroni.service.d/recovery.conf"
    line = MIDWAY.replace("/run/systemd/system", f"{tmp_path}/systemd")

    def said() -> str:
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout

    assert said() == ""
    drop_in.parent.mkdir(parents=True)
    drop_in.touch()
    assert said() == "midway yes\n"


def test_what_only_parsers_need_is_asked_of_their_machines_alone(prod: Site) -> None:
    lacking = {"lsm": ["capability"], "namespaces": ["0"]}

    assert refused(with_pulled_models(prod), "db1", **lacking) == []
    there = {"lsm": ["lockdown,capability,landlock,yama"], "namespaces": ["4096"]}
    assert refused(with_pulled_models(prod), "app1", **there) == []


@pytest.mark.parametrize(("disk", "refuses"), [(24095, True), (24096, False)])
def test_a_replica_needs_room_for_what_the_primary_has(prod: Site, disk: int, refuses: bool) -> None:
    site = with_pulled_models(prod)
    there = {"whole": ["database", "etcd"]}
    assert refused(site, "db1", data=["20000"], disk=["1024"], **there) == []

    said = refused(site, "db2", data=["0"], disk=[str(disk)], **there)

    assert said == refuses * [
        "free disk in /var/lib = 24095 MB; 24096 MB are needed for a replica of what db1 holds; df -h /var/lib"
    ]
    assert refused(site, "db3", data=["19000"], disk=["1024"], **there) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        # A bare machine may have no `ip`; what is there already needs no more room; ports that stay shut are free.
        ("db1", {"address": ["unknown"]}),
        ("db1", {"disk": ["1024"], "whole": ["database", "etcd"]}),
        ("db1", {"port": ["443 nginx nginx.service"]}),
        # The other balancer holds the common address, or nobody does.
        ("app1", {"vip": ["02:bb"], "peer": ["02:bb"]}),
        ("app1", {"vip": [""], "peer": [""]}),
    ],
)
def test_what_only_looks_like_a_hindrance_is_none(prod: Site, name: str, found: dict[str, list[str]]) -> None:
    assert refused(with_pulled_models(prod), name, **found) == []


def test_a_required_watchdog_that_cannot_be_is_refused(prod: Site) -> None:
    needs = changed(prod, database=prod.database.model_copy(update={"watchdog": "required"}))
    found = {word: lines for word, lines in FITS.items() if word != "watchdog"} | {"address": ["198.51.100.11"]}

    assert problems(needs, needs.machine("db1"), found)[0].startswith("database.watchdog = 'required'; /dev/watchdog")
    assert problems(prod, prod.machine("db1"), found) == []


def test_what_the_controller_lacks_is_refused_only_when_the_machine_needs_it(prod: Site, tmp_path: Path) -> None:
    lacking = with_pulled_models(prod, model_store=tmp_path)
    model = lacking.inference.chat_model
    held = [
        f"{'1' * 64}  /var/lib/ollama/models/{model.manifest}" for model in (model, lacking.inference.embedding_model)
    ]

    (said, _) = refused(lacking, "gpu1")
    assert said == (f"model llama3.1:8b = not in {tmp_path}; {tmp_path / model.manifest} is needed; ls {tmp_path}")
    assert refused(lacking, "gpu1", model=held) == []

    nowhere = with_pulled_models(prod, archive=tmp_path / "ollama.tar.zst", archive_url="")
    machine = nowhere.machine("gpu1")
    bare = {word: lines for word, lines in FITS.items() if word != "archive"} | {"address": [str(machine.address)]}
    assert problems(nowhere, machine, bare)[0].startswith(f"inference.archive = {tmp_path}/ollama.tar.zst; the file is")


def test_what_the_controller_pushes_needs_room(prod: Site, tmp_path: Path) -> None:
    pinned = with_pulled_models(prod, model_store=tmp_path)
    for model in (pinned.inference.chat_model, pinned.inference.embedding_model):
        path = tmp_path / model.manifest
        path.parent.mkdir(parents=True)
        path.write_text('{"layers": [{"size": 50000000000}]}')

    assert refused(pinned, "gpu1") == ["free disk in /var/lib = 90000 MB; 105120 MB are needed; df -h /var/lib"]
    assert refused(pinned, "gpu1", whole=["inference"]) == []


def test_a_machine_tells_what_it_is(tmp_path: Path, prod: Site) -> None:
    machine = Machine(name="here", address="127.0.0.1", interface="lo", roles=frozenset({"database"}))

    found = Here(tmp_path).get_fact(Hardware, site=prod, machine=machine)

    assert int(found["memory"][0]) > 0
    assert int(found["disk"][0]) > 0
    assert abs(int(found["clock"][0])) <= 2
    assert found["architecture"] == ["x86_64"]
    assert found["address"][0] in {"127.0.0.1", "unknown"}


def test_the_clock_is_told_against_the_controllers() -> None:
    assert Hardware().process([f"clock {int(time.time()) + 90}"])["clock"][0] in {"89", "90"}


def test_who_listens_is_told_with_port_process_and_unit(tmp_path: Path) -> None:
    here = Here(tmp_path)
    tool = tmp_path / "tools" / "ss"
    tool.write_text(
        '#!/bin/sh\necho \'LISTEN 0 511 *:443 *:* users:(("nginx",pid=1,fd=6),("nginx",pid=2,fd=6))\'\n'
        "echo 'LISTEN 0 128 [::1]:22 [::]:* users:((\"sshd\",pid=1,fd=6))'\n"
    )
    tool.chmod(0o755)

    said = here.shell(LISTENERS).stdout.splitlines()

    assert [line.split()[:3] for line in said] == [["port", "443", "nginx"], ["port", "22", "sshd"]]
