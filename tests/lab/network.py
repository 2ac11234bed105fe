"""The lab's own Ethernet: a bridge, a way out to the package mirror, and cuts in it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.lab import plan
from tests.lab.host import LabError, run, succeeds
from tests.lab.sources import name_servers

Way = Literal["both", "out", "in"]
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def table(tag: str) -> str:
    return f"rag_lab_{tag}"


def cuts(tag: str) -> str:
    return f"rag_lab_cuts_{tag}"


def networks_in_use(own_bridge: str) -> list[str]:
    """What this computer already routes, has or asks, except through the lab's own bridge."""
    used = [f"{server}/32" for server in name_servers(Path("/etc/resolv.conf").read_text()) if "." in server]
    for route in json.loads(run("ip", "-4", "-json", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default" and route.get("dev") != own_bridge:
            used.append(route["dst"])
    return used


def create(name: str, subnet: str) -> None:
    """Make the bridge and the way out; whatever of it is already there stays."""
    bridge = plan.bridge(name)
    if not exists(bridge):
        # An address of its own: by default it would change with every machine that comes or goes.
        run(
            "ip",
            "link",
            "add",
            bridge,
            "address",
            hardware_address(plan.tag(name)),
            "type",
            "bridge",
            "forward_delay",
            "0",
        )
    run("ip", "address", "replace", f"{plan.numbered(subnet, plan.GATEWAY)}/24", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    if not _rules_are_whole(plan.tag(name)):
        remove_rules(plan.tag(name))
        run("nft", "-f", "-", stdin=ruleset(plan.tag(name), bridge, subnet))
    if _forward_is_closed():
        for rule in _forward_rules(bridge):
            if not succeeds("iptables", "-w", "-C", "FORWARD", *rule):
                run("iptables", "-w", "-I", "FORWARD", *rule)


def hardware_address(tag: str) -> str:
    """A locally administered address for the bridge."""
    return "02:00:" + ":".join(f"{int(tag, 16) >> shift & 255:02x}" for shift in (24, 16, 8, 0))


def _rules_are_whole(tag: str) -> bool:
    """Whether both tables are there; they are loaded in one transaction, and kept, with the cuts in them."""
    return all(
        succeeds("nft", "list", "table", family, name) for family, name in (("ip", table(tag)), ("bridge", cuts(tag)))
    )


def ruleset(tag: str, bridge: str, subnet: str) -> str:
    """The lab's rules: out through this computer's own address, never into another lab."""
    return f"""
table ip {table(tag)} {{
  chain out {{
    type nat hook postrouting priority srcnat;
    ip saddr {subnet} oifname != "{bridge}" masquerade
  }}
  chain apart {{
    type filter hook forward priority filter;
    iifname "{bridge}" oifname "rl-*" oifname != "{bridge}" drop
  }}
}}
table bridge {cuts(tag)} {{
  chain between {{
    type filter hook forward priority filter;
  }}
}}
"""


def exists(bridge: str) -> bool:
    return Path("/sys/class/net", bridge).exists()


def open_forwarding(memory: Path) -> None:
    """Let this computer forward, and remember what it did before any lab."""
    before = FORWARDING.read_text().strip()
    if not memory.exists():
        memory.write_text(before)
    if before != "1":
        FORWARDING.write_text("1")


def restore_forwarding(memory: Path) -> None:
    if memory.exists():
        if memory.read_text().strip() == "0":
            FORWARDING.write_text("0")
        memory.unlink()


def _forward_is_closed() -> bool:
    """A container engine or firewall that drops what is forwarded would cut the machines off from their mirror."""
    return succeeds("iptables", "-V") and run("iptables", "-w", "-S", "FORWARD").startswith("-P FORWARD DROP")


def _forward_rules(bridge: str) -> list[tuple[str, ...]]:
    note = ("-m", "comment", "--comment", f"rag-lab {bridge}", "-j", "ACCEPT")
    return [("-i", bridge, *note), ("-o", bridge, *note)]


def remove(tag: str) -> None:
    """Remove links, addresses and rules of a lab, however much of them there is."""
    remove_rules(tag)
    for port in Path("/sys/class/net").glob(f"vb-{tag}-*"):
        succeeds("ip", "link", "delete", port.name)
    if exists(f"rl-{tag}"):
        run("ip", "link", "delete", f"rl-{tag}")


def remove_rules(tag: str) -> None:
    for family, name in (("ip", table(tag)), ("bridge", cuts(tag))):
        if succeeds("nft", "list", "table", family, name):
            run("nft", "delete", "table", family, name)
    if succeeds("iptables", "-V"):
        for rule in _forward_rules(f"rl-{tag}"):
            while succeeds("iptables", "-w", "-D", "FORWARD", *rule):
                pass


def tags_on_this_computer() -> set[str]:
    """The labs that left a bridge, a port or a table here, alive or not."""
    links = " ".join(link.name for link in Path("/sys/class/net").iterdir())
    tables = run("nft", "list", "tables")
    return set(re.findall(r"\brl-([0-9a-f]{5})\b", links)) | set(
        re.findall(r"\brag_lab_(?:cuts_)?([0-9a-f]{5})\b", tables)
    )


def port(tag: str, machine: str) -> str:
    return f"vb-{tag}-{machine}"


def cut(
    tag: str,
    machine: str,
    peers: Sequence[str] = (),
    *,
    cable: bool = False,
    ports: Sequence[int] = (),
    way: Way = "both",
) -> None:
    """
    Take a machine off the network, or apart from some peers; with ``cable`` it also sees its link go down.

    Towards peers the cut may be narrower: only these TCP ports, whoever of the two listens; only what the machine
    sends (``out``) or what it would receive (``in``).
    """
    link = port(tag, machine)
    if not Path("/sys/class/net", link).exists():
        raise LabError(
            f"{machine} = not running; only a running machine has a network; python3 -m tests.lab start {machine}"
        )
    if cable:
        run("ip", "link", "set", link, "down")
    elif not peers:
        # Its link stays up, as behind a switch that lost its uplink: the machine cannot see why nobody answers.
        run("ip", "link", "set", link, "nomaster")
    for rule in cut_rules(tag, machine, peers, ports, way):
        run("nft", "add", "rule", "bridge", cuts(tag), "between", *rule.split(" "))


def cut_rules(tag: str, machine: str, peers: Sequence[str], ports: Sequence[int], way: Way) -> list[str]:
    """What is dropped between a machine and its peers."""
    listed = ",".join(str(number) for number in ports)
    # Requests and answers: a connection that is open when the cut comes must fall silent in both directions.
    matches = [f"tcp dport {{{listed}}} ", f"tcp sport {{{listed}}} "] if ports else [""]
    ways = {"out": [True], "in": [False], "both": [True, False]}[way]
    return [
        f'iifname "{port(tag, one)}" oifname "{port(tag, other)}" {match}drop comment "{machine}"'
        for peer in peers
        for one, other in [(machine, peer) if outward else (peer, machine) for outward in ways]
        for match in matches
    ]


def heal(tag: str, machine: str) -> None:
    link = port(tag, machine)
    if Path("/sys/class/net", link).exists():
        run("ip", "link", "set", link, "master", f"rl-{tag}", "up")
    for rule in _cut_rules(tag):
        if rule.get("comment") == machine:
            run("nft", "delete", "rule", "bridge", cuts(tag), "between", "handle", str(rule["handle"]))


def _cut_rules(tag: str) -> list[dict[str, object]]:
    listing = json.loads(run("nft", "--json", "--handle", "list", "table", "bridge", cuts(tag)))
    return [item["rule"] for item in listing["nftables"] if "rule" in item]


def is_cut(tag: str, machine: str) -> bool:
    link = Path("/sys/class/net", port(tag, machine))
    whole = (link / "master").exists() and (link / "operstate").read_text().strip() == "up"
    return not whole or any(rule.get("comment") == machine for rule in _cut_rules(tag))
