"""Parsing in a process of its own, which may hang, swell or crash without harm to the worker."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from app.ingest import formats, sandbox
from app.ingest.clean import clean
from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.sandbox import OpenDoorError

_ROOT = str(Path(__file__).parents[2])


def parse(content: bytes, file_name: str, limits: Limits) -> Parsed:
    """The document's text, within the limits and without a network; raise UnreadableError when it cannot be had."""
    arguments = [file_name, json.dumps(dataclasses.asdict(limits))]
    libraries = os.pathsep.join((_ROOT, *sys.path))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app.ingest.parse", *arguments],
            input=content,
            capture_output=True,
            timeout=limits.seconds,
            check=False,
            # Neither the secrets' folder nor anything else of ours is the parser's business.
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": libraries,
                "LANG": "C.UTF-8",
            },
        )
    except subprocess.TimeoutExpired:
        raise UnreadableError(f"{file_name} = over {limits.seconds} s to read; a simpler or smaller file") from None
    if done.returncode != 0:
        reason = f"the parser ended with {done.returncode}"
        raise UnreadableError(f"{file_name} = not readable ({reason}); a copy saved anew by its program")
    answer = json.loads(done.stdout)
    if "open" in answer:
        raise OpenDoorError(answer["open"])
    if "error" in answer:
        raise UnreadableError(answer["error"])
    sections = tuple(
        Section(tuple(section["headings"]), section["place"], tuple(section["paragraphs"]), tuple(section["rows"]))
        for section in answer["sections"]
    )
    return Parsed(answer["title"], sections)


def main(file_name: str, limits: Limits) -> None:
    """Read a document from stdin, write its text to stdout."""
    try:
        sandbox.shut(limits)
        answer = dataclasses.asdict(formats.parse(sys.stdin.buffer.read(), file_name, limits))
        written = json.dumps(answer).encode()
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
