"""etcd: a machine without data joins those that run, and never under its old identity."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyinfra.api.exceptions import OperationError
from pyinfra.context import ctx_host

from inventories.certificates import certificate_of
from inventories.settings import Site
from tasks import etcd
from tasks.etcd import Members, joined
from tasks.wants import Check

LISTED = {"https://db1:2380": "a1", "https://db2:2380": "b2"}


def commands(
    site: Site,
    name: str,
    listed: dict[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
    present: tuple[str, ...] = (),
) -> list[str]:
    """The shell lines that the machine gets, the join's too."""
    machine = site.machine(name)
    ran: list[str] = []

    def run(command: object, **_: object) -> tuple[bool, SimpleNamespace]:
        ran.append(str(command))
        return True, SimpleNamespace(stderr_lines=[])

    hosts = [SimpleNamespace(name=peer) for peer in present]
    state = SimpleNamespace(active_hosts=hosts, is_host_in_limit=lambda _: True)
    asked = SimpleNamespace(
        name=name, get_fact=lambda *_, **__: listed, noop=lambda _: None, run_shell_command=run, state=state
    )
    monkeypatch.setattr(etcd, "host", asked)
    with ctx_host.use(asked):
        for command in joined._inner(
            site=site,
            machine=machine,
            certificate=certificate_of(site, machine, "etcd"),
            directories=[],
            files=[],
            check=Check("true"),
        ):
            # The function itself, so that its refusal is seen as it is.
            function, arguments = command.args
            function(*arguments)
    return ran


def test_a_machine_with_data_or_the_first_of_a_cluster_is_left_alone(
    prod: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands(prod, "db2", None, monkeypatch) == []


def test_a_machine_that_lost_its_data_gets_a_new_identity_before_it_starts(
    prod: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = commands(prod, "db2", LISTED, monkeypatch)

    steps = (
        "member remove b2",
        "rm -rf /var/lib/etcd/rag",
        "member add db2 --peer-urls=https://db2:2380",
        "start etcd",
    )
    places = [line.index(step) for step in steps]
    assert places == sorted(places)
    assert "https://db2:2379" not in line.partition("member remove")[0]


def test_a_new_machine_is_added_and_nobody_is_removed(prod: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = commands(prod, "db3", LISTED, monkeypatch)

    assert "member remove" not in line
    assert "member add db3" in line


def test_the_peers_list_is_read_back_with_ids_as_etcdctl_takes_them() -> None:
    members = [{"ID": 0xA1B2, "peerURLs": ["https://db1:2380"]}, {"ID": "c3", "peerURLs": ["https://db2:2380"]}]

    assert Members().process([json.dumps({"members": members})]) == {
        "https://db1:2380": "a1b2",
        "https://db2:2380": "c3",
    }
    assert Members().process([]) is None


def test_a_lone_member_asks_nobody(prod: Site) -> None:
    machine = prod.machine("db1")

    assert Members().command(certificate_of(prod, machine, "etcd"), [], "https://db1:2380") == "true"


@pytest.mark.parametrize(
    ("data", "active", "on_the_list", "joins"),
    [
        (True, True, True, False),
        # It boots at this moment.
        (True, False, True, False),
        # Its vote was taken away while it was off.
        (True, False, False, True),
        (False, False, True, True),
        (False, True, False, True),
    ],
)
def test_who_is_asked_to_join(
    prod: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: bool,
    active: bool,
    on_the_list: bool,
    joins: bool,
) -> None:
    monkeypatch.setattr(etcd, "FOLDER", str(tmp_path))
    if data:
        (tmp_path / "rag/member").mkdir(parents=True)
    url = "https://db2:2380" if on_the_list else "https://db3:2380"
    told = json.dumps({"members": [{"ID": "a1", "peerURLs": [url]}]}, separators=(",", ":"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, does in (("systemctl", f"exit {0 if active else 3}"), ("etcdctl", f"echo '{told}'")):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    machine = prod.machine("db2")
    asked = Members().command(certificate_of(prod, machine, "etcd"), [prod.machine("db1")], "https://db2:2380")

    path = f"{tools}:{os.environ['PATH']}"
    said = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, env={"PATH": path}, check=True)

    assert bool(Members().process(said.stdout.splitlines())) == joins


@pytest.mark.parametrize(("data", "listed"), [(True, None), (False, {})])
def test_a_cluster_that_nobody_tells_of_is_new_or_out_of_reach(
    prod: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bool, listed: dict[str, str] | None
) -> None:
    monkeypatch.setattr(etcd, "FOLDER", str(tmp_path))
    if data:
        (tmp_path / "rag/member").mkdir(parents=True)
    for name in ("systemctl", "etcdctl"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    machine = prod.machine("db2")
    asked = Members().command(certificate_of(prod, machine, "etcd"), [prod.machine("db1")], "https://db2:2380")

    path = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, env={"PATH": path}, check=True)

    assert Members().process(said.stdout.splitlines()) == listed


def test_a_machine_without_data_never_starts_alone(prod: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands(prod, "db2", {}, monkeypatch, ("db1", "db2", "db3")) == []

    with pytest.raises(OperationError, match="no other member answers it; all of them are needed in one run"):
        commands(prod, "db2", {}, monkeypatch, ("db2",))
