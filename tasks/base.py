"""What every machine has: its name, its peers' names, the time, bounded logs, security updates."""

from pyinfra.api import deploy

from inventories.settings import Machine, Site
from tasks.operations import ensure
from tasks.wants import Check, File, Unit, rendered, verbatim

CHRONY = "/etc/chrony/conf.d/rag.conf"
CHRONY_DEFAULT = "/etc/default/chrony"
JOURNALD = "/etc/systemd/journald.conf.d/rag.conf"
SYSCTL = "/etc/sysctl.d/60-rag.conf"
TIMER = "apt-daily-upgrade.timer"


@deploy("Base")
def base(site: Site, machine: Machine) -> None:
    """Name the machine, then make it keep time, keep its logs small and keep itself patched."""
    ensure(
        name="Keep name, peers, time, logs and updates",
        files=[
            File("/etc/hostname", f"{machine.name}\n".encode()),
            File("/etc/hosts", rendered("base/hosts.j2", site=site, machine=machine)),
            File(JOURNALD, verbatim("base/journald.conf")),
            File(SYSCTL, rendered("base/sysctl.conf.j2", machine=machine)),
            File(CHRONY, rendered("base/chrony.conf.j2", servers=site.packages.ntp_servers)),
            File(CHRONY_DEFAULT, verbatim("base/chrony.default")),
            File("/etc/systemd/system/systemd-sysctl.service.d/rag.conf", verbatim("base/systemd-sysctl.conf")),
            File("/etc/apt/apt.conf.d/52rag-upgrades", verbatim("base/52rag-upgrades")),
        ],
        units=[
            Unit("systemd-journald.service", reads=(JOURNALD,)),
            Unit("chrony.service", reads=(CHRONY, CHRONY_DEFAULT)),
            Unit(TIMER),
        ],
        check=Check(f'test "$(hostname)" = {machine.name} || hostname {machine.name}'),
    )
