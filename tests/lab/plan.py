"""Which machines a lab has and where they live; nothing here touches this computer."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

from tests.lab.host import RefusalError

FLEET = ("db1", "db2", "db3", "app1", "app2", "gpu1", "gpu2", "ops1")
LAST_NUMBER = {
    "db1": 11,
    "db2": 12,
    "db3": 13,
    "app1": 21,
    "app2": 22,
    "gpu1": 31,
    "gpu2": 32,
    "ops1": 41,
    "solo1": 51,
}
GATEWAY = 1
VIP = 100
# Spare machines for tests of a larger site: box1 is .101, box99 is .199.
BOXES = {f"box{number}": VIP + number for number in range(1, 100)}
KNOWN = LAST_NUMBER | BOXES
# Sixteen thousand /24s that neither home routers nor container engines take by themselves.
SPACE = ipaddress.ip_network("10.64.0.0/10")


def lab_name(clone: Path) -> str:
    """Name a clone's lab after its path, so that two clones never meet."""
    return f"rag-{_digest(str(clone))[:6]}"


def checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise RefusalError(
            f"RAG_LAB_NAME = {name}; small letters, digits and dashes are needed; RAG_LAB_NAME=labtest make lab"
        )
    return name


def tag(name: str) -> str:
    """Five letters for interface names, which the kernel cuts at 15: vb-<tag>-solo1."""
    return _digest(name)[:5]


def bridge(name: str) -> str:
    return f"rl-{tag(name)}"


def checked_machines(wanted: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(wanted)) or FLEET
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise RefusalError(f"machine = {unknown[0]}; one of {', '.join(LAST_NUMBER)} or box1 … box99 is needed")
    return names


def address(subnet: str, machine: str) -> str:
    return numbered(subnet, KNOWN[machine])


def numbered(subnet: str, last: int) -> str:
    return str(ipaddress.IPv4Network(subnet).network_address + last)


def choose_subnet(name: str, taken: Iterable[str], wanted: str | None = None) -> str:
    """The /24 that the lab's name points to, or the next one that nothing on this computer uses."""
    used = [ipaddress.IPv4Network(network, strict=False) for network in taken]
    if wanted is not None:
        try:
            network = ipaddress.IPv4Network(wanted)
        except ValueError as problem:
            raise RefusalError(
                f"RAG_LAB_SUBNET = {wanted}; a /24 is needed ({problem}); RAG_LAB_SUBNET=10.99.7.0/24"
            ) from None
        if network.prefixlen != 24:
            raise RefusalError(f"RAG_LAB_SUBNET = {wanted}; a /24 is needed; RAG_LAB_SUBNET=10.99.7.0/24")
        clash = next((other for other in used if other.overlaps(network)), None)
        if clash:
            raise RefusalError(
                f"RAG_LAB_SUBNET = {wanted}; {clash} is in use on this computer; ip route show; ip address show"
            )
        return str(network)

    count = 2 ** (24 - SPACE.prefixlen)
    first = int(_digest(name), 16) % count
    for offset in range(count):
        start = SPACE.network_address + ((first + offset) % count) * 256
        network = ipaddress.IPv4Network(f"{start}/24")
        if not any(other.overlaps(network) for other in used):
            return str(network)
    raise RefusalError(
        f"subnet = none of {SPACE} is free; another /24 is needed; RAG_LAB_SUBNET=172.29.7.0/24 make lab"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
