"""SSH: a deploy user with a key, no root and no passwords; who could no longer get in gets the old files back."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.api.exceptions import OperationError, PyinfraError

from inventories.connection import MachineConnector
from inventories.settings import Ssh
from tasks.facts import Found, MachineState, quoted
from tasks.login import log_in_anew
from tasks.operations import Commands, call, ensure, put, stale_files
from tasks.wants import Directory, File, Unit, User, Wants, rendered

SSHD = "/etc/ssh/sshd_config.d/10-rag.conf"
OLD = "/run/rag-access"
# The pause: a login in the moment before sshd heard of it would be one under the old settings.
TAKE_IN = "sshd -t && systemctl enable --quiet ssh.service && systemctl reload-or-restart ssh.service && sleep 0.5"


@deploy("Access")
def access(settings: Ssh) -> None:
    """Root logs in for the last time here; the deploy user's login is tried before root's is closed."""
    home, user = f"/home/{settings.user}", settings.user
    ensure(
        name="Have the deploy user",
        users=[User(user, home, "/bin/bash")],
        directories=[Directory(f"{home}/.ssh", "700", user, user)],
    )

    keys = "".join(f"{key}\n" for key in settings.authorized_keys)
    proven(
        name="Let the deploy user in",
        files=[
            File(f"{home}/.ssh/authorized_keys", keys.encode(), "600", user, user),
            File(f"/etc/sudoers.d/{user}", f"{user} ALL=(ALL:ALL) NOPASSWD: ALL\n".encode(), "440"),
        ],
    )

    proven(
        name="Close SSH to root and to passwords",
        files=[File(SSHD, rendered("access/sshd.conf.j2", ssh=settings))],
        unit=Unit("ssh.service", reloads=(SSHD,)),
    )


@operation()
def proven(files: Iterable[File], unit: Unit | None = None) -> Commands:
    """
    Lay files down that decide who gets in, and keep them only when a new connection gets in under them.

    + files: as they shall be
    + unit: takes them in by a reload
    """
    wants = Wants(files=tuple(files), units=(unit,) if unit else ())
    found: Found = host.get_fact(MachineState, wants=wants)
    stale = stale_files(wants, found)
    words = found.units.get(unit.name, set()) if unit else {"active", "enabled"}
    if not stale and words >= {"active", "enabled"} and "changed" not in words and not _as_somebody_else():
        host.noop("the deploy user gets in")
        return
    paths = [file.path for file in stale]
    yield StringCommand(f"rm -rf {OLD} && mkdir -m 700 {OLD}; cp -a --parents {quoted(paths)} {OLD} 2>/dev/null; true")
    yield from put(stale)
    yield call(_prove, paths, unit)


def _as_somebody_else() -> bool:
    # The run itself proves that the deploy user gets in, unless it is root's.
    return isinstance(host.connector, MachineConnector) and bool(host.connector.user)


def _prove(paths: list[str], unit: Unit | None) -> None:
    try:
        if unit:
            _as_root(TAKE_IN)
        log_in_anew()
    except PyinfraError as refused:
        # The connection that is still open is the last way in.
        back = [f"rm -f {path}; cp -a {OLD}{path} {path} 2>/dev/null" for path in quoted(paths).split()]
        _as_root("; ".join([*back, TAKE_IN if unit else "true"]))
        reason = " ".join(str(refused).split())
        raise OperationError(
            f"a new login on {host.name} = {reason}; under the new {' and '.join(paths) or 'settings'} the controller "
            "must get in, so the old are back; put the controller's own key into ssh.authorized_keys"
        ) from None


def _as_root(line: str) -> None:
    well, output = host.run_shell_command(StringCommand(line), _sudo=True)
    if not well:
        raise OperationError(" ".join(output.stderr_lines[-3:]))
