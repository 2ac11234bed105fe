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
    """Unit to the words ``active``, ``enabled``, ``stale``, ``changed``, ``reload``, as far as they hold."""
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


# One question for all units; the shell's own words do the rest, because eight machines on two cores feel every process.
# The time of the state change moves with a reload too; the process' own start moves with a restart alone.
# A unit whose own condition holds it back, as chrony in a container, is as well as it can be, and never stale: it may
# have run before its condition came.
# ctime, because a file may arrive with an old mtime or get new rights only.
ASK_UNITS = """
found() {
    w=""
    case "$active $condition" in
        active*) w="$w active";;
        "inactive no "[1-9]*) w="$w active"; started=""; changed="";;
    esac
    case $enabled in enabled*|static|generated|alias|indirect) w="$w enabled";; esac
    test "$reload" = yes && w="$w reload"
    for want in $wants; do
        case $want in $id=*) paths=$(echo "${want#*=}" | tr , ' ');; *) continue;; esac
        since=$started; word=stale; case $paths in changed*) since=$changed; word=changed;; esac
        test -n "$since" && test -n "$(find ${paths#*:} -newerct "$since" -print -quit 2>/dev/null)" && w="$w $word"
    done
    echo "unit $id$w"
}
ask() {
    systemctl show --timestamp=us+utc --property=Id,ActiveState,UnitFileState,NeedDaemonReload,ConditionResult,\
ConditionTimestampMonotonic,StateChangeTimestamp,ExecMainStartTimestamp "$@" | {
        while IFS== read -r key value; do
            case $key in
                Id) id=$value;;
                ActiveState) active=$value;;
                UnitFileState) enabled=$value;;
                NeedDaemonReload) reload=$value;;
                ConditionResult) result=$value;;
                ConditionTimestampMonotonic) condition="$result $value";;
                StateChangeTimestamp) changed=$value;;
                ExecMainStartTimestamp) started=$value;;
                "") found; id=""; started=""; changed="";;
            esac
        done
        test -n "$id" && found
    }
}
"""


def _units(wants: Wants) -> list[str]:
    if not wants.units:
        return []
    # Paths are our own, without blanks or commas.
    reads = [
        f"{unit.name}={since}:{','.join(paths)}"
        for unit in wants.units
        for since, paths in (("started", unit.reads), ("changed", unit.reloads))
        if paths
    ]
    return [ASK_UNITS, f"wants={shlex.quote(' '.join(reads))}", f"ask {quoted(unit.name for unit in wants.units)}"]


def _check(wants: Wants) -> list[str]:
    return (
        [f"timeout 10 sh -c {shlex.quote(wants.check.command)} >/dev/null 2>&1 && echo answers"] if wants.check else []
    )
