"""Which certificates a machine holds: one per service, with the names under which others reach it."""

from dataclasses import dataclass
from datetime import timedelta

from inventories.settings import Machine, Site

FOLDER = "/etc/rag/pki"
AUTHORITY = f"{FOLDER}/ca.crt"
LIFE = timedelta(days=90)

ETCD_AUTHORITY = f"{FOLDER}/etcd-ca.crt"
"""
etcd's own CA, because etcd lets in whoever its CA signed.

Its way to tell clients apart, --client-cert-allowed-hostname, breaks its HTTP gateway, which Patroni uses (3.5.16).
"""


@dataclass(frozen=True)
class Certificate:
    """A key pair of one service on one machine."""

    service: str
    group: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    signer: str = "authority"
    """The secret's name of the CA that signs it."""

    @property
    def key(self) -> str:
        """Made on the machine; never leaves it."""
        return f"{FOLDER}/{self.service}.key"

    @property
    def certificate(self) -> str:
        """What the CA signed."""
        return f"{FOLDER}/{self.service}.crt"


def certificates(site: Site, machine: Machine) -> list[Certificate]:
    """Every certificate of ``machine``: the machine's names, and what the service adds."""

    def certificate(
        service: str, group: str, *names: str, addresses: tuple[str, ...] = (), signer: str = "authority"
    ) -> Certificate:
        own = (machine.name, f"{machine.name}.{site.domain}", "localhost")
        return Certificate(service, group, (*own, *names), (str(machine.address), "127.0.0.1", *addresses), signer)

    held = [certificate("node-exporter", "prometheus")]
    if "etcd" in machine.roles:
        held.append(certificate("etcd", "etcd", signer="etcd-authority"))
    if "database" in machine.roles:
        held += [
            certificate("patroni", "postgres"),
            certificate("patroni-etcd", "postgres", signer="etcd-authority"),
            certificate("postgresql", "postgres"),
        ]
    if "app" in machine.roles:
        held.append(certificate("app", "rag"))
    if "backup" in machine.roles:
        held.append(certificate("backup", "rag-backup"))
    if "etcd" in machine.roles and site.having("backup"):
        held.append(certificate("push", "root"))
    if machine.roles & {"app", "balancer", "inference", "backup"}:
        held.append(certificate("proxy", "haproxy"))
    if "balancer" in machine.roles:
        held.append(certificate("web", "haproxy", site.domain, addresses=(str(site.entry),)))
    if "monitoring" in machine.roles:
        held.append(certificate("monitoring", "root"))
    return held


def certificate_of(site: Site, machine: Machine, service: str) -> Certificate:
    """The certificate of that service on ``machine``."""
    return next(held for held in certificates(site, machine) if held.service == service)
