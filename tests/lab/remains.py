"""What dead labs left on this computer: recognised by asking the kernel who lives, and cleared."""

import contextlib
import shutil
import time
from pathlib import Path

from tests.lab import debs, fleet, machine, network, plan, processes, ssh, state
from tests.lab.host import LabError, RefusalError, locked, say
from tests.lab.mounts import mounted_below, unmount


def machines_on_disk(folder: Path) -> list[str]:
    return [name for name in plan.KNOWN if (folder / name).is_dir()]


def lives(name: str) -> bool:
    """Whether any process of this lab runs, told by command lines and control groups."""
    folder = state.root() / name
    if any(processes.find(folder / machine_name) for machine_name in machines_on_disk(folder)):
        return True
    group = cgroup(plan.tag(name))
    return group is not None and bool(processes.in_cgroup(group))


def cgroup(tag: str) -> Path | None:
    root = processes.cgroup_root()
    return root / "rag-lab" / tag if root else None


def clear(name: str) -> None:
    """End a lab and remove all that it put on this computer; whatever is already gone is no error."""
    tag, folder = plan.tag(name), state.root() / name
    ssh.forget_all(Path("/run/rag-lab", tag))
    lab = state.planned(name, "10.64.0.0/24", tuple(machines_on_disk(folder)))
    for each in lab.machines:
        machine.kill(lab, each)
    _clear_cgroup(tag)
    network.remove(tag)
    for point in mounted_below(folder):
        unmount(point)
    if mounted_below(folder):
        raise LabError(f"{folder} = still mounted; nothing there is removed; fuser -vm {folder}")
    _forget_in_clone(folder)
    # Last, since it is what says that there is something to clear.
    if folder.exists():
        shutil.rmtree(folder)


def _clear_cgroup(tag: str) -> None:
    group = cgroup(tag)
    if group and group.is_dir():
        processes.kill_cgroup(group)
        processes.remove_cgroup(group)
        for parent in (group.parent, Path("/sys/fs/cgroup/systemd/rag-lab")):
            with contextlib.suppress(OSError):
                parent.rmdir()


def _forget_in_clone(folder: Path) -> None:
    """Remove the clone's own record of the lab, if it has not made another lab since."""
    with contextlib.suppress(LabError, OSError):
        lab = state.read(folder / "lab.json")
        build = lab.ssh_config.parent
        if state.read(build / "lab.json").name == lab.name:
            shutil.rmtree(build)


def clear_dead(but: str) -> None:
    """Clear the labs of which nothing lives, of whichever clone; a living one is never touched."""
    for name in state.names_on_this_computer():
        if name == but:
            continue
        if lives(name):
            _tell_if_orphaned(name)
            continue
        if _killed_lately(name):
            say(f"lab: leave lab {name} alone: its machines were killed on purpose just now")
            continue
        # Its lock is held while its own clone builds it, when it has a folder and no process yet.
        with contextlib.suppress(RefusalError), locked(f"lab.{name}"):
            if not lives(name):
                say(f"lab: clear lab {name}, of which no process lives")
                with contextlib.suppress(LabError):
                    debs.harvest(state.root() / name / each for each in machines_on_disk(state.root() / name))
                clear(name)
    known = {plan.tag(name) for name in [*state.names_on_this_computer(), but]}
    for tag in network.tags_on_this_computer() - known:
        if not any(Path("/sys/class/net").glob(f"vb-{tag}-*")):
            say(f"lab: clear bridge and rules rl-{tag}, of which no lab is left")
            network.remove(tag)


def _killed_lately(name: str) -> bool:
    """Whether its own clone pulled the plugs: it will want these disks again."""
    mark = state.root() / name / fleet.KILLED
    return mark.exists() and time.time() - mark.stat().st_mtime < 600


def _tell_if_orphaned(name: str) -> None:
    with contextlib.suppress(LabError):
        lab = state.read(state.root() / name / "lab.json")
        if not lab.clone.is_dir():
            say(
                f"lab: lab {name} runs, though its clone {lab.clone} is gone; RAG_LAB_NAME={name} make lab-down ends it"
            )
