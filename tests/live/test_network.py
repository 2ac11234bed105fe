"""Who reaches whom: from every machine to every machine exactly the declared ports answer, and doors ask for a name."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from inventories.network import OLLAMA_DOOR, flows, reachable
from inventories.settings import Machine, Site

Run = Callable[[Machine | str, str], str]
LOOPBACK_ONLY = (8000, 8080, 8081, 8082, 11434, 11435)
NEVER = (21, 25, 111, 323, 3306, 6379, 8009, 9090, 9093, 9999)
SCAN = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
targets, ports = json.loads(sys.argv[1])
def answers(pair):
    with socket.socket() as s:
        s.settimeout(1.5)
        return s.connect_ex(pair) == 0
pairs = [(t, p) for t in targets for p in ports]
with ThreadPoolExecutor(64) as pool:
    print(json.dumps([pair for pair, open_ in zip(pairs, pool.map(answers, pairs)) if open_]))
"""


def test_exactly_the_declared_ports_answer(site: Site, run: Run) -> None:
    ports = sorted({flow.port for flow in flows(site)} | {*LOOPBACK_ONLY, *NEVER})
    program = base64.b64encode(SCAN.encode()).decode()

    def seen_from(source: Machine) -> set[tuple[str, str, int]]:
        peers = {str(peer.address): peer.name for peer in site.machines if peer != source}
        asked = json.dumps([list(peers), ports])
        said = run(
            source, f"echo {program} | base64 -d > /run/scan.py; python3 /run/scan.py '{asked}'; rm /run/scan.py"
        )
        return {(source.name, peers[address], port) for address, port in json.loads(said)}

    with ThreadPoolExecutor(2) as pool:
        seen = set().union(*pool.map(seen_from, site.machines))

    declared = {
        (source.name, target.name, port)
        for source in site.machines
        for target in site.machines
        if source != target
        for port in reachable(site, source, target)
    }
    assert sorted(seen - declared) == [], "open, but not declared"
    assert sorted(declared - seen) == [], "declared, but closed"


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
    assert asked(target, "proxy", "GET", "/api/version") in {"403", "000"}
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create"),
                         ("POST", "/api/version"), ("GET", "/"), ("POST", "/standin/knobs")):  # fmt: skip
        assert asked(client, "proxy", method, path) == "403", f"{method} {path}"
