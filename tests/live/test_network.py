"""Who reaches whom: from every machine to every machine exactly the declared ports answer, and doors ask for a name."""

from collections.abc import Callable

import pytest

from inventories.network import OLLAMA_DOOR, flows, reachable
from inventories.settings import Machine, Site
from tests.live.certificates import forged
from tests.live.fleet import Fleet

Run = Callable[[Machine | str, str], str]
LOOPBACK_ONLY = (8000, 8080, 8081, 8082, 11434, 11435)
NEVER = (21, 25, 111, 323, 3306, 6379, 8009, 9090, 9093, 9999)
# No answer is the rule and takes the whole wait, so everything is tried at once.
SCAN = """
import socket
from concurrent.futures import ThreadPoolExecutor
def answers(pair):
    address, port = pair
    try:
        family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as tried:
            tried.settimeout(2)
            return tried.connect_ex(where) == 0
    except OSError:
        return False
pairs = [(address, port) for address in values["addresses"] for port in values["ports"]]
with ThreadPoolExecutor(len(pairs) or 1) as pool:
    print(json.dumps([pair for pair, open_ in zip(pairs, pool.map(answers, pairs)) if open_]))
"""


def test_exactly_the_declared_ports_answer(site: Site, fleet: Fleet, measured: Callable[[str], None]) -> None:
    ports = sorted({flow.port for flow in flows(site)} | {*LOOPBACK_ONLY, *NEVER})
    local = fleet.each(site.machines, lambda name: link_local(fleet, site.machine(name)))

    def seen_from(name: str) -> set[tuple[str, str, int]]:
        interface = site.machine(name).interface
        peers = {str(peer.address): peer.name for peer in site.machines if peer.name != name}
        peers |= {f"{local[peer]}%{interface}": f"{peer} (IPv6)" for peer in peers.values() if local[peer]}
        found = fleet.python(name, SCAN, addresses=list(peers), ports=ports)
        return {(name, peers[address], port) for address, port in found}

    seen = set().union(*fleet.each(site.machines, seen_from).values())

    declared = {
        (source.name, target.name, port)
        for source in site.machines
        for target in site.machines
        if source != target
        for port in reachable(site, source, target)
    }
    seldom = {flow.port for flow in flows(site) if flow.seldom}
    assert sorted(seen - declared) == [], "open, but not declared"
    assert sorted(way for way in declared - seen if way[2] not in seldom) == [], "declared, but closed"
    pairs = len(site.machines) * (len(site.machines) - 1)
    measured(f"network: {pairs} pairs of machines, {len(ports)} ports each, {len(declared)} declared and open, 0 more")


def link_local(fleet: Fleet, machine: Machine) -> str:
    """A machine's IPv6 address without any configuration: no site declares it, so nothing may answer there."""
    script = f"ip -6 -br address show dev {machine.interface} scope link | grep -oE 'fe80[^/]*' | head -1; true"
    return fleet.ask(machine.name, script)


def test_a_door_opens_for_declared_names_and_paths_only(site: Site, run: Run) -> None:
    target, client = site.having("inference")[0], site.having("app")[0]
    url = f"https://{target.name}:{OLLAMA_DOOR}"

    def asked(machine: Machine, certificate: str, method: str, path: str) -> str:
        shown = f"--cert /etc/rag/pki/{certificate}.crt --key /etc/rag/pki/{certificate}.key" if certificate else ""
        return run(
            machine,
            f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 10 --cacert /etc/rag/pki/ca.crt {shown} "
            f"-X {method} {url}{path}; true",
        )

    assert asked(client, "proxy", "GET", "/api/version") == "200"
    assert asked(client, "", "GET", "/api/version") == "000"
    # The machine's own certificate is this CA's too, but its name is not among the door's clients.
    if target not in site.having("app"):
        assert asked(target, "proxy", "GET", "/api/version") == "403"
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create"),
                         ("POST", "/api/version"), ("GET", "/"), ("POST", "/standin/knobs")):  # fmt: skip
        assert asked(client, "proxy", method, path) == "403", f"{method} {path}"


@pytest.mark.lab
def test_a_door_stays_shut_for_a_machine_that_is_not_declared_even_from_where_one_is(site: Site, run: Run) -> None:
    target, client = site.having("inference")[0], site.having("app")[0]
    # Databases ask no model.
    stranger = site.having("database")[0]
    url = f"https://{target.name}:{OLLAMA_DOOR}/api/version"
    ask = "curl -s -o /dev/null -w '%{http_code}' --max-time 10 --cacert /etc/rag/pki/ca.crt"
    # Nor for another service's certificate of a machine that is declared.
    shown = ((stranger.name, "proxy", "403"), (client.name, "node-exporter", "403"), (client.name, "proxy", "200"))
    for name, service, answer in shown:
        with forged(site, run, client, name, service) as certificate:
            assert run(client, f"{ask} {certificate} {url}") == answer, f"{service} of {name}"
