"""nftables: nothing gets in but what inventories/network.py declares; a bad rule set undoes itself."""

import hashlib

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.api.exceptions import OperationError, PyinfraError

from inventories.network import openings, vrrp_peers
from inventories.settings import Machine, Site
from tasks.facts import Found, MachineState
from tasks.login import log_in_anew
from tasks.operations import Commands, call, put
from tasks.wants import Check, File, Unit, Wants, rendered

RULES = "/etc/nftables.conf"
DRAFT = "/etc/nftables.conf.new"
# What the kernel shows of the rules that were kept: a rule that somebody added, or took away, shows as a difference.
KEPT = "/var/lib/rag-firewall.sha256"
SUM = "nft --stateless list table inet rag | sha256sum"
SECONDS_TO_CONFIRM = 30

# The machine itself goes back to the old rules unless it is told in time that the controller still gets in.
# A timer's own accuracy is a minute, which would double the wait.
TRY = f"""set -e
nft --check --file {DRAFT}
old=/run/rag-firewall.old
printf 'table inet rag\\ndelete table inet rag\\n' > $old
nft list table inet rag >> $old 2>/dev/null || true
systemctl stop rag-firewall-undo.timer rag-firewall-undo.service 2>/dev/null || true
systemd-run --quiet --unit=rag-firewall-undo --on-active={SECONDS_TO_CONFIRM} \\
    --timer-property=AccuracySec=1s nft --file $old
nft --file {DRAFT}"""
KEEP = (
    f"systemctl stop rag-firewall-undo.timer && mv {DRAFT} {RULES} && {SUM} > {KEPT} "
    "&& systemctl enable --quiet nftables.service"
)


@operation()
def filtered(rules: bytes) -> Commands:
    """
    Load the rules; keep them only when a new connection of the controller gets in under them.

    + rules: nftables' text for the table ``inet rag``
    """
    version = f"version_{hashlib.sha256(rules).hexdigest()[:16]}"
    text = rules.replace(b"version_of_these_rules", version.encode())
    live = Check(
        f"nft list chain inet rag {version} && {SUM} | cmp --quiet - {KEPT} "
        "&& ! systemctl is-active rag-firewall-undo.timer"
    )
    found: Found = host.get_fact(
        MachineState, wants=Wants(files=(File(RULES, text),), units=(Unit("nftables.service"),), check=live)
    )
    kept = found.marks.get(RULES) == f"{hashlib.sha256(text).hexdigest()} 644 root root"
    if kept and found.answers and "enabled" in found.units.get("nftables.service", set()):
        host.noop("the rules are as declared")
        return
    yield from put([File(DRAFT, text)])
    yield StringCommand(TRY)
    yield call(_prove)
    yield StringCommand(KEEP)


def _prove() -> None:
    try:
        log_in_anew()
    except PyinfraError as refused:
        raise OperationError(
            f"a new login on {host.name} = {' '.join(str(refused).split())}; the new rules must let the controller in; "
            f"the old are back in {SECONDS_TO_CONFIRM} s; put the controller's address into operators"
        ) from None


@deploy("Firewall")
def firewall(site: Site, machine: Machine) -> None:
    """Let in what the site declares, for IPv4 and IPv6."""
    filtered(
        name="Let in what is declared and nothing else",
        rules=rendered(
            "firewall/nftables.conf.j2", openings=openings(site, machine), vrrp_peers=vrrp_peers(site, machine)
        ),
    )
