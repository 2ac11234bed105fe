"""What every machine gets besides its roles: its name, the time from where the site says, and the right updates."""

from types import SimpleNamespace

from pyinfra.context import ctx_host

from inventories.settings import Site
from tasks.base import CHRONY, SYSCTL, named
from tests.unit.plans import plan


def test_looking_at_a_machine_does_not_rename_it(edge: Site) -> None:
    for wants in plan(edge, edge.machine("edge1")).called("ensure"):
        assert not wants.get("check") or "hostname" not in wants["check"].command


def test_a_machine_under_another_name_is_renamed_by_a_command() -> None:
    asked = SimpleNamespace(get_fact=lambda *_: "localhost", noop=lambda _: None)

    with ctx_host.use(asked):
        assert [str(command) for command in named._inner(hostname="db1")] == ["hostname db1"]
        assert [*named._inner(hostname="localhost")] == []


def test_the_kernels_settings_are_applied_when_their_file_changes(edge: Site) -> None:
    reading = {
        unit.name
        for wants in plan(edge, edge.machine("edge1")).called("ensure")
        for unit in wants.get("units", ())
        if SYSCTL in unit.reads
    }

    assert reading == {"systemd-sysctl.service"}


def test_time_servers_of_the_site_replace_debians_pool(edge: Site, prod: Site) -> None:
    def sources(site: Site) -> list[str]:
        text = plan(site, site.machines[0]).files[CHRONY].content.decode()
        return [line for line in text.splitlines() if line.startswith(("server", "pool", "sourcedir", "confdir"))]

    assert sources(edge) == ["server time.example.org iburst"]
    assert sources(prod) == ["pool 2.debian.pool.ntp.org iburst"]


def test_security_updates_come_alone_except_to_databases_and_drivers(edge: Site, prod: Site) -> None:
    def kept(site: Site) -> str:
        return plan(site, site.machines[0]).files["/etc/apt/apt.conf.d/52rag-upgrades"].content.decode()

    assert not [name for name in ("haproxy", "keepalived", "libpq", "linux-image") if name in kept(prod)]
    assert "linux-image" in kept(edge)
    assert all(name in kept(prod) for name in ("^postgresql", "^patroni$", "^etcd", ".*nvidia", "^libcuda"))
