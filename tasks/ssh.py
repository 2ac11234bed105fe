"""Root shell scripts on a machine over OpenSSH, as the deploy user: one question, one answer, or one line."""

import shlex
import subprocess

from pyinfra.api.exceptions import PyinfraError

from inventories.settings import Machine, Site, Ssh


class AskError(PyinfraError):
    """A machine did not do what it was asked; the text is one line and holds nothing that went in on standard input."""


class SilentError(AskError):
    """A machine could not be reached at all."""


def command(ssh: Ssh, machine: Machine, script: str, shell: str = "sh") -> list[str]:
    """The words that run ``script`` as root on the machine; no host key but the known ones is accepted."""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-p", str(ssh.port)]
    options += ["-o", f"UserKnownHostsFile={ssh.known_hosts}"]
    # A machine that died must not hold its caller.
    options += ["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
    options += ["-i", str(ssh.key)] if ssh.key else []
    return ["ssh", *options, f"{ssh.user}@{machine.address}", f"sudo {shell} -c {shlex.quote(script)}"]


def ask(site: Site, machine: Machine, script: str, stdin: str = "", seconds: float = 60, what: str = "") -> str:
    """
    What a root shell script prints on the machine.

    ``what`` names the question in the error where the script is long; secrets belong on standard input alone.
    """
    asked = what or " ".join(script.split())[:80]
    try:
        done = subprocess.run(
            command(site.ssh, machine, script),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AskError(
            f"{machine.name}: {asked} = no answer in {seconds:.0f} s; look there; ssh {site.ssh.user}@{machine.address}"
        ) from None
    if done.returncode:
        # A program of ours tells its reasons as all that it tells.
        said = done.stderr.strip() or done.stdout
        lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
        said = " ".join(" ".join(lines[-3:]).split())[-300:]
        # 255 is OpenSSH's own: nobody was asked.
        kind = SilentError if done.returncode == 255 else AskError
        raise kind(f"{machine.name}: {asked} = exit {done.returncode}; {said}; ssh {site.ssh.user}@{machine.address}")
    return done.stdout.strip()
