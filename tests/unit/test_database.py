"""The cluster's members: a watchdog that Patroni can open, and settings that reach a cluster that runs."""

import importlib.util
import json
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host
from ruamel.yaml import YAML

from inventories.certificates import certificate_of
from inventories.settings import Site
from inventories.sizing import share_of
from tasks.database import CONFIG, DROP_IN, shared_settings
from tasks.dcs import SharedSettings, cluster_settings
from tests.unit.plans import plan
from tests.unit.sites import ROOT
from tests.unit.test_settings import box, changed, without


def program(name: str) -> ModuleType:
    """A program that the machines run, as a module."""
    found = importlib.util.spec_from_file_location(name, ROOT / "templates" / "database" / f"{name}.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def yaml(text: str) -> Any:
    """As Patroni reads it."""
    return YAML(typ="safe").load(text)


WATCHDOG = ["ExecStartPre=-+/sbin/modprobe softdog", "ExecStartPre=-+/bin/chown postgres /dev/watchdog"]


@pytest.mark.parametrize(("mode", "lines"), [("off", []), ("automatic", WATCHDOG), ("required", WATCHDOG)])
def test_patroni_gets_a_watchdog_that_it_may_open(prod: Site, mode: str, lines: list[str]) -> None:
    site = changed(prod, database=prod.database.model_copy(update={"watchdog": mode}))

    text = plan(site, site.machine("db1")).files[DROP_IN].content.decode()

    assert [line for line in text.splitlines() if line.startswith("ExecStartPre=-+")] == lines


@pytest.mark.parametrize(
    ("needed", "held", "patched"),
    [
        (True, {}, False),
        (True, {"loop_wait": 9}, True),
        (True, {"postgresql": {"use_slots": True, "parameters": {"max_connections": 7, "wal_level": "replica"}}}, True),
        (True, {"ttl": None}, True),
        (False, {"loop_wait": 9}, False),
    ],
)
def test_a_cluster_that_runs_is_given_what_the_site_wants(
    prod: Site, needed: bool, held: dict[str, object], patched: bool
) -> None:
    wanted = shared_settings(prod, share_of(prod, prod.machine("db1"), 64000, 8))
    asked = SimpleNamespace(
        get_fact=lambda *_, **__: wanted | {"synchronous_mode": "quorum"} | held, noop=lambda _: None
    )
    certificate = certificate_of(prod, prod.machine("db1"), "patroni")

    with ctx_host.use(asked):
        commands = [
            *cluster_settings._inner(
                needed=needed, wanted=wanted, url="https://db1", certificate=certificate, site=prod
            )
        ]

    assert [json.loads(command.connector_arguments["_stdin"]) for command in commands[:1]] == [wanted] * patched


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_size_of_site_gets_a_configuration_of_its_own(prod: Site, count: int) -> None:
    kept = without(prod, "db1", "db2", "db3")
    site = changed(
        prod,
        machines=(
            *kept,
            *(box(f"db{number}", 10 + number, "database", *["etcd"] * (number == 1)) for number in range(1, count + 1)),
        ),
    )

    made = yaml(plan(site, site.machine("db1")).files[CONFIG].content.decode())

    shared = made["bootstrap"]["dcs"]
    assert shared["synchronous_mode"] == ("quorum" if count > 1 else False)
    assert shared["slots"] == {"rag_backup": {"type": "physical"}}
    remote = [line.split() for line in made["postgresql"]["pg_hba"] if not line.startswith("local ")]
    assert {words[3] for words in remote if words[2] == "replicator"} == {
        f"198.51.100.{10 + number}/32" for number in range(1, count + 1)
    }
    # Beyond the socket: TLS, a certificate of the site and a password, for nobody from everywhere and no superuser.
    assert all(words[0] == "hostssl" for words in remote)
    assert all(words[4:] == ["scram-sha-256", "clientcert=verify-ca"] for words in remote)
    assert all(words[3].endswith("/32") for words in remote)
    assert "postgres" not in {user for words in remote for user in words[2].split(",")}


def test_a_site_without_a_backup_host_keeps_no_log_for_it(prod: Site) -> None:
    site = changed(prod, machines=without(prod, "ops1"))

    made = yaml(plan(site, site.machine("db1")).files[CONFIG].content.decode())

    assert "slots" not in made["bootstrap"]["dcs"]
    assert not [line for line in made["postgresql"]["pg_hba"] if "rag_backup" in line]


def test_the_guard_ends_a_primary_well_before_its_lease_does(prod: Site) -> None:
    settings = prod.database

    assert settings.guard_seconds + settings.loop_wait + 5 <= settings.ttl
    unit = plan(prod, prod.machine("db1")).files["/etc/systemd/system/rag-guard.service"].content.decode()
    assert f"--silence {settings.guard_seconds}\n" in unit


@pytest.mark.parametrize(
    ("told", "lives"),
    [
        ({"dcs_last_seen": 7}, False),
        ({"dcs_last_seen": 8}, True),
        ({"dcs_last_seen": 7, "failsafe_mode_is_active": True}, True),
    ],
)
def test_a_loop_that_stands_still_is_silence_unless_it_goes_on_without_etcd(
    told: dict[str, object], lives: bool
) -> None:
    assert program("guard").alive(told, 7) is lives


def test_only_a_postmaster_that_runs_as_primary_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = program("guard")
    proc = tmp_path / "proc" / "4711"
    proc.mkdir(parents=True)
    (proc / "comm").write_text("postgres\n")
    monkeypatch.setattr(guard, "Path", lambda first, *rest: tmp_path / "proc" / rest[0] / rest[1])
    data = tmp_path / "data"
    data.mkdir()
    assert not guard.leads(data)

    (data / "postmaster.pid").write_text("4711\n/var/lib/postgresql\n")
    assert guard.leads(data)

    (data / "standby.signal").touch()
    assert not guard.leads(data)
    (data / "standby.signal").unlink()
    (proc / "comm").write_text("bash\n")
    assert not guard.leads(data)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('12:00 [7] rag@rag FATAL:  password authentication failed for user "rag"', "password"),
        ("12:00 [7] rag@rag FATAL:  connection requires a valid client certificate", "certificate"),
        ("12:00 [7] LOG:  could not accept SSL connection: certificate verify failed", "certificate"),
        ("12:00 [7] LOG:  could not accept SSL connection: unsupported protocol", "tls"),
        ('12:00 [7] x@y FATAL:  no pg_hba.conf entry for host "192.0.2.1", user "x", no encryption', "tls"),
        ('12:00 [7] postgres@y FATAL:  no pg_hba.conf entry for host "192.0.2.1", SSL encryption', "address"),
        ("12:00 [7] rag@rag FATAL:  the database system is starting up", None),
        ('12:00 [7] rag@rag ERROR:  relation "password authentication failed" does not exist', None),
    ],
)
def test_a_refusal_is_told_from_any_other_line(line: str, reason: str | None) -> None:
    assert program("refusals").reason(line) == reason


def test_counts_go_on_where_they_stood() -> None:
    refusals = program("refusals")

    text = refusals.written({"password": 3, "tls": 1})

    assert refusals.counted(text) == {"password": 3, "certificate": 0, "tls": 1, "address": 0}


def told(index: int, **more: object) -> dict[str, Any]:
    """What a member of etcd tells of itself."""
    return {"header": {"member_id": "1"}, "leader": "1", "raftIndex": str(index), **more}


@pytest.mark.parametrize(
    ("others", "to"),
    [
        ({"2": told(990), "3": told(995)}, "3"),
        ({"2": told(990), "3": None}, "2"),
        ({"2": told(990), "3": told(999, isLearner=True)}, "2"),
        ({"2": told(990), "3": told(999, errors=["NOSPACE"])}, "2"),
        ({"2": told(100), "3": None}, ""),
        ({}, ""),
    ],
)
def test_etcd_is_led_by_who_answers_votes_and_has_nearly_everything(others: dict[str, Any], to: str) -> None:
    assert program("etcd_lead").successor(told(1000), others) == to


def test_etcds_lead_is_handed_over_where_there_is_somebody_to_take_it(prod: Site, edge: Site) -> None:
    unit = "/etc/systemd/system/rag-etcd-lead.service"

    assert unit in plan(prod, prod.machine("db1")).files
    assert unit not in plan(edge, edge.machines[0]).files


def test_a_patroni_that_listens_anew_at_this_moment_is_no_cluster_without_settings(tmp_path: Path) -> None:
    class Patroni(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ttl": 20}')

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    certificate = SimpleNamespace(certificate=str(tmp_path / "own.crt"), key=str(tmp_path / "own.key"))
    command = SharedSettings().command(f"http://127.0.0.1:{address[1]}/config", certificate)  # type: ignore[arg-type]

    def asked() -> dict[str, Any]:
        found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        return SharedSettings().process(found.stdout.splitlines())

    def listen() -> None:
        time.sleep(0.5)
        with HTTPServer(address, Patroni) as server:
            server.handle_request()

    assert asked() == {}
    (tmp_path / "own.crt").touch()
    threading.Thread(target=listen, daemon=True).start()
    assert asked() == {"ttl": 20}
