"""The lab's verbs: python3 -m tests.lab VERB; exit 0 is success, 1 failure, 2 refusal."""

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict

from tests.lab import fleet, lifecycle, machine
from tests.lab.host import LabError, RefusalError, require_root_on_linux, require_tools

ONE_MACHINE = (
    ("kill", "pull the plug of a machine"),
    ("start", "switch a machine on again"),
    ("heal", "undo every cut of a machine"),
    ("replace", "put a new machine with an empty disk in the place of one"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.lab", description="A fleet of Debian 13 machines on this computer."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="have the fleet running, or only the named machines")
    up.add_argument("machines", nargs="*", metavar="NAME")
    verbs.add_parser("down", help="end the lab and leave nothing of it")
    listing = verbs.add_parser("list", help="state, address and age of each machine")
    listing.add_argument("--json", action="store_true")
    waiting = verbs.add_parser("wait", help="wait until the machines have booted and answer SSH")
    waiting.add_argument("machines", nargs="*", metavar="NAME")
    waiting.add_argument("--seconds", type=float, default=120)
    for verb, meaning in ONE_MACHINE:
        verbs.add_parser(verb, help=meaning).add_argument("machine", metavar="NAME")
    cut = verbs.add_parser("cut", help="take a machine off the network")
    cut.add_argument("machine", metavar="NAME")
    cut.add_argument("--from", dest="peers", nargs="+", default=[], metavar="NAME", help="only apart from these")
    cut.add_argument("--port", dest="ports", nargs="+", type=int, default=[], help="only these TCP ports of the others")
    cut.add_argument(
        "--way", choices=("both", "out", "in"), default="both", help="only what it sends, or would receive"
    )
    cut.add_argument("--cable", action="store_true", help="the machine sees its link go down too")
    shell = verbs.add_parser("shell", help="enter a machine as root, past its network")
    shell.add_argument("machine", metavar="NAME")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("harvest", help="keep what the machines downloaded for the next lab")
    return parser.parse_args()


def main() -> None:
    wanted = arguments()
    require_root_on_linux()
    match wanted.verb:
        case "up":
            lifecycle.up(wanted.machines)
        case "down":
            lifecycle.down()
        case "harvest":
            lifecycle.harvest()
        case _:
            require_tools()
            on_the_lab(wanted)


def on_the_lab(wanted: argparse.Namespace) -> None:
    lab = fleet.require_lab()
    match wanted.verb:
        case "list":
            show(lab, as_json=wanted.json)
        case "wait":
            fleet.wait_for(lab, wanted.machines or list(lab.machines), wanted.seconds)
        case "kill":
            fleet.kill(lab, wanted.machine)
        case "start":
            fleet.start(lab, wanted.machine)
        case "cut":
            fleet.cut(lab, wanted.machine, wanted.peers, cable=wanted.cable, ports=wanted.ports, way=wanted.way)
        case "replace":
            fleet.replace(lab, wanted.machine)
        case "heal":
            fleet.heal(lab, wanted.machine)
        case "shell":
            fleet.require_machine(lab, wanted.machine)
            words = machine.shell(lab, wanted.machine, wanted.command)
            os.execvp(words[0], words)  # noqa: S606 - the person's terminal goes to the machine's shell


def show(lab: fleet.Lab, *, as_json: bool) -> None:
    seen = [fleet.see(lab, name) for name in lab.machines]
    if as_json:
        print(json.dumps([asdict(one) for one in seen], indent=2))
        return
    print(f"lab {lab.name} on {lab.subnet}, VIP {lab.vip}")
    for one in seen:
        print(f"{one.name:<6} {one.state:<8} {one.address:<15} {one.up_seconds:>8.0f} s")


if __name__ == "__main__":
    # Ends like any other command when who reads its list has seen enough.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main()
    except RefusalError as refusal:
        sys.exit(print(refusal, file=sys.stderr) or 2)
    except LabError as problem:
        sys.exit(print(problem, file=sys.stderr) or 1)
    except KeyboardInterrupt:
        print("lab: interrupted; the same command goes on from here, make lab-down clears it", file=sys.stderr)
        sys.exit(130)
