"""The deploy: it finishes, and doing it again does nothing."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inventories.settings import Machine
from tests.live.fleet import ROOT, Run, command_of, deploy, environment

pytestmark = pytest.mark.lab


def test_the_fleet_is_deployed(deployed: Run) -> None:
    assert deployed.totals["hosts"] > 0
    assert deployed.totals["error"] == 0


def test_a_second_run_changes_nothing(deployed: Run, measured: Callable[[str], None]) -> None:
    again = deploy("lab")

    assert again.rc == 0, again.said
    assert again.totals["hosts"] > 0
    assert again.changed == {}
    assert again.totals["error"] == 0
    measured(f"second run: {again.seconds:.1f} s, 0 changes")


def test_an_interrupted_deploy_is_finished_by_the_next(run: Callable[[Machine | str, str], str]) -> None:
    # Given: files that differ on several machines, and a deploy that is killed after it put some of them back.
    touched = ("db2", "app1", "app2", "gpu1")
    for machine in touched:
        run(machine, "echo '# changed by hand' | tee -a /etc/hosts /etc/default/prometheus-node-exporter >/dev/null")
    run("app2", "echo '# changed by hand' >> /etc/haproxy/haproxy.cfg")
    with subprocess.Popen(
        command_of("lab"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "Serve the machine's figures" in line:
                os.killpg(running.pid, signal.SIGKILL)
                break
    run("db2", "! grep -q 'changed by hand' /etc/hosts")
    run("app2", "grep -q 'changed by hand' /etc/haproxy/haproxy.cfg")

    # When
    healed = deploy("lab")

    # Then
    assert healed.rc == 0, healed.said
    for machine in touched:
        assert (
            run(machine, "grep -l 'changed by hand' /etc/hosts /etc/default/* /etc/haproxy/* 2>/dev/null; true") == ""
        )
    assert deploy("lab").changed == {}


def test_a_file_that_arrived_without_its_restart_is_taken_in_by_the_next_run(
    run: Callable[[Machine | str, str], str],
) -> None:
    before = run("gpu1", "systemctl show -P MainPID prometheus-node-exporter; touch /etc/rag/node-exporter-web.yml")

    assert deploy("lab").changed == {"node_exporter | Serve the machine's figures": ["gpu1"]}

    assert run("gpu1", "systemctl show -P MainPID prometheus-node-exporter") != before
    assert deploy("lab").changed == {}


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        (
            'roles=frozenset({"inference"})',
            'roles=frozenset({"inference"}), gpu=True',
            "gpu1: gpu = declared; no NVIDIA device is on PCI",
        ),
        ('"), interface="host0"', '"), interface="lo"', "interface lo = 127.0.0.1; "),
        ("vip=Vip(address=_lab.vip)", "vip=Vip(address=_lab.subnet[1])", "; a free address is needed; ip neigh show"),
        ("Database(memory_mb=512", "Database(memory_mb=8_000_000", " MB are needed for its roles; free -m"),
    ],
    ids=["a GPU that is not there", "another interface", "another machine's address", "too little memory"],
)
def test_a_machine_that_does_not_fit_is_refused_before_anything_changes(
    tmp_path: Path, right: str, wrong: str, line: str
) -> None:
    text = Path("inventories/lab").read_text()
    declared = text.replace(right, wrong)
    assert declared != text
    inventory = tmp_path / "lab"
    inventory.write_text(declared)

    command = [part.replace("inventories/lab", str(inventory)) for part in command_of("lab")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert line in said
    assert "Traceback" not in said
    assert "Packages |" not in said
