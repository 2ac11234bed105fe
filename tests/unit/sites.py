"""Four sites to try things on: prod, lab and solo as checked in, and one with what those leave at its default."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_host

from inventories import lab_state, secrets
from inventories.settings import Machine, Packages, Role, Site, Ssh
from tasks.cluster import site_of
from tests.lab import plan

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleKeyOfOneOperatorReplaceItWithYourOwn operator@example.org"
ROLES: frozenset[Role] = frozenset({"etcd", "database", "inference", "app", "balancer", "monitoring", "backup"})


def lab_sites(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    """The site files of the lab and of solo, on a lab that is only written down."""
    (folder / "key.pub").write_text(f"{KEY}\n")
    machines = {name: plan.address("10.99.7.0/24", name) for name in (*plan.FLEET, "solo1")}
    (folder / "lab.json").write_text(
        json.dumps(
            {
                "subnet": "10.99.7.0/24",
                "machines": machines,
                "vip": "10.99.7.100",
                "ssh_key": str(folder / "key"),
                "known_hosts": str(folder / "known_hosts"),
            }
        )
    )
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "archive": "ollama.tar.zst",
                "sha256": "1" * 64,
                "version": "0.0.1",
                "chat_model": "smollm2:135m",
                "embedding_model": "all-minilm:l6-v2",
                "models": {"smollm2:135m": "2" * 64, "all-minilm:l6-v2": "3" * 64},
            }
        )
    )
    monkeypatch.setattr(lab_state, "STATE", folder / "lab.json")
    monkeypatch.setattr(lab_state, "OLLAMA", folder / "manifest.json")
    return {"lab": site_of("lab"), "solo": site_of("solo")}


def edge_site() -> Site:
    """One machine with every role and a GPU, users on IPv6 too, no VIP, packages and time from its own servers."""
    return Site(
        name="edge",
        domain="rag.example.org",
        machines=(Machine(name="edge1", address=IPv4Address("192.0.2.10"), roles=ROLES, gpu=True),),
        operators=(IPv4Network("192.0.2.128/27"),),
        users=(IPv4Network("192.0.2.0/24"), IPv6Network("2001:db8::/32")),
        ssh=Ssh(authorized_keys=(KEY,), port=2222),
        packages=Packages(
            mirror="http://packages.example.org/debian",
            security_mirror="http://packages.example.org/debian-security",
            ntp_servers=("time.example.org",),
        ),
        secrets=secrets.secrets_of("edge"),
    )


@contextmanager
def as_host(site: Site, machine: Machine) -> Iterator[None]:
    """Pyinfra's ``host`` is ``machine`` for a while."""
    with ctx_host.use(SimpleNamespace(name=machine.name, data=SimpleNamespace(site=site, machine=machine))):
        yield
