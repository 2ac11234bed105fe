"""Refuse a machine that cannot carry its roles, before anything changes on any machine."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, deploy, operation
from pyinfra.api.exceptions import OperationError

from inventories.settings import Machine, Site
from tasks.operations import Commands, call

DISK_MB = {"database": 4096, "inference": 4096, "app": 4096}


class Hardware(FactBase[dict[str, str]]):
    """Debian's version, architecture, memory and free disk in MB, NVIDIA devices on PCI, clock."""

    @staticmethod
    def default() -> dict[str, str]:
        """Nothing is known."""
        return {}

    def command(self) -> str:
        """One line per figure."""
        return (
            ". /etc/os-release; echo debian ${ID}-${VERSION_ID}; echo architecture $(uname -m); "
            "echo memory $(( $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) / 1024 )); "
            "echo disk $(df -Pm /var/lib | awk 'END {print $4}'); echo clock $(date +%s); "
            "echo nvidia $(grep -lx 0x10de /sys/bus/pci/devices/*/vendor 2>/dev/null | while read v; do "
            "grep -l '^0x03' ${v%vendor}class; done | wc -l)"
        )

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Name to value."""
        return dict(line.split(" ", 1) for line in output if " " in line)


def problems(machine: Machine, found: dict[str, str]) -> list[str]:
    """What stops ``machine`` from carrying its roles: thing = value; need; command."""
    said = []
    if found.get("debian") != "debian-13":
        said.append(f"system = {found.get('debian')}; Debian 13 is needed; cat /etc/os-release")
    if found.get("architecture") != "x86_64":
        said.append(f"architecture = {found.get('architecture')}; x86_64 is needed; uname -m")
    need = max((DISK_MB.get(role, 0) for role in machine.roles), default=1024)
    if int(found.get("disk", 0)) < need:
        said.append(f"free disk in /var/lib = {found.get('disk')} MB; {need} MB are needed; df -h /var/lib")
    if machine.gpu and found.get("nvidia", "0") == "0":
        said.append("gpu = declared; no NVIDIA device is on PCI; lspci -d 10de: , or set gpu=False for this machine")
    return said


@operation()
def fit(machine: Machine) -> Commands:
    """
    Refuse the machine when it cannot carry its roles.

    + machine: what the site says of it
    """
    said = problems(machine, host.get_fact(Hardware))
    if not said:
        host.noop(f"{machine.name} fits its roles")
        return
    yield call(_refuse, f"{machine.name}: {said[0]}")


def _refuse(text: str) -> None:
    raise OperationError(text)


@deploy("Preflight")
def preflight(site: Site, machine: Machine) -> None:
    """Ask first, change later."""
    fit(name="The machine fits its roles", machine=machine)
