"""One run of restic: bounded in time, its messages parsed, and what went wrong said by kind and in one line."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.backup.metrics import BackupError

Failure = Literal["absent", "locked", "password", "partial", "corrupt", "refused", "full", "failed"]

_BY_CODE: Mapping[int, Failure] = {3: "partial", 10: "absent", 11: "locked", 12: "password"}
# Read from what restic and its servers say, in this order: a full server is no damaged repository.
_BY_WORDS: Sequence[tuple[str, Failure]] = (
    (r"\b507\b|no space left on device|disk quota exceeded|file too large", "full"),
    (r"\b40[13]\b|permission denied|access ?denied", "refused"),
    (r"(?<!host key )verification failed|contains errors|unexpected pack id|unexpected file size|is damaged|"
     r"invalid data|repository is not|blob .* not found|hash mismatch|wrong hash|failed to load index|"
     r"illegal (data|index)",
     "corrupt"),
)  # fmt: skip
_HELP: Mapping[Failure, tuple[str, str]] = {
    "absent": ("its folder as it was, or a new one", "pyinfra inventories/SITE deploy.py makes an empty one"),
    "locked": (
        "the restic that holds the lock must end",
        "systemctl start rag-maintain takes away the lock of one that was killed",
    ),
    "password": ("a key that has not been revoked", "restic key list with another key shows those there are"),
    "partial": ("every file of it must be readable", "ls -la of the folder named"),
    "corrupt": ("whole packs, from the second repository or by a repair", "restic check --read-data lists them all"),
    "refused": ("the right user and rights; servers for adding refuse to delete", "journalctl -u rag-rest -n 50"),
    "full": ("space for what is added", "df -h; systemctl start rag-maintain gives back what no snapshot names"),
    "failed": ("a repository that answers", "journalctl -n 50 of the unit shows all that restic said"),
}
# What a server elsewhere has against us is not mended by what helps here: these go before the kind's own.
_HELP_ELSEWHERE: Sequence[tuple[str, tuple[str, str]]] = (
    (
        r"bucket does not exist",
        ("a bucket that is there", "make it at that server; its user needs no right to make any"),
    ),
    (r"x509|certificate", ("a certificate of a CA that is trusted", "backup.second_repository_ca names its CA")),
    (
        r"host key verification failed",
        ("the key of backup.second_repository_host_key", "ssh-keyscan shows what it has; ask its owner which is right"),
    ),
    (
        r"permission denied \(",
        ("a user and a key that it lets in", "make keep-secret SITE=… NAME=second-repository-key; its authorized_keys"),
    ),
    (
        r"\b401\b|access ?key id|signature|no credentials",
        ("a user and a password that it knows", "make keep-secret SITE=… NAME=second-repository-environment"),
    ),
    (
        r"\b403\b|access ?denied|permission denied",
        ("rights of that user there; servers for adding refuse to delete", "the log of that server"),
    ),
)
_LONGEST = 200
OPEN_SECONDS = 60.0
"""restic asks a server that does not answer for a quarter of an hour."""


class RepositoryError(BackupError):
    """A repository did not do what it was asked; the message is one line for the operator."""

    def __init__(self, kind: Failure, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Repository:
    """Where it is, the file with a password that opens it, and what its server wants of the environment."""

    location: str
    password_file: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache: Path | None = None
    """Folder of restic's cache, worth it where reading the repository is slow; None: no cache."""
    ssh: str = ""
    """What ssh is told by restic, where it is reached over sftp."""

    @property
    def local(self) -> Path | None:
        """Its folder, when it is on this machine."""
        return Path(self.location) if self.location.startswith("/") else None

    @property
    def shown(self) -> str:
        """Its address for people to read: one may hold a password."""
        return without_password(self.location)


@dataclass(frozen=True)
class Done:
    """What restic wrote."""

    stdout: str
    messages: tuple[dict[str, Any], ...]


def failure(repository: Repository, kind: Failure, reason: str, command: str = "") -> RepositoryError:
    """The error in the house's form; ``command`` where a better one is known than the kind's own."""
    needed, usual = _HELP[kind]
    if not repository.local and kind == "locked":
        usual = "systemctl start rag-copy takes away the lock of one that was killed"
    if not repository.local and kind == "corrupt":
        needed, usual = "whole packs there, or an empty place for new copies", "docs/backup.md, A damaged repository"
    if not repository.local and kind in {"refused", "failed"}:
        found = (words for pattern, words in _HELP_ELSEWHERE if re.search(pattern, reason, re.IGNORECASE))
        needed, usual = next(found, (needed, usual))
    return RepositoryError(kind, f"repository {repository.shown} = {kind}, {reason}; {needed}; {command or usual}")


def run(
    repository: Repository,
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    seconds: float = 600,
    lock_minutes: int = 2,
    environment: Mapping[str, str] | None = None,
    origin: Repository | None = None,
    stdin: str | None = None,
) -> Done:
    """
    Run restic; raise RepositoryError for every exit code but 0, and when it has not ended after ``seconds``.

    + origin: where copies come from
    """
    command = ["restic", "--json", f"--retry-lock={lock_minutes}m"]
    command += ["--cache-dir", str(repository.cache)] if repository.cache else ["--no-cache"]
    variables = _environment(repository) | (_origin(origin) if origin else {}) | dict(environment or {})
    ssh = repository.ssh or (origin.ssh if origin else "")
    with tempfile.NamedTemporaryFile("r", prefix="ssh-", errors="replace") if ssh else io.StringIO() as told:
        # restic may end before it has read what ssh says.
        command += ["-o", f"sftp.args={ssh} -E {told.name}"] if ssh else []
        try:
            code, stdout, stderr = _ran([*command, *arguments], cwd, variables, stdin, seconds)
        except subprocess.TimeoutExpired as late:
            raise _late(repository, arguments[0], seconds, str(late.output)) from None
        # Whatever advice stands before it, the last line is the reason.
        stderr = "\n".join([*told.read().strip().splitlines()[-1:], stderr])
    messages = tuple(_messages(f"{stdout}\n{stderr}"))
    if code:
        raise _failed(repository, arguments[0], code, stderr, messages)
    return Done(stdout, messages)


def exists(repository: Repository) -> bool:
    """Whether it is there; raise RepositoryError when nobody answers or nothing of ours opens it."""
    try:
        # Past the lock of whoever cleans up there, or was killed while it did: the question needs none.
        run(repository, ["cat", "config", "--no-lock"], seconds=OPEN_SECONDS)
    except RepositoryError as error:
        if error.kind == "absent":
            return False
        raise
    return True


def refuse_silence(repository: Repository) -> None:
    """Raise RepositoryError where no server answers: asking it for one repository after the other takes minutes."""
    try:
        exists(repository)
    except RepositoryError as error:
        if error.kind == "failed":
            raise


def _ran(
    command: Sequence[str], cwd: Path | None, variables: Mapping[str, str], stdin: str | None, seconds: float
) -> tuple[int, str, str]:
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        late.output = "".join(_ended(process))
        raise
    except BaseException:
        _ended(process)
        raise
    return process.returncode, stdout, stderr


def _environment(repository: Repository) -> dict[str, str]:
    """Nothing of the caller's own but where programs are; passwords come in files, never as arguments."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {
        **kept,
        # The hours of which one snapshot stays are the same on every machine, and in every season.
        "TZ": "UTC",
        "RESTIC_REPOSITORY": repository.location,
        "RESTIC_PASSWORD_FILE": str(repository.password_file),
        "RESTIC_PROGRESS_FPS": "0.02",
        **repository.environment,
    }


def _origin(source: Repository) -> dict[str, str]:
    """Where copies come from, in the environment: an address may hold a password, and all can read arguments."""
    return {
        **source.environment,
        "RESTIC_FROM_REPOSITORY": source.location,
        "RESTIC_FROM_PASSWORD_FILE": str(source.password_file),
    }


def _ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Interrupted, restic takes its lock away; one that does not listen is killed and leaves it."""
    for sign, patience in ((signal.SIGINT, 20.0), (signal.SIGKILL, 20.0)):
        process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=patience)
    return "", ""


def _messages(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


def _late(repository: Repository, verb: str, seconds: float, said: str) -> RepositoryError:
    # restic 0.18.0 asks a full server again for a quarter of an hour.
    kind = _by_words(said)
    last = next((line for line in reversed(said.splitlines()) if "returned error" in line), "it was silent")
    last = re.sub(r"^.* returned error, retrying after [^:]*: ", "", last)
    return failure(repository, kind, f"{verb} did not end in {seconds:.0f} s, {_short(last)}")


def _failed(
    repository: Repository, verb: str, code: int, stderr: str, messages: Sequence[dict[str, Any]]
) -> RepositoryError:
    errors = [message for message in messages if message.get("message_type") == "error"]
    ends = [message for message in messages if message.get("message_type") == "exit_error"]
    last = ends[-1] if ends else {}
    plain = [line for line in stderr.splitlines() if line and not line.startswith("{")]
    reasons = [_reason(error) for error in errors] + plain[:1] + [str(last.get("message", ""))]
    reason = next((reason for reason in reasons if reason.strip()), f"{verb} ended with {code} and no word")
    kind = _BY_CODE.get(code) or _by_words(stderr)
    if kind in {"absent", "password", "locked"}:
        reason = str(last.get("message") or reason).removeprefix("Fatal: ")
    if len(errors) > 1 and kind in {"partial", "corrupt"}:
        reason = f"{len(errors)} errors, first: {reason}"
    if kind == "password":
        reason = f"{repository.password_file.name} opens none of its keys"
    return failure(repository, kind, _short(reason))


def _reason(error: Mapping[str, Any]) -> str:
    inner = error.get("error")
    said = inner.get("message", "") if isinstance(inner, dict) else error.get("message", "")
    return f"{error['item']}: {said}" if error.get("item") else str(said)


def _by_words(said: str) -> Failure:
    return next((kind for pattern, kind in _BY_WORDS if re.search(pattern, said, re.IGNORECASE)), "failed")


def _short(text: str) -> str:
    # Where it is stands before the reason already.
    bare = re.sub(r"Fatal: |unable to open repository at \S+: |Is there a repository at .*", "", text, flags=re.DOTALL)
    line = without_password(" ".join(bare.split())).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def without_password(text: str) -> str:
    """An address may carry one."""
    return re.sub(r"//[^/@\s]*@", "//", text)
