"""Log in as the deploy user; as root only on a machine where the deploy user does not exist yet."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paramiko import AuthenticationException
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector

if TYPE_CHECKING:
    from pyinfra.api.arguments import ConnectorArguments
    from pyinfra.api.command import StringCommand
    from pyinfra.connectors.util import CommandOutput
    from typing_extensions import Unpack


def turned_away(refused: ConnectError) -> bool:
    """Whether the machine heard who comes and did not let in; anything else may be over in a moment."""
    return isinstance(refused.__context__, AuthenticationException)


class MachineConnector(SSHConnector):
    """
    The inventory name ``@machine/db1``: SSH to db1, strict about its host key.

    A connector, because pyinfra knows one user per host, and the right one is only known when the host answers.
    """

    user = ""
    """Who is logged in when it is not the deploy user."""
    second = False
    """A second connection proves that the deploy user gets in: it never falls back to root."""

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Name the host without its prefix, so that ``--limit db1`` works."""
        yield name, {"ssh_hostname": name}, []

    def make_paramiko_kwargs(self) -> dict[str, Any]:
        """As pyinfra's, with the user that is being tried."""
        return super().make_paramiko_kwargs() | {"username": self.user or self.data["ssh_user"]}

    def _connect(self) -> None:
        try:
            super()._connect()
        except ConnectError as refused:
            site = self.host.data.get("site")
            if self.user or self.second or site is None or not turned_away(refused):
                raise
            self.user = site.ssh.first_user
            super()._connect()

    def run_shell_command(
        self,
        command: "StringCommand",
        print_output: bool = False,
        print_input: bool = False,
        **arguments: "Unpack[ConnectorArguments]",
    ) -> "tuple[bool, CommandOutput]":
        """As pyinfra's; root needs no sudo, and a bare machine may have none."""
        if self.user == "root" and not arguments.get("_sudo_user"):
            arguments["_sudo"] = False
        return super().run_shell_command(command, print_output, print_input, **arguments)
