"""SSH: a deploy user with a key, and no root and no passwords once that user gets in."""

from pyinfra import host
from pyinfra.api import deploy, operation

from inventories.connection import MachineConnector
from inventories.settings import Ssh
from tasks.login import log_in_anew
from tasks.operations import Commands, call, ensure
from tasks.wants import Directory, File, Unit, User, rendered

SSHD = "/etc/ssh/sshd_config.d/10-rag.conf"


@deploy("Access")
def access(settings: Ssh) -> None:
    """Root logs in for the last time here; the deploy user's login is tried before root's is closed."""
    home, user = f"/home/{settings.user}", settings.user
    ensure(
        name="Let the deploy user in",
        users=[User(user, home, "/bin/bash")],
        directories=[Directory(f"{home}/.ssh", "700", user, user)],
        files=[
            File(
                f"{home}/.ssh/authorized_keys",
                "".join(f"{key}\n" for key in settings.authorized_keys).encode(),
                "600",
                user,
                user,
            ),
            File(f"/etc/sudoers.d/{user}", f"{user} ALL=(ALL:ALL) NOPASSWD: ALL\n".encode(), "440"),
        ],
    )

    deploy_user_gets_in(name="The deploy user gets in")

    ensure(
        name="Close SSH to root and to passwords",
        files=[File(SSHD, rendered("access/sshd.conf.j2", ssh=settings))],
        units=[Unit("ssh.service", reads=(SSHD,), reloads=True)],
    )


@operation()
def deploy_user_gets_in() -> Commands:
    """Log in anew as the deploy user and use sudo, unless this run is already doing so."""
    connector = host.connector
    if not isinstance(connector, MachineConnector) or not connector.user:
        host.noop("this run is the deploy user's")
        return
    yield call(log_in_anew)
