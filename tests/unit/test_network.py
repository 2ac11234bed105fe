"""Who may talk to whom: what is declared gets through the firewall and the doors, and nothing else does."""

import os
import shutil
import subprocess
from ipaddress import IPv4Address
from itertools import product
from pathlib import Path

import pytest

from inventories import network
from inventories.settings import Site
from tasks import firewall
from tasks.wants import rendered


def opened(site: Site, name: str) -> set[tuple[int, tuple[str, ...]]]:
    """The machine's openings as ports with their sources."""
    return {(opening.port, tuple(map(str, opening.sources))) for opening in network.openings(site, site.machine(name))}


OPERATORS = ("198.51.100.128/27",)
USERS = ("198.51.100.0/24",)
APPS = ("198.51.100.21", "198.51.100.22")


def test_a_database_machine_lets_in_its_peers_and_the_program(prod: Site) -> None:
    peers = ("198.51.100.12", "198.51.100.13")

    assert opened(prod, "db1") == {
        (22, OPERATORS),
        (5432, APPS),
        *((port, peers) for port in (5432, 8008, 2379, 2380)),
        (5432, ("198.51.100.41",)),
        (9100, ("198.51.100.41",)),
    }


def test_an_inference_machine_lets_in_the_program_alone_and_through_its_door(prod: Site) -> None:
    drills = ("198.51.100.41",)
    assert opened(prod, "gpu1") == {(22, OPERATORS), (11443, APPS), (11443, drills), (9100, drills)}

    (door,) = network.doors(prod, prod.machine("gpu1"))
    assert (door.port, door.door.backend, door.clients) == (11443, 11434, ("app1", "app2", "ops1"))


def test_a_balancer_is_open_to_users_and_its_program_to_the_other_balancer(prod: Site) -> None:
    assert opened(prod, "app1") == {
        (22, OPERATORS),
        (80, USERS),
        (443, USERS),
        (8443, ("198.51.100.22",)),
        *((port, ("198.51.100.41",)) for port in (8444, 8445, 8446)),
        (9100, ("198.51.100.41",)),
    }
    assert network.vrrp_peers(prod, prod.machine("app1")) == [IPv4Address("198.51.100.22")]
    assert network.vrrp_peers(prod, prod.machine("db1")) == []


def test_a_machine_with_every_role_is_open_to_people_alone(edge: Site) -> None:
    users = ("192.0.2.0/24", "2001:db8::/32")

    assert opened(edge, "edge1") == {(2222, ("192.0.2.128/27",)), (80, users), (443, users)}
    assert network.vrrp_peers(edge, edge.machine("edge1")) == []


def test_nothing_is_open_without_a_declared_flow(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "flows", lambda _: ())

    for machine in site.machines:
        assert network.openings(site, machine) == []
        assert network.doors(site, machine) == []
        assert b"dport" not in rules(site, machine.name)


def test_every_opening_belongs_to_a_flow_with_that_source_and_that_target(site: Site) -> None:
    machines = {str(machine.address): machine for machine in site.machines}

    for target in site.machines:
        for opening in network.openings(site, target):
            for source in opening.sources:
                assert any(
                    flow.port == opening.port
                    and target in site.having(flow.target)
                    and (
                        source in {network.OPERATORS: site.operators, network.USERS: site.users}.get(flow.source, ())
                        or machines.get(str(source)) in site.having(flow.source)
                    )
                    for flow in network.flows(site)
                ), (target.name, opening)


def test_no_service_behind_a_door_is_reachable_past_it(site: Site) -> None:
    behind = {flow.door.backend for flow in network.flows(site) if flow.door} | {network.CHROMA, network.INFERENCE_POOL}
    assert behind == {8080, 8081, 8082, 11434, 8000, 11435}

    for source, target in product(site.machines, repeat=2):
        if source != target:
            assert not behind & network.reachable(site, source, target)


def test_a_machine_reaches_what_its_roles_need_and_no_more(prod: Site) -> None:
    def reach(source: str, target: str) -> set[int]:
        return network.reachable(prod, prod.machine(source), prod.machine(target))

    # Every machine of prod is in the users' network, so the balancers' web ports are open to all of them.
    assert reach("app1", "db1") == {5432}
    assert reach("db1", "db2") == {5432, 8008, 2379, 2380}
    assert reach("app1", "app2") == {80, 443, 8443}
    assert reach("ops1", "app1") == {80, 443, 8444, 8445, 8446, 9100}
    assert reach("ops1", "gpu1") == {9100, 11443}
    assert reach("db1", "ops1") == {5433, 8448}
    assert reach("app1", "ops1") == set()
    assert reach("gpu1", "gpu2") == set()
    assert reach("gpu1", "db1") == set()
    assert reach("db1", "gpu1") == set()


def test_no_path_through_ollamas_door_changes_a_model() -> None:
    assert network.OLLAMA.paths == (
        "GET /api/version",
        "GET /api/tags",
        "GET /api/ps",
        "POST /api/show",
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/embed",
    )


def rules(site: Site, name: str) -> bytes:
    machine = site.machine(name)
    return rendered(
        "firewall/nftables.conf.j2",
        openings=network.openings(site, machine),
        vrrp_peers=network.vrrp_peers(site, machine),
    )


def test_users_on_ipv6_get_a_rule_of_their_own(edge: Site, prod: Site) -> None:
    text = rules(edge, "edge1").decode()

    assert "ip saddr { 192.0.2.0/24 } tcp dport 443 accept" in text
    assert "ip6 saddr { 2001:db8::/32 } tcp dport 443 accept" in text
    assert "ip6 saddr" not in rules(prod, "app1").decode()


needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"), reason="needs root and nft"
)


@needs_namespace
def test_the_kernel_takes_the_rules_of_every_machine_and_drops_the_rest(site: Site, tmp_path: Path) -> None:
    for machine in site.machines:
        path = tmp_path / machine.name
        path.write_bytes(rules(site, machine.name))

        done = subprocess.run(
            ["unshare", "-n", "sh", "-ec", f"nft -f {path}; nft -f {path}; nft list table inet rag"],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert "hook input priority filter; policy drop;" in done.stdout
        assert "hook forward priority filter; policy drop;" in done.stdout
        # Loading them twice leaves them once.
        assert done.stdout.count("chain input") == 1


@needs_namespace
def test_a_rule_that_somebody_added_or_took_away_is_noticed_and_loading_the_rules_again_is_not(
    edge: Site, tmp_path: Path
) -> None:
    (tmp_path / "rules").write_bytes(rules(edge, "edge1"))
    differs = f"{firewall.SUM} | cmp --quiet - kept"
    story = f"""cd {tmp_path}; nft -f rules; {firewall.SUM} > kept
nft delete table inet rag; nft -f rules; {differs}
nft add rule inet rag input accept; ! {{ {differs}; }}
nft flush ruleset; ! {{ {differs}; }}"""

    subprocess.run(["unshare", "-n", "sh", "-ec", story], check=True)


@needs_namespace
def test_rules_that_are_not_confirmed_in_time_give_way_to_the_old_ones(edge: Site, tmp_path: Path) -> None:
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\n')
        (tmp_path / name).chmod(0o755)
    good = rules(edge, "edge1")
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "locked-out").write_bytes(good.replace(b"dport 2222", b"dport 2223"))
    try_new = firewall.TRY.replace(firewall.DRAFT, f"{tmp_path}/locked-out").replace("/run/", f"{tmp_path}/")
    # What the timer runs when nobody stops it.
    undo = 'eval "$(sed -n "s/^systemd-run .* nft /nft /p" asked)"'
    story = (
        f"cd {tmp_path}; nft -f good; {try_new}\nnft list table inet rag > new; {undo}; nft list table inet rag > old"
    )

    subprocess.run(
        ["unshare", "-n", "sh", "-ec", story], env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True
    )

    assert "dport 2223 accept" in (tmp_path / "new").read_text()
    assert "dport 2222 accept" in (tmp_path / "old").read_text()
    assert "2223" not in (tmp_path / "old").read_text()
    assert f"--on-active={firewall.SECONDS_TO_CONFIRM} " in (tmp_path / "asked").read_text()
