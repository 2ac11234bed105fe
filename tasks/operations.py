"""The few operations that pyinfra lacks: many wants, one question, and only the difference is done."""

import base64
import hashlib
import io
import shlex
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from gevent.lock import BoundedSemaphore
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.exceptions import OperationError, PyinfraError

from inventories.settings import Machine
from tasks.facts import Found, MachineState, quoted
from tasks.wants import Check, Directory, File, Unit, User, Wants

Commands = Generator[StringCommand | FunctionCommand]

PROGRESS_SECONDS = 20
"""How often a deploy that waits for a busy machine says how far that is."""


def call(function: Callable[..., None], *arguments: object) -> FunctionCommand:
    """A function of the controller as a command: what it refuses is one red line, and the machine has failed."""
    return FunctionCommand(_in_one_line, (function, arguments), {})


def _in_one_line(state: State, host: Host, function: Callable[..., None], arguments: tuple[object, ...]) -> bool:
    # pyinfra gives ``state`` and ``host`` to a function that names them, and takes its False as a failure; what such
    # a function raises it would show with a traceback, which is right for our own mistakes alone.
    try:
        function(*arguments)
    except PyinfraError as refused:
        host.log_styled(str(refused), fg="red", log_func=logger.error)
        return False
    return True


def first_of_this_run(machine: Machine, peers: Iterable[Machine]) -> bool:
    """Whether ``machine`` does what one of ``peers`` must do; `--limit` and `--exclude` leave machines out of a run."""
    present = {peer.name for peer in host.state.active_hosts if host.state.is_host_in_limit(peer)}
    return machine.name == next((peer.name for peer in peers if peer.name in present), "")


@operation()
def barrier() -> Commands:
    """Order everything above before everything below, on every machine: lines alone do not."""
    yield from ()


def _removed(paths: list[str]) -> list[StringCommand]:
    """Files go, and a unit whose file goes stops first: systemd would go on with what it has read."""
    units = quoted(Path(path).name for path in paths if Path(path).suffix in {".service", ".timer"})
    stops = [f"systemctl disable --quiet --now {units}"] if units else []
    forgets = ["systemctl daemon-reload", f"systemctl reset-failed {units} 2>/dev/null || true"] if units else []
    removes = [f"rm -rf -- {quoted(paths)}"] if paths else []
    return [StringCommand(command) for command in (*stops, *removes, *forgets)]


@operation()
def ensure(
    users: Iterable[User] = (),
    directories: Iterable[Directory] = (),
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    check: Check | None = None,
) -> Commands:
    """
    Bring one service on this machine to what is wanted; ask the machine once, change only what differs.

    + users, directories, files, absent: what shall be there, and which paths shall not
    + units: enabled, running, and started after the last change of what they read
    + check: waited for when anything was started; the deploy fails when it does not answer in time
    """
    wants = Wants(tuple(users), tuple(directories), tuple(files), tuple(absent), tuple(units), check)
    found: Found = host.get_fact(MachineState, wants=wants)
    stale = stale_files(wants, found)
    before = [*_lacking_users(wants, found), *_lacking_directories(wants, found), *put(stale)]
    before += _removed([path for path in wants.absent if path in found.marks])
    starts = [
        command for unit in wants.units for command in _start(unit, found.units.get(unit.name, set()), stale, check)
    ]
    if not (before or starts) and (check is None or found.answers):
        host.noop("everything is as wanted")
        return

    yield from before
    if any("systemd" in file.path for file in stale) or any("reload" in words for words in found.units.values()):
        yield StringCommand("systemctl daemon-reload")
    yield from starts
    if check and check.busy:
        yield call(_patiently, check, wants.units)
    elif check:
        yield StringCommand(waiting(check, wants.units))


def stale_files(wants: Wants, found: Found) -> list[File]:
    """The files that are missing or differ in content or rights."""
    return [file for file in wants.files if found.marks.get(file.path) != _mark(file)]


def _mark(file: File) -> str:
    return f"{hashlib.sha256(file.content).hexdigest()} {file.mode} {file.owner} {file.group}"


def _lacking_users(wants: Wants, found: Found) -> list[StringCommand]:
    commands = []
    for user in wants.users:
        if user.name not in found.users:
            home = f"--home-dir {user.home} {'--no-create-home' if user.home == '/nonexistent' else '--create-home'}"
            commands.append(StringCommand(f"useradd --system --user-group {home} --shell {user.shell} {user.name}"))
        if missing := sorted(set(user.groups) - found.users.get(user.name, set())):
            commands.append(StringCommand(f"usermod --append --groups {','.join(missing)} {user.name}"))
    return commands


def _lacking_directories(wants: Wants, found: Found) -> list[StringCommand]:
    return [
        StringCommand(f"install -d -m {entry.mode} -o {entry.owner} -g {entry.group} {shlex.quote(entry.path)}")
        for entry in wants.directories
        if found.marks.get(entry.path) != entry.mark
    ]


def put(files: list[File]) -> list[StringCommand]:
    """
    Commands that lay the files down with their rights.

    They travel on the command's standard input: no argument list, log or folder for temporary files sees them.
    Owners go by name on the machine; times are the machine's, so that units see what changed.
    """
    if not files:
        return []
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode = len(file.content), int(file.mode, 8)
            entry.uname, entry.gname = file.owner, file.group
            tar.addfile(entry, io.BytesIO(file.content))
    text = base64.encodebytes(packed.getvalue()).decode()
    return [
        StringCommand(
            "umask 022; base64 -d | tar --extract --touch --preserve-permissions --same-owner -C /", _stdin=text
        )
    ]


def _start(unit: Unit, words: set[str], stale: list[File], check: Check | None) -> Commands:
    if "enabled" not in words:
        yield StringCommand(f"systemctl enable --quiet {unit.name}")
    if "active" not in words:
        yield StringCommand(f"systemctl restart {unit.name} || {_blame(unit)}")
        return
    changed = {path for file in stale for path in (*unit.reads, *unit.reloads) if file.path.startswith(path)}
    if "stale" in words or changed.intersection(unit.reads):
        verb = "restart"
    elif "changed" in words or changed:
        verb = "reload"
    else:
        return
    if unit.in_turn:
        yield call(_in_turn, unit, verb, check)
    else:
        yield StringCommand(f"systemctl {verb} {unit.name} || {_blame(unit)}")


def _blame(unit: Unit) -> str:
    return f"{{ journalctl --no-pager -u {unit.name} -n 15 >&2; exit 1; }}"


def waiting(check: Check, units: tuple[Unit, ...] = (), seconds: int | None = None) -> str:
    """
    A shell line that waits for the check and says at the end what did not answer and where to read on.

    + seconds: give up earlier than the check says, for a caller who waits on
    """
    read = " ".join(f"-u {unit.name}" for unit in units) or "-e"
    ask = f"timeout 10 sh -c {shlex.quote(check.command)}"
    return (
        f"end=$(( $(date +%s) + {check.seconds if seconds is None else seconds} )); until {ask} >/dev/null 2>&1; do "
        f"if [ $(date +%s) -ge $end ]; then {ask} >&2; "
        f"echo {shlex.quote(f'no answer in {check.seconds} s: {check.command}; read: journalctl {read} -n 50')} >&2; "
        f"journalctl --no-pager {read} -n 15 >&2; exit 1; fi; sleep 0.3; done"
    )


def _patiently(check: Check, units: tuple[Unit, ...]) -> None:
    """Wait for the check, and for as long as the machine is busy with what it must do first; tell how far it is."""
    deadline = time.monotonic() + check.seconds
    while True:
        round_ = min(PROGRESS_SECONDS, check.seconds)
        well, said = host.run_shell_command(StringCommand(waiting(check, units, round_)), _sudo=True)
        if well:
            return
        busy, doing = host.run_shell_command(StringCommand(check.busy), _sudo=True)
        if busy:
            deadline = time.monotonic() + check.seconds
            host.log_styled(" ".join(doing.stdout_lines), fg="yellow", log_func=logger.info)
        elif time.monotonic() > deadline:
            raise OperationError(f"{host.name}: {' '.join(said.stderr_lines[-3:])}")


_turns: dict[str, BoundedSemaphore] = defaultdict(lambda: BoundedSemaphore(1))
_broken: dict[str, str] = {}


def _in_turn(unit: Unit, verb: str, check: Check | None) -> None:
    # All machines of an operation run at once, so the turn is taken here, in the controller's memory.
    with _turns[unit.name]:
        if unit.name in _broken:
            raise OperationError(
                f"{unit.name} = not restarted; it did not come back on {_broken[unit.name]}; mend that first"
            )
        line = f"systemctl {verb} {unit.name}" + (f" && {{ {waiting(check, (unit,))}; }}" if check else "")
        well, output = host.run_shell_command(StringCommand(line), _sudo=True)
        if not well:
            _broken[unit.name] = host.name
            raise OperationError(f"{unit.name} on {host.name}: {' '.join(output.stderr_lines[-3:])}")
