"""NVIDIA's driver where no GPU is: its packages install and DKMS builds the module. Takes six minutes, so by choice."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab import fleet

# Somebody else's packages, as Docker's: a component of its own, and none of Debian's.
FOREIGN = """set -e
mkdir -p /srv/foreign/dists/trixie/stable/binary-amd64
cd /srv/foreign/dists/trixie
: > stable/binary-amd64/Packages
cat > Release <<END
Origin: Docker
Suite: trixie
Codename: trixie
Date: Thu, 01 Jan 2026 00:00:00 UTC
Architectures: amd64
Components: stable
SHA256:
 $(sha256sum < /dev/null | cut -c-64) 0 stable/binary-amd64/Packages
END
cat > /etc/apt/sources.list.d/foreign.sources <<END
Types: deb
URIs: file:/srv/foreign
Suites: trixie
Components: stable
Trusted: yes
END"""

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not os.environ.get("RAG_TEST_NVIDIA"), reason="builds a kernel module: RAG_TEST_NVIDIA=1"),
]


def test_the_driver_installs_and_its_module_is_built_for_debian_s_kernel(tmp_path: Path) -> None:
    subprocess.run(["build/venv/dev/bin/python", "-m", "tests.lab", "up", "box1"], check=True)
    lab = fleet.load()
    inventory = tmp_path / "box"
    inventory.write_text(
        "from inventories.lab_state import lab\n"
        "box = [('box1', {'ssh_hostname': str(lab().address('box1')), 'ssh_user': 'root', "
        "'ssh_key': str(lab().ssh_key),"
        " 'ssh_known_hosts_file': str(lab().known_hosts), 'ssh_strict_host_key_checking': 'yes'})]\n"
    )

    fleet.shell(lab, "box1", "sh", "-c", FOREIGN)

    command = [".venv/bin/pyinfra", "-y", str(inventory), "tests/live/deploys/nvidia_packages.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-2000:]
    look = "dkms status; apt-mark showhold; test -u /usr/bin/nvidia-modprobe"
    said = fleet.shell(lab, "box1", "sh", "-c", look).stdout
    assert "installed" in said.splitlines()[0]
    assert {"nvidia-kernel-dkms", "nvidia-modprobe"} <= set(said.split())

    # Somebody else's source has none of Debian's parts; what was added is not added again.
    assert "Components: stable" in fleet.shell(lab, "box1", "cat", "/etc/apt/sources.list.d/foreign.sources").stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    operation = (again.stdout + again.stderr).partition("operation: See Debian's non-free packages")[2]
    assert "No changes" in operation.partition("Starting operation")[0]
