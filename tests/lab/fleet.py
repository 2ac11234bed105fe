"""The running lab, for tests: find it, kill, cut and enter its machines, wait for what must come true."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.lab import machine, network, processes, ssh, state
from tests.lab.host import LabError, locked, replace_text, run
from tests.lab.state import Lab

__all__ = [
    "Lab",
    "Seen",
    "cut",
    "heal",
    "kill",
    "listens",
    "load",
    "replace",
    "require_lab",
    "see",
    "shell",
    "start",
    "wait_for",
    "wait_until",
]

SSH_PORT = 22
# A machine that was just switched on is not yet a systemd-nspawn.
SECONDS_TO_APPEAR = 5
KILLED = "killed-on-purpose"


@dataclass(frozen=True)
class Seen:
    """A machine as it is now: running, booting, cut or dead."""

    name: str
    address: str
    state: str
    up_seconds: float


def load() -> Lab:
    """The lab of this clone, running or not."""
    name = state.name_here()
    lab = state.here()
    if lab and lab.name == name:
        return lab
    file = state.root() / name / "lab.json"
    if not file.exists():
        raise LabError(f"lab {name} = not there; this needs one; make lab")
    return state.read(file)


def require_lab() -> Lab:
    """The running lab; without its bridge a packet to a machine would leave by this computer's uplink."""
    lab = load()
    if not network.exists(lab.bridge):
        raise LabError(f"lab {lab.name} = not running, its bridge {lab.bridge} is absent; this needs it; make lab")
    addresses = json.loads(run("ip", "-4", "-json", "address", "show", "dev", lab.bridge))
    if not any(entry["local"] == lab.gateway for link in addresses for entry in link.get("addr_info", [])):
        raise LabError(f"lab {lab.name} = its bridge has lost {lab.gateway}; this needs it; make lab")
    return lab


def require_machine(lab: Lab, name: str) -> None:
    if name not in lab.machines:
        raise LabError(
            f"{name} = not in lab {lab.name}; one of {', '.join(lab.machines)} is needed; "
            f"python3 -m tests.lab up {name}"
        )


def see(lab: Lab, name: str) -> Seen:
    boot = machine.running(lab, name)
    if boot is None:
        word, age = "dead", 0.0
    elif network.is_cut(lab.tag, name):
        word, age = "cut", boot.age
    else:
        word, age = ("running" if processes.listens(boot, SSH_PORT) else "booting"), boot.age
    return Seen(name, lab.machines[name], word, round(age, 1))


def listens(lab: Lab, name: str, port: int = SSH_PORT) -> bool:
    """Whether a machine listens on a port, asked from its kernel."""
    boot = machine.running(lab, name)
    return boot is not None and processes.listens(boot, port)


def kill(lab: Lab, name: str) -> None:
    """Pull a machine's plug."""
    require_machine(lab, name)
    (lab.folder / KILLED).touch()
    machine.kill(lab, name)


def start(lab: Lab, name: str, seconds: float = 60) -> None:
    """Switch a machine on with the disk it had, and return when it answers SSH."""
    require_lab()
    require_machine(lab, name)
    with locked(f"lab.{lab.name}.{name}", wait=True):
        if machine.disk(lab, name) is None:
            raise LabError(f"{name} = its disk is not whole; a rebuilt one is needed; make lab-down && make lab")
        if machine.running(lab, name) is None:
            machine.kill(lab, name)
            machine.boot(lab, name)
    wait_until(lambda: listens(lab, name), seconds, f"{name} listens for SSH")


def replace(lab: Lab, name: str, seconds: float = 120) -> None:
    """Put a new machine with an empty disk in the place of one: same name and address, new keys, nothing installed."""
    require_lab()
    require_machine(lab, name)
    with locked(f"lab.{lab.name}.{name}", wait=True):
        old = machine.disk(lab, name)
        if old is None:
            raise LabError(f"{name} = its disk is not whole; what it stood on is not known; make lab-down && make lab")
        machine.kill(lab, name)
        machine.create_disk(lab, name, old.base, old.layer)
        # Its former key is nobody's now; who knows the fleet's keys learns the new one, as from its rack label.
        present = {each: address for each, address in lab.machines.items() if machine.disk(lab, each)}
        keys = {each: machine.host_key(lab, each) for each in present}
        replace_text(lab.known_hosts, ssh.known_hosts(present, keys))
        machine.boot(lab, name)
    wait_for(lab, [name], seconds)


def cut(
    lab: Lab,
    name: str,
    away_from: Sequence[str] = (),
    *,
    cable: bool = False,
    ports: Sequence[int] = (),
    way: network.Way = "both",
) -> None:
    """
    Take a machine off the network, or only apart from some others; its link stays up unless ``cable`` is pulled.

    ``ports`` and ``way`` narrow a cut from others: to what they speak on these TCP ports, to one direction.
    """
    for each in (name, *away_from):
        require_machine(lab, each)
    if (ports or way != "both") and not away_from:
        raise LabError(f"{name} = cut from nobody by name; ports and directions need names; away_from=[...]")
    network.cut(lab.tag, name, away_from, cable=cable, ports=ports, way=way)


def heal(lab: Lab, name: str) -> None:
    require_machine(lab, name)
    network.heal(lab.tag, name)


def shell(lab: Lab, name: str, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command as root inside a machine, past its network and its SSH."""
    require_machine(lab, name)
    words = machine.shell(lab, name, list(command))
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)


def wait_for(lab: Lab, names: Sequence[str], seconds: float = 120) -> None:
    """Return when these machines have booted to the end and answer SSH."""
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(len(names) or 1) as pool:
        list(pool.map(lambda name: _wait_for_one(lab, name, deadline), names))


def _wait_for_one(lab: Lab, name: str, deadline: float) -> None:
    began = time.monotonic()

    def booted() -> bool:
        boot = machine.running(lab, name)
        if boot is None and time.monotonic() - began < SECONDS_TO_APPEAR:
            return False
        if boot is None:
            raise LabError(
                f"{name} = ended while booting; its last words may tell; tail {lab.disk(name) / 'console.log'}"
            )
        return processes.listens(boot, SSH_PORT)

    wait_until(booted, max(1, deadline - time.monotonic()), f"{name} listens for SSH")
    done = shell(lab, name, "systemctl", "is-system-running", "--wait", seconds=max(1, deadline - time.monotonic()))
    if done.stdout.strip() not in {"running", "degraded"}:
        word = done.stdout.strip() or done.stderr.strip()
        raise LabError(f"{name} = {word}; a booted system is needed; python3 -m tests.lab shell {name}")


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.2) -> float:
    """Return the seconds until the condition came true; the wait is bounded and its error says what was awaited."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise LabError(f"{what} = not so within {seconds:.0f} s; look at the machines; python3 -m tests.lab list")
        time.sleep(every)
    return time.monotonic() - started
