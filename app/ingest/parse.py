"""Parsing in a process of its own, which may hang, swell or crash without harm to the worker."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from app.ingest import formats, sandbox
from app.ingest.clean import clean
from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.sandbox import OpenDoorError

# Four bytes a character at most, and as much again for headings, places and marks.
MOST_BYTES = 8 * formats.MOST_CHARACTERS
_TOO_LONG = 1000
_ROOT = str(Path(__file__).parents[2])


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """The document's text, within the limits and without a network; raise UnreadableError when it cannot be had."""
    status, written = _run([file_name, json.dumps(dataclasses.asdict(limits))], content, limits.seconds)
    if len(written) > MOST_BYTES:
        raise UnreadableError(f"{file_name} = over {MOST_BYTES} bytes of text; a simpler or smaller file")
    if status == _TOO_LONG:
        raise UnreadableError(f"{file_name} = over {limits.seconds} s to read; a simpler or smaller file")
    if status != 0:
        reason = f"the parser ended with {status}"
        raise UnreadableError(f"{file_name} = not readable ({reason}); a copy saved anew by its program")
    answer = json.loads(written)
    if "open" in answer:
        raise OpenDoorError(answer["open"])
    if "error" in answer:
        raise UnreadableError(answer["error"])
    sections = tuple(
        Section(tuple(section["headings"]), section["place"], tuple(section["paragraphs"]), tuple(section["rows"]))
        for section in answer["sections"]
    )
    return Parsed(answer["title"], sections)


def _run(arguments: list[str], content: bytes, seconds: int) -> tuple[int, bytes]:
    """How the parser ended and what it wrote, never more than a little over the most that is taken."""
    with os.fdopen(os.memfd_create("document"), "w+b") as document:
        document.write(content)
        document.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", "app.ingest.parse", *arguments],
            stdin=document,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Neither the secrets' folder nor anything else of ours is the parser's business.
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": os.pathsep.join((_ROOT, *sys.path)),
                "LANG": "C.UTF-8",
                # A library of the library that reads workbooks would start threads, which it may not, and end itself.
                "OPENBLAS_NUM_THREADS": "1",
            },
        ) as process:
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(seconds, end)
            timer.start()
            try:
                written = process.stdout.read(MOST_BYTES + 1) if process.stdout else b""
                if len(written) > MOST_BYTES:
                    process.kill()
                status = process.wait()
            finally:
                timer.cancel()
                process.kill()
    return (_TOO_LONG if late.is_set() else status), written


def main(file_name: str, limits: Limits) -> None:
    """Read a document from stdin, write its text to stdout."""
    try:
        sandbox.shut(limits)
        answer = dataclasses.asdict(formats.parse(sys.stdin.buffer.read(), file_name, limits))
        written = json.dumps(answer, ensure_ascii=False).encode()
    except OpenDoorError as error:
        written = json.dumps({"open": str(error)}).encode()
    except UnreadableError as error:
        # A library's reason may quote the document's bytes.
        written = json.dumps({"error": clean(str(error))}).encode()
    except MemoryError:
        message = f"{file_name} = over {limits.memory_mb} MiB to read; a simpler or smaller file"
        written = json.dumps({"error": message}).encode()
    except RecursionError:
        written = json.dumps({"error": f"{file_name} = nested too deep; a simpler file"}).encode()
    except Exception as error:
        # Parsers meet hostile input; whatever they raise is the document's state.
        message = f"{file_name} = not readable ({type(error).__name__}); a copy saved anew by its program"
        written = json.dumps({"error": message}).encode()
    sys.stdout.buffer.write(written)


if __name__ == "__main__":
    main(sys.argv[1], Limits(**json.loads(sys.argv[2])))
