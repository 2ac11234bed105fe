"""Make a lab and take it away; both may be interrupted anywhere and repeated."""

import contextlib
import os
from collections.abc import Sequence

from tests.lab import base, debs, fleet, machine, network, plan, remains, ssh, state
from tests.lab.host import LabError, RefusalError, locked, replace_text, require_disk, require_tools, say, step
from tests.lab.state import Lab


def up(wanted: Sequence[str]) -> Lab:
    """Have these machines running, the whole fleet when none is named; those that run are left alone."""
    names = plan.checked_machines(wanted)
    name = state.name_here()
    require_tools()
    state.root().mkdir(parents=True, exist_ok=True)
    with locked(f"lab.{name}"):
        _require_own(name)
        # One at a time: two clones must not choose the same subnet.
        with locked("computer", wait=True):
            remains.clear_dead(but=name)
            require_disk(state.root())
            lab = _lay_network(name, names)
        disk_base = base.ensure()
        with step(f"start {len(names)} machines on {lab.subnet}: {' '.join(names)}"):
            fresh = _start(lab, names, disk_base)
            fleet.wait_for(lab, names)
            ssh.prove(lab.ssh_config, fresh)
        with locked("computer", wait=True):
            _forget_unused()
    say(f"lab: {lab.name} runs; ssh -F build/lab/ssh_config {names[0]}.bare enters {names[0]} as root until a deploy")
    return lab


def _require_own(name: str) -> None:
    here = state.here()
    if here and here.name != name and (state.root() / here.name).exists():
        raise RefusalError(
            f"RAG_LAB_NAME = {name}; this clone already has lab {here.name}; RAG_LAB_NAME={here.name} make lab-down"
        )
    record = state.root() / name / "lab.json"
    if record.exists() and remains.lives(name):
        owner = state.read(record).clone
        if owner != state.CLONE:
            raise RefusalError(f"lab name = {name}; it runs for the clone {owner}; RAG_LAB_NAME={name}-2 make lab")


def _lay_network(name: str, names: tuple[str, ...]) -> Lab:
    lab = _previous(name)
    wanted = os.environ.get("RAG_LAB_SUBNET")
    taken = network.networks_in_use(plan.bridge(name)) + _subnets_of_other_labs(name)
    if lab and wanted not in (None, lab.subnet):
        raise RefusalError(f"RAG_LAB_SUBNET = {wanted}; lab {name} is on {lab.subnet}; make lab-down && make lab")
    if lab is None:
        lab = state.planned(name, plan.choose_subnet(name, taken, wanted), ())
    lab = state.with_machines(lab, names)
    state.write(lab)
    network.open_forwarding(state.root() / "ip_forward")
    network.create(name, lab.subnet)
    lab.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    return lab


def _previous(name: str) -> Lab | None:
    """This clone's lab as it was left, if it can go on; anything else of that name is cleared."""
    record = state.root() / name / "lab.json"
    if not record.parent.exists():
        return None
    try:
        lab = state.read(record)
        usable = lab.clone == state.CLONE and lab.ssh_key.is_file()
    except LabError:
        usable = False
    if usable:
        return lab
    say(f"lab: clear what is left of a former lab {name}")
    remains.clear(name)
    return None


def _subnets_of_other_labs(name: str) -> list[str]:
    records = [state.root() / other / "lab.json" for other in state.names_on_this_computer() if other != name]
    return [state.read(record).subnet for record in records if record.exists()]


def _start(lab: Lab, names: tuple[str, ...], disk_base: str) -> list[str]:
    """Boot what does not run; return the machines that got a new disk."""
    fresh: list[str] = []
    ssh.create_key(lab.ssh_key, f"rag-lab {lab.name}")
    for each in names:
        if machine.running(lab, each):
            continue
        if machine.disk(lab, each) is None:
            with locked("debs", wait=True):
                machine.create_disk(lab, each, disk_base, debs.newest())
            fresh.append(each)
        machine.mount(lab, each)
    keys = {each: machine.host_key(lab, each) for each in lab.machines if machine.disk(lab, each)}
    present = {each: address for each, address in lab.machines.items() if each in keys}
    replace_text(lab.known_hosts, ssh.known_hosts(present, keys))
    replace_text(lab.ssh_config, ssh.config(present, lab.ssh_key, lab.known_hosts, lab.sockets))
    for each in names:
        if not machine.running(lab, each):
            machine.kill(lab, each)
            machine.boot(lab, each)
    return fresh


def down() -> None:
    """End the lab and leave nothing of it; what it downloaded is kept for the next one."""
    name = state.name_here()
    require_tools()
    folder = state.root() / name
    if not folder.exists() and plan.tag(name) not in network.tags_on_this_computer():
        say(f"lab: {name} is not there")
        return
    with locked(f"lab.{name}"), step(f"take down {name}"):
        _harvest_if_possible(name)
        remains.clear(name)
        with locked("computer", wait=True):
            _forget_unused()
            if not state.names_on_this_computer():
                network.restore_forwarding(state.root() / "ip_forward")
                with contextlib.suppress(OSError):
                    state.root().rmdir()


def harvest() -> None:
    lab = fleet.load()
    with step("keep the downloaded packages"):
        count = debs.harvest(lab.disk(each) for each in lab.machines)
    say(f"lab: {count} new packages kept for the next lab")


def _harvest_if_possible(name: str) -> None:
    folder = state.root() / name
    try:
        count = debs.harvest(folder / each for each in remains.machines_on_disk(folder))
        say(f"lab: {count} new packages kept for the next lab")
    except (LabError, OSError) as problem:
        say(f"lab: the downloaded packages are not kept: {problem}")


def _forget_unused() -> None:
    """Drop bases and layers that no disk of any lab stands on, except the present ones."""
    disks = [
        disk
        for name in state.names_on_this_computer()
        for each in remains.machines_on_disk(state.root() / name)
        if (disk := machine.read_disk(state.root() / name / each))
    ]
    base.forget_unused({disk.base for disk in disks} | {base.present()})
    debs.forget_unused({disk.layer for disk in disks if disk.layer})
