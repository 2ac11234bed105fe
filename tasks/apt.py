"""APT: packages that are missing arrive in one run, and no service starts before its files are in place."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.facts import quoted
from tasks.operations import Commands

GUARD = "/usr/sbin/policy-rc.d"
# Services start when their files are in place, not when their package arrives with its own defaults.
# --no-install-recommends: what is needed is named.
INSTALL = f"""set -e
export DEBIAN_FRONTEND=noninteractive
# A machine may have a policy of its own, which then stays and rules.
test -e {GUARD} && ! grep -q tasks/apt.py {GUARD} || {{
trap 'rm -f {GUARD}' EXIT
printf '#!/bin/sh\\n# Written by tasks/apt.py for the time of one APT run.\\nexit 101\\n' > {GUARD}
chmod 755 {GUARD}
}}
dpkg --configure -a
apt-get -qq update
apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install """


class Installed(FactBase[set[str]]):
    """Which of the named packages are whole; none counts while an interrupted APT run waits to be finished."""

    @staticmethod
    def default() -> set[str]:
        """Nothing is installed."""
        return set()

    def command(self, packages: list[str]) -> str:
        """One dpkg query."""
        return (
            f"grep -qs tasks/apt.py {GUARD} || ls /var/lib/dpkg/updates | grep -q . || "
            "grep -qE '^Status: .* (half-|unpacked|triggers-)' /var/lib/dpkg/status || "
            f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {quoted(packages)} 2>/dev/null || true"
        )

    def process(self, output: Iterable[str]) -> set[str]:
        """Names of the whole ones."""
        return {name for name, _, status in (line.partition(" ") for line in output) if status == "installed"}


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
