"""Who of the cluster's members waits for a restart, and each in its turn."""

from collections.abc import Iterable

from pyinfra import host, logger
from pyinfra.api import FactBase, operation

from inventories.certificates import Certificate, certificate_of
from inventories.network import PATRONI
from inventories.settings import Machine, Site
from tasks import patroni
from tasks.dcs import asked_patiently
from tasks.operations import Commands, call


class Waits(FactBase[str]):
    """Why this member must restart: ``process`` for Patroni's own, ``parameters`` for PostgreSQL's, or nothing."""

    @staticmethod
    def default() -> str:
        """Nothing."""
        return ""

    def command(self, reads: tuple[str, ...], url: str, certificate: Certificate) -> str:
        """From systemd and from Patroni."""
        started = "$(systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp --value patroni.service)"
        return (
            f'test -n "$(find {" ".join(reads)} -newerct "{started}" -print -quit 2>/dev/null)" && echo process; '
            f"{asked_patiently(certificate, url)} | grep -q '\"pending_restart\": *true' && echo parameters; true"
        )

    def process(self, output: Iterable[str]) -> str:
        """The first word says enough: a new process is a new PostgreSQL too."""
        return next(iter(output), "")


_waiting: dict[str, str] = {}


@operation()
def waiting(site: Site, machine: Machine, reads: tuple[str, ...]) -> Commands:
    """
    Find out whether this member must restart; it changes nothing.

    + site, machine: whose member it is
    + reads: files that Patroni reads when it starts
    """
    own = certificate_of(site, machine, "patroni")
    url = f"https://{machine.name}:{PATRONI}/patroni"
    _waiting[machine.name] = host.get_fact(Waits, reads=reads, url=url, certificate=own)
    host.noop(f"{machine.name} waits for {_waiting[machine.name] or 'nothing'}")
    yield from ()


@operation()
def restarted(needed: bool, site: Site) -> Commands:
    """
    Restart the members that wait for it, one at a time, each step only while the cluster is healthy.

    + needed: this machine is the one that does it
    + site: whose members they are
    """
    if not needed or not any(_waiting.values()):
        host.noop("nobody waits for a restart")
        return
    yield call(_roll, site)


def _roll(site: Site) -> None:
    def restart(site: Site, machine: Machine) -> None:
        how = patroni.anew if _waiting[machine.name] == "process" else patroni.in_place
        how(site, machine)

    needing = {name for name, why in _waiting.items() if why}
    patroni.roll(site, needing, logger.info, restart, again=f"pyinfra inventories/{site.name} deploy.py")
