"""SSH: the deploy user with a key; nobody else, nothing weaker."""

import re
import subprocess
from pathlib import Path

import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import ROOT as CHECKOUT
from tests.live.fleet import Fleet, command_of, environment

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
OTHERS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleKeyOfOneOperatorReplaceItWithYourOwn operator@example.org"
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


@pytest.mark.lab
def test_keys_without_the_controllers_own_are_taken_back_while_it_is_still_in(
    fleet: Fleet, site: Site, tmp_path: Path
) -> None:
    # Given: a site file whose only key is somebody else's.
    name = site.machines[-1].name
    look = "sudo cat ~/.ssh/authorized_keys"
    before = fleet.ssh(name, command=look).stdout
    text = (CHECKOUT / "inventories" / site.name).read_text()
    others = text.replace("authorized_keys=(_lab.public_key,)", f'authorized_keys=("{OTHERS}",)')
    assert others != text
    inventory = tmp_path / site.name
    inventory.write_text(others)

    # When
    words = command_of(site.name, "--limit", name)
    command = [word.replace(f"inventories/{site.name}", str(inventory)) for word in words]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, check=False)

    # Then: one line says so, and everybody who got in gets in.
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"a new login on {name} = " in said
    assert "the old are back" in said
    assert "Traceback" not in said
    assert fleet.ssh(name, command=look).stdout == before
