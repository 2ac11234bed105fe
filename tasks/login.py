"""A second login: the proof that a change of SSH or of the firewall has not locked the controller out."""

import time

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import ConnectError, OperationError

from inventories.connection import MachineConnector, turned_away


def log_in_anew() -> None:
    """Open a second connection as the deploy user; raise when it does not open or sudo asks for a password."""
    connector = MachineConnector(host.state, host)
    connector.second = True
    _connect(connector)
    try:
        well, output = connector.run_shell_command(StringCommand("true"), _sudo=True)
        if not well:
            raise OperationError(
                f"sudo on {host.name} = {output.stderr}; the deploy user needs it without password; sudo -l"
            )
    finally:
        connector.disconnect()


def _connect(connector: MachineConnector) -> None:
    # sshd takes new settings in by starting itself anew, and for a moment nobody listens.
    end = time.monotonic() + 5
    while True:
        try:
            connector.connect()
        except ConnectError as refused:
            if turned_away(refused) or time.monotonic() > end:
                raise
            time.sleep(0.3)
        else:
            return
