"""What every machine has: name, peers, bounded logs, security updates, no unit that failed."""

import pytest
from testinfra.host import Host

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet

pytestmark = pytest.mark.role("every")


def test_a_machine_knows_its_name_and_finds_every_peer(site: Site, host: Host, machine: Machine) -> None:
    names = [name for peer in site.machines for name in (peer.name, f"{peer.name}.{site.domain}")]
    wanted = [f"{peer.address}" for peer in site.machines for _ in range(2)]

    said = host.check_output(f"hostname; for n in {' '.join(names)}; do getent ahostsv4 $n | head -1; done")

    own, *found = said.splitlines()
    assert own == machine.name
    assert [line.split()[0] for line in found] == wanted


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_the_journal_is_kept_and_bounded(host: Host) -> None:
    said = host.check_output(
        "journalctl --boot --unit systemd-journald --output cat --no-pager | grep '^System Journal'"
    )

    assert said.splitlines()[-1].startswith("System Journal (/var/log/journal/")
    assert "max 1G" in said.splitlines()[-1]


def test_security_updates_come_alone_and_leave_what_people_upgrade(fleet: Fleet, site: Site) -> None:
    # What the program itself says on one machine; it takes as long as an APT run, so the others show what it reads.
    rehearsed = "unattended-upgrade --dry-run --debug 2>&1 | grep -i -e 'allowed origins are' -e 'initial blacklist'"
    read = "apt-config dump | grep -e Unattended-Upgrade::Origins-Pattern:: -e Unattended-Upgrade::Package-Blacklist::"
    timers = "systemctl is-active apt-daily.timer apt-daily-upgrade.timer"
    first = site.machines[0].name

    said = fleet.each(site.machines, lambda name: fleet.ask(name, f"{rehearsed if name == first else read}; {timers}"))

    for name, text in said.items():
        assert text.splitlines()[-2:] == ["active", "active"], name
        assert "label=Debian-Security" in text, name
        assert text.count("origin=Debian") == 1, f"{name}: more than security updates comes unattended"
        for package in ("^postgresql", "^patroni$", "^etcd", ".*nvidia", "^libcuda"):
            assert package in text, f"{name}: {package} would be upgraded unattended"
        for package in ("haproxy", "keepalived", "libpq", *(() if site.machine(name).gpu else ("linux-image",))):
            assert package not in text, f"{name}: {package} would never get its security updates"


def test_only_the_site_s_time_servers_are_asked(site: Site, host: Host) -> None:
    servers = [f"server {server} iburst" for server in site.packages.ntp_servers]

    said = host.check_output("chronyd -p | grep -E '^(server|pool) '")

    assert said.splitlines() == (servers or ["pool 2.debian.pool.ntp.org iburst"])
