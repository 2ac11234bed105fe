"""What every machine has: its name, its peers' names, the time, bounded logs, security updates."""

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.facts.server import Command

from inventories.settings import Machine, Site
from tasks.operations import Commands, ensure
from tasks.wants import Check, File, Unit, rendered, verbatim

CHRONY = "/etc/chrony/chrony.conf"
CHRONY_DEFAULT = "/etc/default/chrony"
JOURNALD = "/etc/systemd/journald.conf.d/rag.conf"
SYSCTL = "/etc/sysctl.d/60-rag.conf"
SYSCTL_UNIT = "/etc/systemd/system/systemd-sysctl.service.d/rag.conf"
TIMER = "apt-daily-upgrade.timer"


@deploy("Base")
def base(site: Site, machine: Machine) -> None:
    """Name the machine, then make it keep time, keep its logs small and keep itself patched."""
    named(name="Take on the machine's name", hostname=machine.name)

    ensure(
        name="Keep name, peers, time, logs and updates",
        files=[
            File("/etc/hostname", f"{machine.name}\n".encode()),
            File("/etc/hosts", rendered("base/hosts.j2", site=site, machine=machine)),
            File(JOURNALD, verbatim("base/journald.conf")),
            File(SYSCTL, rendered("base/sysctl.conf.j2", machine=machine)),
            File(CHRONY, rendered("base/chrony.conf.j2", servers=site.packages.ntp_servers)),
            File(CHRONY_DEFAULT, verbatim("base/chrony.default")),
            File(SYSCTL_UNIT, verbatim("base/systemd-sysctl.conf")),
            File("/etc/apt/apt.conf.d/52rag-upgrades", rendered("base/52rag-upgrades.j2", machine=machine)),
        ],
        units=[
            Unit("systemd-journald.service", reads=(JOURNALD,)),
            # Held back in a container by its own condition: the kernel there is not the machine's.
            Unit("systemd-sysctl.service", reads=(SYSCTL, SYSCTL_UNIT)),
            Unit("chrony.service", reads=(CHRONY, CHRONY_DEFAULT)),
            Unit(TIMER),
        ],
        check=Check(f'test "$(uname -n)" = {machine.name}'),
    )


@operation()
def named(hostname: str) -> Commands:
    """
    Give the running machine its name.

    + hostname: without a domain
    """
    if host.get_fact(Command, "uname -n") == hostname:
        host.noop(f"its name is {hostname}")
        return
    yield StringCommand("hostname", hostname)
