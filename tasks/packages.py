"""Debian packages: those of all roles of a machine in one APT run, all machines at once."""

from pyinfra.api import deploy

from inventories.settings import Machine, Site
from tasks.apt import installed
from tasks.operations import ensure
from tasks.wants import Directory, File, rendered, verbatim

OF_ROLE: dict[str, tuple[str, ...]] = {
    "every": (
        "ca-certificates",
        "chrony",
        "curl",
        "nftables",
        "openssl",
        "prometheus-node-exporter",
        "python3",
        "sudo",
        "unattended-upgrades",
        "zstd",
    ),
    # restic takes etcd's content to the backup host.
    "etcd": ("etcd-server", "etcd-client", "restic"),
    # Without python3-etcd Debian's Patroni speaks to Consul and Kubernetes only.
    "database": ("postgresql-17", "patroni", "python3-etcd"),
    "inference": ("haproxy",),
    "app": ("haproxy", "python3-venv", "libpq5"),
    # The server's own programs restore what they read, so those of the databases' version.
    "backup": ("haproxy", "libpq5", "openssh-client", "postgresql-17", "restic", "restic-rest-server"),
    "balancer": ("haproxy", "keepalived"),
}


def packages_of(machine: Machine) -> list[str]:
    """Debian packages of all roles of the machine, each once, in order."""
    return sorted({name for role in ("every", *machine.roles) for name in OF_ROLE.get(role, ())})


@deploy("Packages")
def packages(site: Site, machine: Machine) -> None:
    """
    All Debian packages of a machine's roles.

    A mirror of the site's own replaces the machine's sources; without one they stay as they are.
    """
    if site.packages.mirror:
        ensure(
            name="Take packages from the site's mirror",
            files=[
                File("/etc/apt/sources.list.d/rag.sources", rendered("packages/rag.sources.j2", site=site)),
                File("/etc/apt/sources.list", b"# Written by tasks/packages.py; the sources are in sources.list.d.\n"),
            ],
            absent=["/etc/apt/sources.list.d/debian.sources"],
        )

    if machine.roles & {"database", "backup"}:
        # PostgreSQL's clusters are Patroni's and the drills' to make, so the package must not make one.
        ensure(
            name="Keep the PostgreSQL package from making a cluster",
            directories=[Directory("/etc/postgresql-common")],
            files=[File("/etc/postgresql-common/createcluster.conf", verbatim("database/createcluster.conf"))],
        )

    installed(name="Install the packages of every role", packages=packages_of(machine))
