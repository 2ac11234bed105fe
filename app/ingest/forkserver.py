"""The process that parsers come from: it has the libraries loaded once, and forks one for each document.

It sees no document itself. It ends with the worker that started it, and all parsers with it.
"""

import ctypes
import dataclasses
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
from collections.abc import Iterator
from typing import Any

from app.ingest import formats, sandbox
from app.ingest.clean import clean
from app.ingest.limits import Limits
from app.ingest.outline import UnreadableError
from app.ingest.sandbox import OpenDoorError
from app.ingest.split import Size, Split, split

# What a message asks: a document, where its text goes, and where to tell of the parser.
DESCRIPTORS = 3
MOST_REQUEST_BYTES = 64 * 1024
# Characters of what is told of a document that cannot be read.
MOST_REASON = 4000
_LOADED = ("archive", "csv", "docx", "mail", "pdf", "pptx", "xlsx")
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the worker at the other end of standard input until it is gone."""
    for name in _LOADED:
        importlib.import_module(f"app.ingest.{name}")
    # What is loaded stays, and the parsers share it as long as nobody counts it again.
    gc.freeze()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The worker ends it, once it needs no parser any more.
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=0) as requests:
        _serve(requests)


def _serve(requests: socket.socket) -> None:
    with selectors.DefaultSelector() as waiting:
        waiting.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data:
                    waiting.unregister(key.fd)
                    _tell_the_end(key.fd, *key.data)
                    continue
                asked, descriptors, _, _ = socket.recv_fds(requests, MOST_REQUEST_BYTES, DESCRIPTORS)
                if not asked:
                    return
                parser, process, told = _fork(json.loads(asked), descriptors)
                waiting.register(parser, selectors.EVENT_READ, (process, told))


def _fork(asked: dict[str, Any], descriptors: list[int]) -> tuple[int, int, socket.socket]:
    """A parser at work on the document: what it is known by here, its process, and who is told of its end."""
    document, output, tell = descriptors
    server = os.getpid()
    process = os.fork()
    if not process:
        _be_the_parser(asked, document, output, server)
    parser = os.pidfd_open(process)
    os.close(document)
    os.close(output)
    told = socket.socket(fileno=tell)
    try:
        socket.send_fds(told, [b"forked"], [parser])
    except OSError:
        # Nobody waits for it any more.
        signal.pidfd_send_signal(parser, signal.SIGKILL)
    return parser, process, told


def _tell_the_end(parser: int, process: int, told: socket.socket) -> None:
    _, status = os.waitpid(process, 0)
    os.close(parser)
    with told:
        try:
            told.send(str(os.waitstatus_to_exitcode(status)).encode())
        except OSError:
            return


def _be_the_parser(asked: dict[str, Any], document: int, output: int, server: int) -> None:
    """Never returns: what stands above on the stack is the server's."""
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, descriptor in enumerate((document, output, nothing)):
            os.dup2(descriptor, number)
        # The others' documents are behind these, and the server's own door.
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        size = Size(**asked["size"]) if asked["size"] else None
        parse_shut_in(asked["file_name"], Limits(**asked["limits"]), size, server)
        status = 0
    finally:
        os._exit(status)


def parse_shut_in(file_name: str, limits: Limits, size: Size | None, server: int) -> None:
    """Read a document from standard input; write its text, or title and passages of that size, a line each."""
    with open(1, "wb", closefd=False) as output:
        for told in _told(file_name, limits, size, server):
            output.write(told + b"\n")


def _told(file_name: str, limits: Limits, size: Size | None, server: int) -> Iterator[bytes]:
    try:
        sandbox.shut(limits)
        _die_with(server)
        with open(0, "rb", closefd=False) as document:
            parsed = formats.parse(document.read(), file_name, limits)
        # Not only parsers meet what somebody wrote to harm: it may be long in every way.
        for said in _passages(split(parsed, size)) if size else (dataclasses.asdict(parsed),):
            yield json.dumps(said, ensure_ascii=False).encode()
    except OpenDoorError as error:
        yield json.dumps({"open": str(error)}).encode()
    except UnreadableError as error:
        # A library's reason may quote the document's bytes.
        yield json.dumps({"error": clean(str(error)[:MOST_REASON])}).encode()
    except MemoryError:
        message = f"{file_name} = over {limits.memory_mb} MiB to read; a simpler or smaller file"
        yield json.dumps({"error": message}).encode()
    except RecursionError:
        yield json.dumps({"error": f"{file_name} = nested too deep; a simpler file"}).encode()
    except Exception as error:
        # Parsers meet hostile input; whatever they raise is the document's state.
        message = f"{file_name} = not readable ({type(error).__name__}); a copy saved anew by its program"
        yield json.dumps({"error": message}).encode()


def _passages(made: Split) -> Iterator[dict[str, Any]]:
    yield {"title": made.title}
    for piece in made.pieces:
        yield {"text": piece.text, "headings": piece.headings, "place": piece.place}


def _die_with(server: int) -> None:
    # Forgotten by the kernel when a process changes its rights, so it comes after that.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or (
        os.getppid() != server
    ):
        os._exit(1)


if __name__ == "__main__":
    main()
