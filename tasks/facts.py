"""What a machine is, asked in one round trip for all the wants of a service."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from tasks.wants import Wants


@dataclass
class Found:
    """What the machine answered: only things that exist are listed."""

    users: dict[str, set[str]] = field(default_factory=dict)
    """User to groups."""
    marks: dict[str, str] = field(default_factory=dict)
    """Path of a file to ``sha256 mode owner group``, of a directory to ``mode owner group``."""
    units: dict[str, set[str]] = field(default_factory=dict)
    """Unit to the words ``active``, ``enabled``, ``stale``, ``reload``, as far as they hold."""
    answers: bool = False


class MachineState(FactBase[Found]):
    """Users, files, directories, units and the health check that a service names."""

    @staticmethod
    def default() -> Found:
        """Nothing is there."""
        return Found()

    def command(self, wants: Wants) -> str:
        """One shell script; each part tells its lines apart by the first word."""
        return "\n".join([*_users(wants), *_files(wants), *_units(wants), *_check(wants), "true"])

    def process(self, output: Iterable[str]) -> Found:
        """Read the lines back."""
        found = Found()
        sums: dict[str, str] = {}
        for line in output:
            kind, _, rest = line.partition(" ")
            if kind == "user":
                name, *groups = rest.split()
                found.users[name] = set(groups)
            elif kind == "sum":
                digest, path = rest.split("  ", 1)
                sums[path] = digest
            elif kind == "stat":
                rights, path = rest.split("\t", 1)
                found.marks[path] = rights
            elif kind == "unit":
                name, *words = rest.split()
                found.units[name] = set(words)
            elif kind == "answers":
                found.answers = True
        for path, digest in sums.items():
            found.marks[path] = f"{digest} {found.marks.get(path, '')}"
        return found


def quoted(words: Iterable[str]) -> str:
    """The words for a shell line."""
    return " ".join(map(shlex.quote, words))


def _users(wants: Wants) -> list[str]:
    return (
        [
            f"for u in {quoted([user.name for user in wants.users])}; do "
            'g=$(id -Gn "$u" 2>/dev/null) && echo "user $u $g"; done'
        ]
        if wants.users
        else []
    )


def _files(wants: Wants) -> list[str]:
    files = [file.path for file in wants.files]
    paths = files + [directory.path for directory in wants.directories] + list(wants.absent)
    if not paths:
        return []
    sums = [f"sha256sum -- {quoted(files)} 2>/dev/null | sed 's/^/sum /'"] if files else []
    return [*sums, f"stat -c 'stat %a %U %G\t%n' -- {quoted(paths)} 2>/dev/null"]


def _units(wants: Wants) -> list[str]:
    # The time of the state change moves with a reload too; the process' own start moves with a restart alone.
    # ctime, because a file may arrive with an old mtime or get new rights only.
    ask = (
        'unit() { u=$1; p=$2; shift 2; w=""; '
        # A unit whose own condition holds it back, as chrony in a container, is as well as it can be.
        's=$(systemctl show -P ActiveState -P ConditionResult -P ConditionTimestampMonotonic "$u" | paste -sd" "); '
        'case $s in active*|inactive\ no\ [1-9]*) w="$w active";; esac; '
        'systemctl is-enabled --quiet "$u" 2>/dev/null && w="$w enabled"; '
        'test "$(systemctl show -P NeedDaemonReload "$u")" = yes && w="$w reload"; '
        't=$(systemctl show -P "$p" --timestamp=us+utc "$u"); '
        'test -n "$t" && test -n "$(find "$@" -newerct "$t" -print -quit 2>/dev/null)" && w="$w stale"; '
        'echo "unit $u$w"; }'
    )
    calls = [
        f"unit {unit.name} {'StateChangeTimestamp' if unit.reloads else 'ExecMainStartTimestamp'} "
        f"{quoted(unit.reads) or '/nonexistent'}"
        for unit in wants.units
    ]
    return [ask, *calls] if calls else []


def _check(wants: Wants) -> list[str]:
    return (
        [f"timeout 10 sh -c {shlex.quote(wants.check.command)} >/dev/null 2>&1 && echo answers"] if wants.check else []
    )
