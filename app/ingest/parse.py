"""Parsing in a process of its own, which may hang, swell or crash without harm to the worker."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, TypeVar

from app.ingest import answer as answers
from app.ingest import formats
from app.ingest.forkserver import MOST_REQUEST_BYTES
from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Size, Split

Taken = TypeVar("Taken")

# Four bytes a character at most, and as much again for headings, places and marks.
MOST_BYTES = 8 * formats.MOST_CHARACTERS
# From the request to a parser; the first one waits until the libraries are loaded.
FORK_SECONDS = 60.0
_ROOT = str(Path(__file__).parents[2])


class LostParserError(Exception):
    """The process that parsers come from died under this one, twice."""


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """The document's text as a whole, within the limits and without a network; raise UnreadableError without it."""
    answer = _run(content, file_name, limits, None, lambda lines: answers.one(lines, file_name))
    sections = tuple(
        Section(tuple(section["headings"]), section["place"], tuple(section["paragraphs"]), tuple(section["rows"]))
        for section in answer["sections"]
    )
    return Parsed(answer["title"], sections)


def read(content: bytes, file_name: str, limits: Limits, size: Size) -> Split:
    """The document's passages, as ``parse`` its text; of what the parser writes one passage at a time is held."""
    return _run(content, file_name, limits, size, lambda lines: answers.split(lines, size, file_name))


def can_shut_in(limits: Limits) -> bool:
    """Whether a parser with a document of ours shuts itself in on this machine now."""
    try:
        parse(b"Nothing but words.", "words.txt", limits)
    except (OpenDoorError, UnreadableError, LostParserError):
        return False
    return True


class ForkServer:
    """Where parsers come from; started when it is needed, and again when it died."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def ask(self, request: bytes, descriptors: list[int]) -> None:
        """Have a parser forked for what the descriptors stand for; OSError: the server is gone."""
        with self._lock:
            if self._running is None or self._running[0].poll() is not None:
                self._running = self._started()
            socket.send_fds(self._running[1], [request], descriptors)

    def end(self) -> None:
        """As when the kernel kills it; the next request starts another."""
        with self._lock:
            if self._running:
                self._running[0].kill()
                self._running[0].wait()
                self._running[1].close()
                self._running = None

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._running[0].pid if self._running else None

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._running:
            self._running[1].close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.ingest.forkserver"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                # Neither the secrets' folder nor anything else of ours is the parsers' business.
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "PYTHONPATH": self._path,
                    "LANG": "C.UTF-8",
                    # A library of the library that reads workbooks would start threads: they may not, and would be
                    # lost in every fork.
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        return process, ours


@cache
def _server_of(path: str) -> ForkServer:
    """One for the whole process, for as long as it looks for libraries in the same places."""
    return ForkServer(path)


def server() -> ForkServer:
    """The one that parses for this process."""
    return _server_of(os.pathsep.join((_ROOT, *sys.path)))


class _Lines:
    """What a parser writes, a line at a time; UnreadableError where it goes on for too long."""

    def __init__(self, file: IO[bytes], file_name: str, longest: int) -> None:
        self._file, self._file_name, self._longest = file, file_name, longest
        self.ended = False

    def __iter__(self) -> Iterator[bytes]:
        left = MOST_BYTES
        while line := self._file.readline(self._longest + 1):
            left -= len(line)
            if left < 0 or len(line) > self._longest:
                raise UnreadableError(f"{self._file_name} = over {MOST_BYTES} bytes of text; a simpler or smaller file")
            # One that a parser died in has no end either.
            self.ended = not line.endswith(b"\n")
            yield line
        self.ended = True


def _run(content: bytes, file_name: str, limits: Limits, size: Size | None, take: Callable[[_Lines], Taken]) -> Taken:
    """What ``take`` makes of the parser's lines, if the parser comes to its own end."""
    asked = {"file_name": file_name, "limits": dataclasses.asdict(limits)}
    request = json.dumps({**asked, "size": dataclasses.asdict(size) if size else None}).encode()
    if len(request) > MOST_REQUEST_BYTES:
        raise UnreadableError(f"{file_name[:100]}… = a name of {len(file_name)} characters; a shorter one")
    longest = answers.LONGEST_PIECE if size else MOST_BYTES
    for _ in range(2):
        # Whose server dies is not to blame: somebody else's document may have been too much for the machine.
        with contextlib.suppress(OSError, _GoneError), _parser(request, content) as (parser, told, written):
            return _taken(parser, told, _Lines(written, file_name, longest), file_name, limits.seconds, take)
    raise LostParserError(file_name)


class _GoneError(Exception):
    """The server ended before the parser."""


def _taken(
    parser: int, told: socket.socket, lines: _Lines, file_name: str, seconds: int, take: Callable[[_Lines], Taken]
) -> Taken:
    late, taken, problem = threading.Event(), [], None

    def end() -> None:
        late.set()
        _kill(parser)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        try:
            taken.append(take(lines))
        except (UnreadableError, OpenDoorError) as error:
            problem = error
        if not lines.ended:
            # What it has still to say is heard by nobody.
            _kill(parser)
        told.settimeout(seconds + FORK_SECONDS)
        status = told.recv(16)
    finally:
        timer.cancel()
        timer.join()
        _kill(parser)
    if not status:
        raise _GoneError
    if late.is_set():
        raise UnreadableError(f"{file_name} = over {seconds} s to read; a simpler or smaller file")
    if int(status) and lines.ended:
        reason = f"the parser ended with {int(status)}"
        raise UnreadableError(f"{file_name} = not readable ({reason}); a copy saved anew by its program")
    if problem:
        raise problem
    return taken[0]


@contextlib.contextmanager
def _parser(request: bytes, content: bytes) -> Iterator[tuple[int, socket.socket, IO[bytes]]]:
    """A parser at work on the document, who tells of its end, and what it writes to."""
    with contextlib.ExitStack() as held:
        told, theirs = (held.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        reading, writing = os.pipe()
        written = held.enter_context(os.fdopen(reading, "rb"))
        output = held.enter_context(os.fdopen(writing, "wb"))
        with os.fdopen(os.memfd_create("document"), "w+b") as document:
            document.write(content)
            document.seek(0)
            server().ask(request, [document.fileno(), output.fileno(), theirs.fileno()])
        output.close()
        theirs.close()
        yield held.enter_context(_known(told)), told, written


@contextlib.contextmanager
def _known(told: socket.socket) -> Iterator[int]:
    """What the parser is known by: a number of a process may be another's by the time it is killed."""
    told.settimeout(FORK_SECONDS)
    try:
        _, descriptors, _, _ = socket.recv_fds(told, 16, 1)
    except TimeoutError:
        # It hangs.
        server().end()
        raise
    if not descriptors:
        raise _GoneError
    try:
        yield descriptors[0]
    finally:
        os.close(descriptors[0])


def _kill(parser: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(parser, signal.SIGKILL)
