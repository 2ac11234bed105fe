"""Figures in files that node_exporter serves: written in one step, and true after a failure too."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.backup.settings import Settings

Labels = tuple[tuple[str, str], ...]
Figure = tuple[str, float | Mapping[Labels, float]]
"""What it says, and its value, or one value for each set of labels."""
Figures = Mapping[str, Figure]

SUCCESS = "rag_backup_last_success_timestamp_seconds"


class BackupError(Exception):
    """The work cannot be done; the message is one line for the operator: thing = value; need; command."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: read from results, never from exit codes alone."""

    well: bool
    words: str
    """One line for the journal: what was done, or what is needed and the command that helps."""
    figures: Figures = field(default_factory=dict)


def recorded(settings: Settings, kind: str, work: Callable[[], Outcome]) -> int:
    """
    Run ``work``, publish how it ended, and say it in the last line of the journal; the exit code.

    Whatever ``work`` raises is a failure that is published too, and so is an end by systemd; what it staged it clears.
    """
    began = time.monotonic()
    try:
        with _ended_in_words():
            outcome = work()
    except BaseException as error:
        outcome = Outcome(False, _one_line(error))
        if not isinstance(error, BackupError | OSError | psycopg2.Error):
            _told(settings, kind, outcome, began)
            raise
    told = _told(settings, kind, outcome, began)
    say(f"{kind}: {'done' if outcome.well else 'failed'} in {time.monotonic() - began:.1f} s; {outcome.words}")
    return 0 if outcome.well and told else 1


def _told(settings: Settings, kind: str, outcome: Outcome, began: float) -> bool:
    """Whether the figures say how it ended; where they cannot, as on a full disk, the journal says that they do not."""
    try:
        publish(settings, kind, outcome.figures, well=outcome.well, seconds=time.monotonic() - began)
    except OSError as error:
        need = "a folder that can be written, with room"
        say(f"figures of {kind} = not written, {error.strerror or error}; {need}; df -h {settings.textfiles}")
        return False
    return True


@contextlib.contextmanager
def _ended_in_words() -> Iterator[None]:
    """SIGTERM is an error like others meanwhile: by itself it would end the program on the spot."""

    def end(*_: object) -> None:
        raise BackupError("SIGTERM = came before the end; its own time again, or now; systemctl start of the unit")

    former = signal.getsignal(signal.SIGTERM)
    # A drill has more to put away, and takes it upon itself.
    if former == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def say(line: str) -> None:
    """A line for the journal, which `systemctl status` shows."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def publish(
    settings: Settings, kind: str, figures: Figures | None = None, *, well: bool, seconds: float | None = None
) -> None:
    """Write the figures of one kind of work; the time of its last success stays what it was after a failure."""
    now = time.time()
    success = now if well else published(settings, kind).get(SUCCESS, {}).get((("kind", kind),))
    common: dict[str, tuple[str, float]] = {
        "rag_backup_last_run_timestamp_seconds": ("End of the last run of this kind of work.", now),
        "rag_backup_last_result": ("1: the last run of this kind of work was good, 0: it was not.", float(well)),
        **({"rag_backup_duration_seconds": ("Length of its last run.", seconds)} if seconds is not None else {}),
        **({SUCCESS: ("End of its last good run.", success)} if success is not None else {}),
    }
    registry = CollectorRegistry()
    for name, (says, value) in common.items():
        Gauge(name, says, ["kind"], registry=registry).labels(kind).set(value)
    for name, (says, values) in (figures or {}).items():
        _add(registry, name, says, values)
    _write(settings.textfiles / f"rag_backup_{kind}.prom", generate_latest(registry))


def published(settings: Settings, kind: str) -> dict[str, dict[Labels, float]]:
    """What the last run of this kind of work left there: by name of the figure, each value by its labels."""
    try:
        text = (settings.textfiles / f"rag_backup_{kind}.prom").read_text(encoding="utf-8")
        families = list(text_string_to_metric_families(text))
    except (OSError, ValueError):
        return {}
    found: dict[str, dict[Labels, float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def _write(path: Path, text: bytes) -> None:
    """In one step, and past whatever lies there: the folder is another user's, who could put a link into it."""
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(text)
            # node_exporter is somebody else.
            os.fchmod(file.fileno(), 0o644)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _add(registry: CollectorRegistry, name: str, says: str, values: float | Mapping[Labels, float]) -> None:
    if not isinstance(values, Mapping):
        Gauge(name, says, registry=registry).set(values)
        return
    names = [key for key, _ in next(iter(values), ())]
    gauge = Gauge(name, says, names, registry=registry)
    for labels, value in values.items():
        gauge.labels(**dict(labels)).set(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
