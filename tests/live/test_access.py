"""SSH: the deploy user with a key; nobody else, nothing weaker."""

import re

import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet

STRONG = {
    "KEX algorithms": {
        "mlkem768x25519-sha256",
        "sntrup761x25519-sha512",
        "sntrup761x25519-sha512@openssh.com",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    },
    "ciphers stoc": {
        "chacha20-poly1305@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-ctr",
    },
    "MACs stoc": {"hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"},
    "host key algorithms": {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"},
}
# What servers say of themselves in the list of key exchanges.
MARKERS = {"ext-info-s", "kex-strict-s-v00@openssh.com"}
# sshd shuts out, for a while, who fails often: two failing logins on each machine stay below that.
ROOT = ("-o", "User=root", "-o", "BatchMode=yes")
PASSWORD = (
    *("-o", "PubkeyAuthentication=no", "-o", "PasswordAuthentication=yes", "-o", "NumberOfPasswordPrompts=1"),
    *("-o", "PreferredAuthentications=password,keyboard-interactive"),
)


@pytest.mark.role("every")
def test_root_and_passwords_are_refused(fleet: Fleet, machine: Machine) -> None:
    for attempt in (ROOT, PASSWORD):
        refused = fleet.ssh(machine.name, *attempt)

        assert refused.returncode == 255
        assert "Permission denied (publickey)." in refused.stderr, refused.stderr


def test_the_deploy_user_gets_in_and_is_root_by_sudo(fleet: Fleet, site: Site) -> None:
    said = fleet.each(site.machines, lambda name: fleet.ssh(name, command="whoami; sudo -n whoami").stdout.split())

    assert said == {machine.name: [site.ssh.user, "root"] for machine in site.machines}


def test_the_server_offers_strong_algorithms_alone(fleet: Fleet, site: Site) -> None:
    said = fleet.each(site.machines, lambda name: fleet.ssh(name, "-vv").stderr)

    for name, text in said.items():
        offer = text.split("peer server KEXINIT proposal", 1)[1]
        for kind, strong in STRONG.items():
            found = re.search(rf"debug2: {kind}: (\S+)", offer)
            assert found, f"{name}: {kind}"
            assert set(found[1].split(",")) - MARKERS <= strong, f"{name}: {kind}"


@pytest.mark.parametrize("weak", ["KexAlgorithms=diffie-hellman-group14-sha1", "MACs=hmac-sha1", "Ciphers=aes128-cbc"])
def test_a_weak_client_is_turned_away(fleet: Fleet, site: Site, weak: str) -> None:
    # An AEAD cipher needs no MAC, so the weak MAC is tried with one that does.
    refused = fleet.ssh(site.machines[-1].name, "-o", weak, "-o", "Ciphers=aes256-ctr")

    assert refused.returncode == 255
    assert "no matching" in refused.stderr, refused.stderr
