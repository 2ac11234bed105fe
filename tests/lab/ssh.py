"""Keys of the lab and its machines, and an ssh_config that knows them: ssh -F build/lab/ssh_config db1."""

import contextlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.host import run, succeeds

HOST_KEY = "ssh_host_ed25519_key"


def create_key(path: Path, comment: str) -> str:
    """Make an ed25519 key unless it is there; return its public half."""
    public = path.with_name(f"{path.name}.pub")
    if not (path.is_file() and public.is_file()):
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)
    return public.read_text()


def known_hosts(machines: dict[str, str], public_keys: dict[str, str]) -> str:
    """The real host keys, by name and by address."""
    return "".join(
        f"{machine},{address} {' '.join(public_keys[machine].split()[:2])}\n" for machine, address in machines.items()
    )


def config(machines: dict[str, str], key: Path, known: Path, sockets: Path) -> str:
    """Log in as deploy, which the deployment creates; NAME.bare logs in as root, which it closes."""
    hosts = "".join(
        f"Host {machine} {machine}.bare\n  HostName {address}\n  HostKeyAlias {machine}\n\n"
        for machine, address in machines.items()
    )
    names = " ".join(f"{machine} {machine}.bare" for machine in machines)
    return f"""# Written by tests/lab; local edits are overwritten.
Host *.bare
  User root

{hosts}Host {names}
  User deploy
  IdentityFile "{key}"
  IdentitiesOnly yes
  UserKnownHostsFile "{known}"
  StrictHostKeyChecking yes
  PasswordAuthentication no
  ConnectTimeout 10
  # A machine that was killed must not hold its caller.
  ServerAliveInterval 5
  ServerAliveCountMax 3
  ControlMaster auto
  ControlPersist 60
  ControlPath {sockets}/%n-%r
"""


def prove(config: Path, machines: Sequence[str]) -> None:
    """Log in to bare machines as root, which proves their keys and their network."""
    with ThreadPoolExecutor(len(machines) or 1) as pool:
        list(
            pool.map(
                lambda machine: run("ssh", "-F", config, "-o", "ControlPath=none", f"{machine}.bare", "true"), machines
            )
        )


def forget(sockets: Path, machine: str) -> None:
    """End the shared connections to a machine, which would hold the next caller once it is gone."""
    for socket in [*sockets.glob(f"{machine}-*"), *sockets.glob(f"{machine}.bare-*")]:
        succeeds("ssh", "-O", "exit", "-o", f"ControlPath={socket}", machine)
        socket.unlink(missing_ok=True)


def forget_all(sockets: Path) -> None:
    for socket in sockets.glob("*"):
        succeeds("ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any")
    shutil.rmtree(sockets, ignore_errors=True)
    with contextlib.suppress(OSError):
        sockets.parent.rmdir()
