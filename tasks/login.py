"""A second login: the proof that a change of SSH or of the firewall has not locked the controller out."""

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import OperationError

from inventories.connection import MachineConnector


def log_in_anew() -> None:
    """Open a second connection as the deploy user; raise when it does not open or sudo asks for a password."""
    connector = MachineConnector(host.state, host)
    connector.second = True
    connector.connect()
    try:
        well, output = connector.run_shell_command(StringCommand("true"), _sudo=True)
        if not well:
            raise OperationError(
                f"sudo on {host.name} = {output.stderr}; the deploy user needs it without password; sudo -l"
            )
    finally:
        connector.disconnect()
