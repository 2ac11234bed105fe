"""Archives: pushed once over SSH, checked on the machine, unpacked beside the old one, taken into use in one step."""

import hashlib
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.exceptions import OperationError

from inventories.settings import Machine, Ssh
from tasks.operations import Commands, call
from tasks.ssh import command

KEPT = 3


class Unpacked(FactBase[set[str]]):
    """Which releases lie whole in a folder, and ``current …`` for the one in use."""

    @staticmethod
    def default() -> set[str]:
        """None."""
        return set()

    def command(self, folder: str) -> str:
        """A release is whole when its mark is there, which is written last."""
        return (
            f"cd {folder}/releases 2>/dev/null && "
            "for mark in */.whole; do test -e $mark && echo ${mark%/.whole}; done; "
            f'echo "current $(basename "$(readlink {folder}/current)")"; true'
        )

    def process(self, output: Iterable[str]) -> set[str]:
        """A line each."""
        return set(output)


@operation()
def unpacked(
    folder: str, release: str, archive: Callable[[], Path], ssh: Ssh, machine: Machine, after: str = "true"
) -> Commands:
    """
    Unpack an archive into ``folder/releases/<release>`` and point ``folder/current`` at it.

    + folder: as in /opt/rag
    + release: names the archive's content
    + archive: makes it on the controller when a machine lacks it, and says where it lies
    + ssh, machine: how to reach the machine; OpenSSH moves big files several times faster than pyinfra
    + after: shell line, run in the new folder before it is taken into use
    """
    found = host.get_fact(Unpacked, folder=folder)
    if release not in found:
        yield call(_push_archive, folder, release, archive, ssh, machine, after)
    if f"current {release}" not in found:
        yield StringCommand(
            f"ln -sfn releases/{release} {folder}/current.new && mv -T {folder}/current.new {folder}/current"
        )
    if release in found and f"current {release}" in found:
        host.noop(f"{folder} is at {release}")
        return
    # Old releases stay for a quick way back, but not all of them.
    yield StringCommand(f"cd {folder}/releases && ls -1t | grep -v -e {release} | tail -n +{KEPT} | xargs -r rm -rf --")


def _push_archive(
    folder: str, release: str, archive: Callable[[], Path], ssh: Ssh, machine: Machine, after: str
) -> None:
    path = archive()
    target, part = f"{folder}/releases/{release}", f"{folder}/releases/.{release}"
    script = (
        f"set -e; umask 022; rm -rf {part}; mkdir -p {part}; cd {part}; trap 'rm -rf {part}' EXIT; "
        f"cat > archive; echo '{sha256_of(path)}  archive' | sha256sum --check --quiet; "
        f"tar --extract --zstd --no-same-owner --file archive; rm archive; {after}; touch .whole; "
        f"rm -rf {target}; mv -T {part} {target}"
    )
    stream(["cat", str(path)], script, ssh, machine)


@cache
def sha256_of(path: Path) -> str:
    """The checksum of a file that stays as it is; a big one is read once in a run."""
    return checksum(path)


def checksum(path: Path) -> str:
    """The checksum of a file as it is now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream(source: list[str], script: str, ssh: Ssh, machine: Machine) -> None:
    """Pipe a command's output on the controller into a root shell script on the machine."""
    remote = command(ssh, machine, script)
    with subprocess.Popen(source, stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None  # noqa: S101 - it is a pipe, for the type checker
        with subprocess.Popen(remote, stdin=reading.stdout, stderr=subprocess.PIPE, text=True) as writing:
            # Only the writer holds the pipe now: when it ends early, the reader ends too instead of waiting.
            reading.stdout.close()
            said = writing.communicate()[1]
    if writing.returncode or reading.returncode:
        reason = " ".join(said.split())[-300:]
        raise OperationError(f"push to {machine.name} = not done; {reason}; run the deploy again")
