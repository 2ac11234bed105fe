"""Debian packages: those of all roles of a machine in one APT run, all machines at once."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from inventories.settings import Machine, Site
from tasks.facts import quoted
from tasks.operations import Commands, ensure
from tasks.wants import Directory, File, rendered, verbatim


class Installed(FactBase[set[str]]):
    """Which of the named packages are whole; none counts while an interrupted APT run waits to be finished."""

    @staticmethod
    def default() -> set[str]:
        """Nothing is installed."""
        return set()

    def command(self, packages: list[str]) -> str:
        """One dpkg query."""
        return (
            f"test -e {GUARD} || ls /var/lib/dpkg/updates | grep -q . || "
            "grep -qE '^Status: .* (half-|unpacked|triggers-)' /var/lib/dpkg/status || "
            f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {quoted(packages)} 2>/dev/null || true"
        )

    def process(self, output: Iterable[str]) -> set[str]:
        """Names of the whole ones."""
        return {name for name, _, status in (line.partition(" ") for line in output) if status == "installed"}


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
    "etcd": ("etcd-server", "etcd-client"),
    # Without python3-etcd Debian's Patroni speaks to Consul and Kubernetes only.
    "database": ("postgresql-17", "patroni", "python3-etcd"),
    "inference": ("haproxy",),
    "app": ("haproxy", "python3-venv", "libpq5"),
    "balancer": ("haproxy", "keepalived"),
}

GUARD = "/usr/sbin/policy-rc.d"
# Services start when their files are in place, not when their package arrives with its own defaults.
# --no-install-recommends: what is needed is named.
INSTALL = f"""set -e
export DEBIAN_FRONTEND=noninteractive
trap 'rm -f {GUARD}' EXIT
printf '#!/bin/sh\\n# Written by tasks/packages.py for the time of one APT run.\\nexit 101\\n' > {GUARD}
chmod 755 {GUARD}
dpkg --configure -a
apt-get -qq update
apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install """


def packages_of(machine: Machine) -> list[str]:
    """Debian packages of all roles of the machine, each once, in order."""
    return sorted({name for role in ("every", *machine.roles) for name in OF_ROLE.get(role, ())})


@operation()
def installed(packages: Iterable[str]) -> Commands:
    """
    Install what is missing, without starting any service.

    + packages: Debian's names
    """
    wanted = list(packages)
    found = host.get_fact(Installed, packages=wanted)
    missing = [name for name in wanted if name not in found]
    if not missing:
        host.noop(f"{len(wanted)} packages are installed")
        return
    yield StringCommand("sh", "-c", _quoted_script(missing))


def _quoted_script(missing: list[str]) -> str:
    return quoted(
        [
            INSTALL
            + quoted(missing)
            + " >/var/log/rag-packages.log 2>&1 || { tail -n 15 /var/log/rag-packages.log >&2; exit 1; }"
        ]
    )


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

    if "database" in machine.roles:
        # PostgreSQL's clusters are Patroni's to make, so the package must not make one.
        ensure(
            name="Keep the PostgreSQL package from making a cluster",
            directories=[Directory("/etc/postgresql-common")],
            files=[File("/etc/postgresql-common/createcluster.conf", verbatim("database/createcluster.conf"))],
        )

    installed(name="Install the packages of every role", packages=packages_of(machine))
