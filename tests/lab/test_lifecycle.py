"""The lab survives what happens to it; runs beside any other lab here, as root, in about a minute."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from tests.lab import network, plan, processes, remains, state
from tests.lab.fleet import wait_until
from tests.lab.mounts import unmount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="user = not root; the lab needs root; sudo make test")
STATE = state.root()


class Clone:
    """A checkout with a lab of its own; its folder is all that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copytree(Path(__file__).parent, folder / "tests/lab")
        self.name = plan.lab_name(folder.resolve())
        self.tag = plan.tag(self.name)

    def type(self, *verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.begin(*verb, **environment) as running:
            output, _ = running.communicate(timeout=600)
        return subprocess.CompletedProcess(verb, running.returncode, output)

    def begin(self, *verb: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.lab", *verb],
            cwd=self.folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *machines: str) -> str:
        done = self.type("up", *machines)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def enter(self, machine: str, command: str) -> str:
        words = ["ssh", "-F", "build/lab/ssh_config", f"{machine}.bare", command]
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True, timeout=30).stdout

    def states(self) -> dict[str, str]:
        return {seen["name"]: seen["state"] for seen in json.loads(self.type("list", "--json").stdout)}

    def processes(self) -> list[int]:
        disks = [STATE / self.name / machine for machine in plan.KNOWN]
        boots = [boot for disk in disks if disk.is_dir() and (boot := processes.find(disk))]
        return [pid for boot in boots for pid in (boot.init, boot.nspawn) if pid]

    def end_all_processes(self) -> None:
        """As a computer's job runner does: without a word to the lab."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        # What runs in a machine goes after its first process, and not before the disk has answered it.
        wait_until(lambda: not remains.lives(self.name), 60, "every process ended")

    def traces(self) -> list[str]:
        """Whatever this lab has on this computer."""
        groups = [
            path
            for root in (processes.cgroup_root(), Path("/sys/fs/cgroup/systemd"))
            if root
            for path in (root / "rag-lab" / self.tag,)
        ]
        paths = [STATE / self.name, Path("/run/rag-lab", self.tag), self.folder / "build/lab", *groups]
        paths += Path("/run/systemd/nspawn").glob(f"*/{self.tag}-*")
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if self.name in line]
        links = [link.name for link in Path("/sys/class/net").iterdir() if self.tag in link.name]
        tables = [self.tag] if self.tag in network.tags_on_this_computer() else []
        return [str(path) for path in paths if path.exists()] + mounts + links + tables


@pytest.fixture
def clones(tmp_path: Path) -> Iterator[list[Clone]]:
    made = [Clone(tmp_path / "one"), Clone(tmp_path / "two")]
    yield made
    for clone in made:
        if clone.folder.exists():
            clone.type("down")


@pytest.fixture
def clone(clones: list[Clone]) -> Clone:
    return clones[0]


def test_a_lab_leaves_nothing_behind(clone: Clone) -> None:
    clone.up("db1", "app1")
    assert clone.states() == {"db1": "running", "app1": "running"}
    assert clone.enter("app1", "hostname").strip() == "app1"

    assert clone.type("down").returncode == 0

    assert clone.traces() == []


def test_a_killed_machine_comes_back_with_its_disk(clone: Clone) -> None:
    clone.up("db1", "app1")
    clone.enter("db1", "echo kept > /root/note; sync")

    clone.type("kill", "db1")
    assert clone.states() == {"db1": "dead", "app1": "running"}
    clone.type("start", "db1")

    assert clone.enter("db1", "cat /root/note").strip() == "kept"


def test_a_cut_machine_is_alone_until_healed(clone: Clone) -> None:
    clone.up("db1", "app1", "ops1")
    address = clone.enter("db1", "hostname -I").split()[0]
    # Three, since the first may wait for the address resolution that failed during the cut.
    ping = f"ping -c3 -W1 {address} >/dev/null && echo reached || echo alone"

    clone.type("cut", "db1", "--from", "app1")
    assert (clone.enter("app1", ping), clone.enter("ops1", ping)) == ("alone\n", "reached\n")
    clone.type("cut", "db1")
    assert clone.enter("ops1", ping) == "alone\n"
    assert clone.states()["db1"] == "cut"
    assert clone.type("shell", "db1", "hostname").stdout.strip() == "db1"
    clone.type("heal", "db1")

    assert (clone.enter("app1", ping), clone.enter("ops1", ping)) == ("reached\n", "reached\n")


def test_a_cut_may_be_of_one_direction_or_of_one_port(clone: Clone) -> None:
    clone.up("db1", "app1")
    address = clone.enter("db1", "hostname -I").split()[0]
    ping = f"ping -c3 -W1 {address} >/dev/null && echo reached || echo alone"
    heard = "awk '/^Icmp:/ {seen = $10} END {print seen}' /proc/net/snmp"
    knock = f"timeout 2 bash -c '</dev/tcp/{address}/22' && echo open || echo shut"
    assert clone.enter("app1", ping) == "reached\n"

    before = int(clone.enter("db1", heard))
    clone.type("cut", "db1", "--from", "app1", "--way", "out")
    assert clone.enter("app1", ping) == "alone\n"
    assert int(clone.enter("db1", heard)) > before
    clone.type("heal", "db1")
    assert clone.enter("app1", ping) == "reached\n"

    before = int(clone.enter("db1", heard))
    clone.type("cut", "db1", "--from", "app1", "--way", "in")
    assert clone.enter("app1", ping) == "alone\n"
    assert int(clone.enter("db1", heard)) == before
    clone.type("heal", "db1")

    clone.type("cut", "db1", "--from", "app1", "--port", "22")
    assert (clone.enter("app1", ping), clone.enter("app1", knock)) == ("reached\n", "shut\n")
    clone.type("heal", "db1")
    assert clone.enter("app1", knock) == "open\n"
    assert clone.type("cut", "db1", "--way", "out").returncode == 1


def test_a_replaced_machine_is_empty_and_known(clone: Clone) -> None:
    clone.up("db1", "app1")
    clone.enter("db1", "echo old > /root/note")
    address = clone.enter("db1", "hostname -I")

    assert clone.type("replace", "db1").returncode == 0

    assert clone.enter("db1", "ls /root/note 2>/dev/null; hostname -I") == address
    assert clone.states() == {"db1": "running", "app1": "running"}


def test_all_processes_killed_from_outside_then_up_goes_on_with_the_same_disks(clone: Clone) -> None:
    clone.up("db1", "app1")
    clone.enter("db1", "echo kept > /root/note")
    clone.end_all_processes()

    clone.up("db1", "app1")

    assert clone.enter("db1", "cat /root/note").strip() == "kept"


def test_after_a_restart_of_the_computer_one_machine_comes_back_alone(clone: Clone) -> None:
    clone.up("db1", "app1")
    clone.end_all_processes()
    for machine in ("db1", "app1"):
        unmount(STATE / clone.name / machine / "root")

    clone.up("db1")

    assert clone.states() == {"db1": "running", "app1": "dead"}


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1, 1.5, 2])
def test_an_interrupted_up_is_finished_by_the_next_one(clone: Clone, seconds: float) -> None:
    running = clone.begin("up", "db1", "app1")
    time.sleep(seconds)
    running.kill()
    running.communicate()

    clone.up("db1", "app1")
    assert clone.states() == {"db1": "running", "app1": "running"}
    clone.type("down")

    assert clone.traces() == []


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1, 1.5])
def test_an_interrupted_up_is_cleared_by_down(clone: Clone, seconds: float) -> None:
    running = clone.begin("up", "db1", "app1")
    time.sleep(seconds)
    running.kill()
    running.communicate()

    clone.type("down")

    assert clone.traces() == []


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1, 1.5])
def test_an_interrupted_down_is_finished_by_the_next_one(clone: Clone, seconds: float) -> None:
    clone.up("db1", "app1")
    running = clone.begin("down")
    time.sleep(seconds)
    running.kill()
    running.communicate()

    clone.type("down")

    assert clone.traces() == []


def test_two_clones_at_once_never_meet(clones: list[Clone]) -> None:
    running = [clone.begin("up", "db1", "app1") for clone in clones]
    outputs = [process.communicate(timeout=600)[0] for process in running]

    assert [process.returncode for process in running] == [0, 0], outputs
    subnets = {json.loads((clone.folder / "build/lab/lab.json").read_text())["subnet"] for clone in clones}
    assert len(subnets) == 2
    clones[0].type("down")

    assert clones[1].states() == {"db1": "running", "app1": "running"}


def test_a_second_up_at_once_is_refused_in_one_line(clone: Clone) -> None:
    first = clone.begin("up", "db1", "app1")
    time.sleep(0.5)
    second = clone.type("up", "db1")

    first.communicate(timeout=600)
    assert (first.returncode, second.returncode) == (0, 2)
    assert len(second.stdout.splitlines()) == 1


def test_remains_of_a_dead_lab_are_cleared_from_any_clone(clones: list[Clone]) -> None:
    gone, here = clones
    gone.up("db1")
    gone.end_all_processes()
    rmtree(gone.folder)
    assert gone.traces() != []

    said = here.up("db1")

    assert gone.traces() == [], said


def test_a_subnet_in_use_is_refused(clone: Clone) -> None:
    clone.up("db1")
    taken = json.loads((clone.folder / "build/lab/lab.json").read_text())["subnet"]

    done = clone.type("up", "db1", RAG_LAB_NAME="another", RAG_LAB_SUBNET=taken)

    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1


def test_a_folder_that_no_lab_made_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    photos = tmp_path / "disk/rag-lab/photos"
    photos.mkdir(parents=True)

    # On Debian 13 /tmp is in memory, where one bare machine fits.
    elsewhere = {"RAG_LAB_DIR": str(tmp_path / "disk"), "RAG_LAB_MIN_FREE_GB": "0.5"}
    assert clone.type("up", "db1", **elsewhere).returncode == 0
    clone.type("down", **elsewhere)

    assert photos.is_dir()


def test_the_verbs_refuse_without_a_lab(clone: Clone) -> None:
    done = clone.type("kill", "db1")

    assert done.returncode == 1
    assert "make lab" in done.stdout
