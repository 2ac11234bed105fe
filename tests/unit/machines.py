"""This computer as the machine of a deploy: its shell runs what a deploy would run, with a systemctl of our own."""

import getpass
import grp
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyinfra.api import FactBase, FunctionCommand, StringCommand
from pyinfra.context import ctx_host

from tasks.wants import File

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name

SYSTEMCTL = r"""#!/bin/sh
# What the deploy asks of systemd, answered from files: $STATE/<unit>.<property>.
cd "$STATE" || exit 1
now() { LC_ALL=C TZ=UTC date '+%a %Y-%m-%d %H:%M:%S.%6N UTC'; }
verb=$1; shift
quiet=; wanted=; units=
for word in "$@"; do
    case $word in --property=*) wanted=${word#*=};; --quiet) quiet=yes;; -*) ;; *) units="$units $word";; esac
done
[ "$verb" = show ] || echo "$verb$units" >> log
first=yes
for unit in $units; do
    case $verb in
        show)
            [ $first ] || echo
            first=
            for name in $(echo "$wanted" | tr , ' '); do
                # A timer has no main process, and systemd leaves the line out.
                [ "$name" = ExecMainStartTimestamp ] && [ ! -e "$unit.$name" ] && continue
                value=$(cat "$unit.$name" 2>/dev/null)
                [ "$name" = Id ] && value=$unit
                echo "$name=$value"
            done;;
        enable) echo enabled > "$unit.UnitFileState";;
        restart)
            [ -e "$unit.breaks" ] && { echo "$unit breaks" >&2; exit 1; }
            echo active > "$unit.ActiveState"
            now > "$unit.ExecMainStartTimestamp"
            now > "$unit.StateChangeTimestamp";;
        reload) now > "$unit.StateChangeTimestamp";;
    esac
done
exit 0
"""


def file(path: Path, content: str, mode: str = "640") -> File:
    """A file of whoever runs the tests, since only root gives files away."""
    return File(str(path), content.encode(), mode, ME, MINE)


class Here:
    """The computer that runs the tests."""

    name = "here"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.connector: object = None
        self.state = folder / "systemd"
        tools = folder / "tools"
        for made in (self.state, tools):
            made.mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", '#!/bin/sh\necho "journal of $*"\n')):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "STATE": str(self.state)}

    def shell(self, line: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], input=stdin, env=self.environment, capture_output=True, text=True, check=False
        )

    def get_fact(self, fact: type[FactBase[Any]], _sudo: bool = False, **arguments: object) -> Any:
        asked = fact()
        done = self.shell(str(asked.command(**arguments)))
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return asked.process(lines) if lines else asked.default()

    def run_shell_command(self, command: StringCommand, **_: object) -> tuple[bool, SimpleNamespace]:
        done = self.shell(command.get_raw_value())
        return done.returncode == 0, SimpleNamespace(
            stdout_lines=done.stdout.splitlines(), stderr_lines=done.stderr.splitlines()
        )

    def log_styled(self, text: str, **_: object) -> None:
        self.said.append(text)

    def noop(self, _: str) -> None:
        """A wish that is already true."""

    def deploy(self, operation: Any, stop_before: str = "", **wants: object) -> list[str]:
        """Run an operation's commands and return them; stop as a killed deploy does, before one that begins so."""
        done = []
        with ctx_host.use(self):
            for command in operation._inner(**wants):
                if stop_before and str(command).startswith(stop_before):
                    break
                done.append(str(command))
                if isinstance(command, FunctionCommand):
                    # As pyinfra runs it: its own words for the machine, and False for a failure.
                    well = command.execute(None, self, {})  # type: ignore[arg-type]
                    assert well is not False, self.said[-1]
                    continue
                ran = self.shell(command.get_raw_value(), command.connector_arguments.get("_stdin", ""))
                assert ran.returncode == 0, ran.stderr
        return done

    def asked(self) -> list[str]:
        """What systemd was told so far, and forget it."""
        log = self.state / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def put(self, unit: str, **properties: str) -> None:
        """Give a unit these properties."""
        for name, value in properties.items():
            (self.state / f"{unit}.{name}").write_text(value)
