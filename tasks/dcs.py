"""What Patroni holds for the whole cluster in etcd: the site file's word, kept by the deploy."""

import json
from collections.abc import Iterable
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from inventories.certificates import AUTHORITY, Certificate
from inventories.settings import Site
from tasks import patroni
from tasks.operations import Commands, call

# Patroni takes in a renewed certificate by listening anew: that nobody answers for a moment tells nothing of its
# settings.
PATIENTLY = "--retry 4 --retry-all-errors --retry-delay 1"


def holds(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether every wanted value is there, whatever else is."""
    return all(
        holds(found.get(name) or {}, value) if isinstance(value, dict) else found.get(name) == value
        for name, value in wanted.items()
    )


def curl(certificate: Certificate, url: str, errors: bool = False) -> str:
    """A question to Patroni, with the machine's own certificate; ``errors``: a status above 399 is an answer too."""
    return (
        f"curl {'' if errors else '--fail '}--silent --show-error --max-time 10 --cacert {AUTHORITY} "
        f"--cert {certificate.certificate} --key {certificate.key} {url}"
    )


def asked_patiently(certificate: Certificate, url: str) -> str:
    """The same while Patroni may be busy; a machine that has no certificate yet has no Patroni to wait for."""
    return f"{{ test ! -e {certificate.certificate} || {curl(certificate, url)} {PATIENTLY}; }}"


class SharedSettings(FactBase[dict[str, Any]]):
    """What Patroni holds for the whole cluster."""

    @staticmethod
    def default() -> dict[str, Any]:
        """Nothing answers."""
        return {}

    def command(self, url: str, certificate: Certificate) -> str:
        """Patroni's own answer."""
        return f"{asked_patiently(certificate, url)} || true"

    def process(self, output: Iterable[str]) -> dict[str, Any]:
        """JSON."""
        found: dict[str, Any] = json.loads("".join(output) or "{}")
        return found


@operation()
def cluster_settings(needed: bool, wanted: dict[str, Any], url: str, certificate: Certificate, site: Site) -> Commands:
    """
    Give the cluster these settings, and wait until every member has taken them in.

    + needed: this machine is the one that does it
    + wanted: values by name; what else the cluster holds stays
    + url, certificate: how to reach Patroni
    + site: whose members are waited for
    """
    if not needed or holds(host.get_fact(SharedSettings, url=url, certificate=certificate), wanted):
        host.noop("the cluster has the settings")
        return
    yield StringCommand(
        f"{curl(certificate, url)} {PATIENTLY} --output /dev/null --request PATCH --data @-", _stdin=json.dumps(wanted)
    )
    yield call(patroni.two_rounds, site)
