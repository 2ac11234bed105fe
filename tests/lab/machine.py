"""One machine: its disk over the shared base, its first boot, its end."""

import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import base, debs, network, processes, sources, ssh
from tests.lab.host import LabError, run, succeeds
from tests.lab.mounts import mount_overlay, mounted_below, unmount
from tests.lab.state import Lab

INTERFACE = (
    "etc/systemd/network/10-host0.network"  # sorts before 80-container-host0, which would take a link-local address
)
# A new one per command, so that nothing of the caller's leaks into a machine.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True)
class Disk:
    """What a machine's disk stands on; written when the disk is complete."""

    base: str
    layer: str | None


def name_in_kernel(lab: Lab, machine: str) -> str:
    return f"{lab.tag}-{machine}"


def unit(lab: Lab, machine: str) -> str:
    return f"rag-lab-{lab.tag}-{machine}.service"


def cgroup(lab: Lab, machine: str) -> Path | None:
    root = processes.cgroup_root()
    return root / "rag-lab" / lab.tag / machine if root else None


def read_disk(folder: Path) -> Disk | None:
    try:
        return Disk(**json.loads((folder / "disk.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def disk(lab: Lab, machine: str) -> Disk | None:
    """A machine's complete disk, if it has one and everything under it is still there."""
    found = read_disk(lab.disk(machine))
    return found if found and all(path.is_dir() for path in _lower(found)) else None


def _lower(disk: Disk) -> list[Path]:
    layers = [debs.folder(disk.layer)] if disk.layer else []
    return [*layers, base.folder(disk.base)]


def mount(lab: Lab, machine: str) -> None:
    found = disk(lab, machine)
    if found and not mounted_below(lab.disk(machine) / "root"):
        mount_overlay(_lower(found), lab.disk(machine))


def create_disk(lab: Lab, machine: str, base_name: str, layer: str | None) -> None:
    """Give a machine a new disk with its name, address, keys and way to the package mirror."""
    folder = lab.disk(machine)
    remove_disk(folder)
    new = Disk(base_name, layer)
    mount_overlay(_lower(new), folder)
    _furnish(lab, machine, folder / "root")
    # Its presence says that the disk is complete.
    (folder / "disk.json").write_text(json.dumps(asdict(new)))


def _furnish(lab: Lab, machine: str, root: Path) -> None:
    address = lab.machines[machine]
    files = {
        "etc/hostname": f"{machine}\n",
        # Left empty, it would be derived from this computer's, the same on every machine.
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{machine}\n\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "etc/resolv.conf": sources.resolver(),
        INTERFACE: f"[Match]\nName=host0\n\n[Network]\nAddress={address}/24\nGateway={lab.gateway}\n"
        "LinkLocalAddressing=ipv6\nLLDP=no\nEmitLLDP=no\n",
        "etc/apt/apt.conf.d/91lab-host": sources.carried_settings(
            sources.own_apt_settings(), dict(os.environ), lab.gateway
        ),
        "root/.ssh/authorized_keys": lab.ssh_key.with_name(f"{lab.ssh_key.name}.pub").read_text(),
    }
    for path, text in files.items():
        (root / path).parent.mkdir(mode=0o700 if ".ssh" in path else 0o755, parents=True, exist_ok=True)
        (root / path).unlink(missing_ok=True)
        (root / path).write_text(text)
    ssh.create_key(root / "etc/ssh" / ssh.HOST_KEY, f"root@{machine}")


def host_key(lab: Lab, machine: str) -> str:
    # From the disk's own layer: after a restart of this computer only the machines that are asked for are mounted.
    return (lab.disk(machine) / "upper/etc/ssh" / f"{ssh.HOST_KEY}.pub").read_text()


def boot(lab: Lab, machine: str) -> None:
    """Switch a machine on; it answers some seconds later."""
    mount(lab, machine)
    command = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={lab.disk(machine) / 'root'}",
        f"--machine={name_in_kernel(lab, machine)}",
        f"--hostname={machine}",
        f"--network-bridge={lab.bridge}",
        "--keep-unit",
        "--register=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        # As on metal, a service may shut itself in.
        "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ]
    if Path("/run/systemd/system").is_dir():
        _boot_as_unit(lab, machine, command)
    else:
        _boot_alone(lab, machine, command)


def _boot_as_unit(lab: Lab, machine: str, command: list[str]) -> None:
    """Where systemd runs, it keeps the machine in a unit and a control group of its own."""
    log = lab.disk(machine) / "console.log"
    properties = {
        "Type": "notify",
        "Delegate": "yes",
        "KillMode": "mixed",
        "TasksMax": "16384",
        "TimeoutStopSec": "20",
        "SuccessExitStatus": "133",
        "StandardInput": "null",
        "StandardOutput": f"append:{log}",
        "StandardError": f"append:{log}",
        "Environment": "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
    }
    words = [f"--property={key}={value}" for key, value in properties.items()]
    succeeds("systemctl", "reset-failed", unit(lab, machine))
    run("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit(lab, machine)}", *words, "--", *command)


def _boot_alone(lab: Lab, machine: str, command: list[str]) -> None:
    # Without a control group of its own each machine would manage the same one: their systemds
    # then see each other's processes and wait for them at every stop.
    group = cgroup(lab, machine)
    enter = 'test -z "$0" || echo $$ > "$0/cgroup.procs" || exit; exec "$@"'
    if group:
        processes.remove_cgroup(group)
        processes.make_cgroup(group)
    with (lab.disk(machine) / "console.log").open("ab") as log:
        subprocess.Popen(
            ["/bin/sh", "-c", enter, str(group or ""), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=ENVIRONMENT | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            start_new_session=True,
        )


def running(lab: Lab, machine: str) -> processes.Boot | None:
    return processes.find(lab.disk(machine))


def kill(lab: Lab, machine: str) -> None:
    """Pull the plug: every process of the machine ends at once, its disk stays as it was."""
    group = cgroup(lab, machine)
    boot = running(lab, machine)
    if boot:
        processes.end(boot)
    if group and group.is_dir():
        processes.kill_cgroup(group)
        deadline = time.monotonic() + 10
        while processes.in_cgroup(group) and time.monotonic() < deadline:
            time.sleep(0.05)
        processes.remove_cgroup(group)
    if Path("/run/systemd/system").is_dir():
        succeeds("systemctl", "stop", unit(lab, machine))
        succeeds("systemctl", "reset-failed", unit(lab, machine))
    succeeds("ip", "link", "delete", network.port(lab.tag, machine))
    ssh.forget(lab.sockets, machine)
    for folder in ("propagate", "unix-export"):
        path = Path("/run/systemd/nspawn", folder, name_in_kernel(lab, machine))
        succeeds("umount", path)
        with contextlib.suppress(OSError):
            path.rmdir()


def remove_disk(folder: Path) -> None:
    """Remove a machine's disk; the shared folders under it are never touched."""
    for point in mounted_below(folder):
        unmount(point)
    if mounted_below(folder):
        raise LabError(f"{folder} = still mounted; nothing there is removed; fuser -vm {folder / 'root'}")
    if folder.exists():
        shutil.rmtree(folder)


def shell(lab: Lab, machine: str, command: list[str]) -> list[str]:
    """The command that runs another one inside a machine, whatever its network does."""
    found = running(lab, machine)
    if found is None or found.init is None:
        raise LabError(f"{machine} = not running; a running machine is needed; python3 -m tests.lab start {machine}")
    words = [f"{key}={value}" for key, value in (ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}).items()]
    enter = ["nsenter", f"--target={found.init}", "--all"]
    return [*enter, "env", "--chdir=/", "-i", *words, *(command or ["/bin/bash", "-l"])]
