"""What the lab writes and reads: APT sources, rules, SSH files, mounts, kept packages."""

from pathlib import Path

from tests.lab import debs, mounts, network, sources, ssh

DEB822 = """\
# the archive
Types: deb
# URIs: http://commented.example/debian
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://commented.example/debian trixie main
deb [signed-by=/k.gpg arch=amd64] https://tools.example/apt nodistro main
deb [trusted=yes] http://mirror.example/debian trixie main contrib
deb-src http://sources.example/debian trixie main
deb http://security.example/ trixie-security main
"""


def test_the_archives_are_found_in_both_ways_of_writing_sources() -> None:
    deb822 = {"archive": "http://mirror.example/debian", "security": "https://mirror.example/debian-security"}
    assert sources.archives(DEB822) == deb822

    one_line = {"archive": "http://mirror.example/debian", "security": "http://security.example"}
    assert sources.archives(ONE_LINE) == one_line


def test_a_cloud_image_s_list_of_mirrors_is_followed(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text("# written by the image\nhttps://deb.example/debian\n")
    entry = "Types: deb\nURIs: mirror+file://{}\nSuites: trixie\nComponents: main\n"

    assert sources.archives(entry.format(tmp_path / "debian.list")) == {"archive": "https://deb.example/debian"}
    assert sources.archives(entry.format(tmp_path / "gone.list")) == {}


def test_another_vendors_sources_are_no_debian_archive() -> None:
    assert sources.archives("deb http://vendor.example/ubuntu noble main universe\n") == {}
    assert (
        sources.archives("Types: deb\nEnabled: no\nURIs: http://x.example/d\nSuites: trixie\nComponents: main\n") == {}
    )


def test_an_older_computer_still_gives_debian_13_machines() -> None:
    written = sources.machine_sources(sources.Mirror("http://m.example/debian", "http://m.example/debian-security"))

    assert "Suites: trixie trixie-updates\n" in written
    assert "Suites: trixie-security\n" in written
    assert "bookworm" not in written


def test_a_proxy_on_this_computer_is_reached_through_the_gateway() -> None:
    own = 'Acquire::http::Proxy "http://127.0.0.1:3142";\nAcquire::Languages "none";\nAPT::Architecture "amd64";\n'

    assert sources.carried_settings(own, {}, "10.70.1.1") == 'Acquire::http::Proxy "http://10.70.1.1:3142";\n'


def test_a_proxy_of_the_environment_is_carried_unless_apt_has_its_own() -> None:
    environment = {"http_proxy": "http://proxy.example:3128"}
    assert "http://proxy.example:3128" in sources.carried_settings("", environment, "10.70.1.1")

    own = 'Acquire::http::Proxy "http://apt.example:3142";'
    assert "proxy.example" not in sources.carried_settings(own, environment, "10.70.1.1")


def test_dates_that_this_computer_does_not_check_are_not_checked_in_the_lab() -> None:
    own = 'Acquire::Check-Valid-Until "false";\nAcquire::http "";\n'

    assert sources.carried_settings(own, {}, "10.70.1.1") == 'Acquire::Check-Valid-Until "false";\n'


def test_the_lab_goes_out_but_never_into_another_lab() -> None:
    rules = network.ruleset("abcde", "rl-abcde", "10.70.1.0/24")

    assert 'ip saddr 10.70.1.0/24 oifname != "rl-abcde" masquerade' in rules
    assert 'iifname "rl-abcde" oifname "rl-*" oifname != "rl-abcde" drop' in rules


def test_ssh_knows_each_machine_by_name_and_by_address() -> None:
    known = ssh.known_hosts({"db1": "10.70.1.11"}, {"db1": "ssh-ed25519 AAAA root@db1\n"})

    assert known == "db1,10.70.1.11 ssh-ed25519 AAAA\n"


def test_bare_means_root_and_a_plain_name_means_deploy() -> None:
    config = ssh.config({"db1": "10.70.1.11"}, Path("/k"), Path("/known"), Path("/run/rag-lab/abcde"))

    # ssh takes the first value that it meets.
    assert config.index("Host *.bare\n  User root") < config.index("Host db1 db1.bare\n  User deploy")
    assert "StrictHostKeyChecking yes" in config


def test_only_the_newest_version_of_a_package_is_kept() -> None:
    names = ["etcd_3.5.9-1_amd64.deb", "etcd_3.5.10-1_amd64.deb", "etcd_3.5.9-1_all.deb", "patroni_4%3a1_all.deb"]

    def shorter_is_older(one: str, other: str) -> int:
        return len(one) - len(other)

    assert debs.superseded(names, shorter_is_older) == ["etcd_3.5.9-1_amd64.deb"]


def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    names = ["p_1.0~rc1-1_all.deb", "p_1.0-1_all.deb", "q_1%3a1.0-1_all.deb", "q_2.0-1_all.deb"]

    assert debs.superseded(names, debs.version_order) == ["p_1.0~rc1-1_all.deb", "q_2.0-1_all.deb"]


def test_the_oldest_packages_go_first_when_the_cache_is_full() -> None:
    files = {"old.deb": (1.0, 60), "newer.deb": (2.0, 50), "newest.deb": (3.0, 40)}

    assert debs.beyond(100, files) == ["old.deb"]
    assert debs.beyond(1000, files) == []


def test_mount_points_with_spaces_are_read_whole() -> None:
    line = r"36 35 0:41 / /srv/my\040lab/root rw,relatime - overlay rag-lab rw,lowerdir=/a:/b" + "\n"

    assert mounts.mount_points(line) == [Path("/srv/my lab/root")]
