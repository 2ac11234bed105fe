"""NVIDIA's driver where no GPU is: its packages install and DKMS builds the module. Takes six minutes, so by choice."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab import fleet

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

    command = [".venv/bin/pyinfra", "-y", str(inventory), "tests/live/deploys/nvidia_packages.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-2000:]
    said = fleet.shell(lab, "box1", "sh", "-c", "dkms status; apt-mark showhold").stdout
    assert "installed" in said.splitlines()[0]
    assert "nvidia-kernel-dkms" in said
