"""Checks one after the other: each has a deadline and a verdict, and one that could not run counts as failed."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Literal

Verdict = Literal["pass", "fail", "could not run"]


class CheckError(Exception):
    """What was looked at is not as it must be; the message is one line that names it."""


class LateError(BaseException):
    """The deadline passed; no handler of ordinary errors may take it for one of its own."""


class StoppedError(BaseException):
    """Somebody ended the drill."""


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    found: str
    seconds: float


class Checks:
    """The verdicts so far, of all that there must be."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._done: dict[str, Check] = {}
        self._blocked = ""

    def run(self, name: str, seconds: float, work: Callable[[], str], *, needed: bool = False) -> bool:
        """
        Run ``work``, which tells what it found or raises CheckError; whether it passed. StoppedError goes through.

        + needed: without this nothing that follows can run
        """
        if self._blocked:
            return False
        began = time.monotonic()
        verdict: Verdict = "pass"
        stopped: StoppedError | None = None
        try:
            with deadline(seconds):
                found = work()
        except CheckError as error:
            verdict, found = "fail", str(error)
        except LateError:
            verdict, found = "could not run", f"not done in {seconds:.0f} s"
        except StoppedError as error:
            verdict, found, stopped = "could not run", "the drill was stopped", error
            self.end(name)
        except Exception as error:  # whatever it was, the check did not run
            verdict, found = "could not run", f"{type(error).__name__}: {error}"
        check = Check(name, verdict, " ".join(found.split())[:500], round(time.monotonic() - began, 2))
        self._done[name] = check
        self._say(check)
        if needed and verdict != "pass":
            self._blocked = self._blocked or name
        if stopped:
            raise stopped
        return verdict == "pass"

    def end(self, reason: str) -> None:
        """Nothing more is reached, for this reason."""
        self._blocked = self._blocked or reason

    @staticmethod
    def _say(check: Check) -> None:
        sys.stdout.write(f"  {check.verdict:<13} {check.name:<10} {check.seconds:6.1f} s  {check.found}\n")
        sys.stdout.flush()

    @property
    def all(self) -> tuple[Check, ...]:
        """Every check that there must be; one that was not reached could not run."""
        reason = f"not reached, since {self._blocked} did not pass" if self._blocked else "not reached"
        return tuple(self._done.get(name, Check(name, "could not run", reason, 0.0)) for name in self._names)

    @property
    def well(self) -> bool:
        """Whether every one of them passed."""
        return all(check.verdict == "pass" for check in self.all)

    @property
    def blocked(self) -> bool:
        """Whether the rest cannot run."""
        return bool(self._blocked)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise LateError in here after so many seconds; what waits in PostgreSQL's library needs its own limit."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def stoppable(told: Callable[[], None]) -> Iterator[None]:
    """
    SIGTERM ends what runs in here by StoppedError, so that everything is put away and told; further ones end nothing.

    + told: done at once, since who stops a drill may not wait until it has put everything away
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told()
        raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
