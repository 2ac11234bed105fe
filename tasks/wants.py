"""What a service wants on a machine, as data: the operations compare it with what is there."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class User:
    """A system account without a password."""

    name: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Directory:
    """A directory with its rights."""

    path: str
    mode: str = "755"
    owner: str = "root"
    group: str = "root"

    @property
    def mark(self) -> str:
        """As the machine reports it."""
        return f"{self.mode} {self.owner} {self.group}"


@dataclass(frozen=True)
class File:
    """A file as it shall lie on the machine; the content never shows in a log."""

    path: str
    content: bytes
    mode: str = "644"
    owner: str = "root"
    group: str = "root"

    def __repr__(self) -> str:
        return f"File({self.path})"


@dataclass(frozen=True)
class Unit:
    """A systemd unit that shall be enabled and run with the files it reads as they are now."""

    name: str
    reads: tuple[str, ...] = ()
    """What makes it start anew when it changed."""
    reloads: tuple[str, ...] = ()
    """What it takes in by a reload, without a restart."""
    in_turn: bool = False
    """A running one restarts on one machine at a time, and the next only when the check answers again."""


@dataclass(frozen=True)
class Check:
    """A shell command that exits 0 when the service is well, and how long it may take to get there."""

    command: str
    seconds: int = 60
    busy: str = ""
    """A shell command that exits 0 while it does what no limit fits, and says what: then it is waited for on."""


@dataclass(frozen=True)
class Wants:
    """All that one service wants on one machine."""

    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    absent: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    check: Check | None = None

    def __repr__(self) -> str:
        return f"Wants({', '.join(unit.name for unit in self.units) or f'{len(self.files)} files'})"


@cache
def _environment() -> Environment:
    # autoescape is for HTML; these are configuration files.
    return Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(template: str, **values: object) -> bytes:
    """The template's text with the values in it; an unknown name in it raises."""
    return _environment().get_template(template).render(**values).encode()


def verbatim(template: str) -> bytes:
    """The file as it lies in templates/."""
    return (TEMPLATES / template).read_bytes()


def credential(name: str, value: str) -> File:
    """A secret in the machine's credential store, for root alone; units name it in LoadCredential=."""
    return File(f"/etc/credstore/{name}", value.encode(), mode="600")
