"""Parsing in a process of its own, which may hang, swell or crash without harm to the worker."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.ingest import formats
from app.ingest.clean import clean
from app.ingest.outline import Parsed, Section, UnreadableError

if TYPE_CHECKING:
    # Every document starts a process; at run time the settings' libraries would be most of its start.
    from app.settings import Ingest

_ROOT = str(Path(__file__).parents[2])


def parse(content: bytes, file_name: str, limits: "Ingest") -> Parsed:
    """The document's text, within the limits; raise UnreadableError when it cannot be had."""
    arguments = [file_name, str(limits.parse_seconds), str(limits.parse_memory_mb), str(limits.max_pages)]
    libraries = os.pathsep.join((_ROOT, *sys.path))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app.ingest.parse", *arguments],
            input=content,
            capture_output=True,
            timeout=limits.parse_seconds,
            check=False,
            # Neither the secrets' folder nor anything else of ours is the parser's business.
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": libraries,
                "LANG": "C.UTF-8",
            },
        )
    except subprocess.TimeoutExpired:
        raise UnreadableError(
            f"{file_name} = over {limits.parse_seconds} s to read; a simpler or smaller file"
        ) from None
    if done.returncode != 0:
        reason = f"the parser ended with {done.returncode}"
        raise UnreadableError(f"{file_name} = not readable ({reason}); a copy saved anew by its program")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise UnreadableError(answer["error"])
    sections = tuple(
        Section(tuple(section["headings"]), section["page"], tuple(section["paragraphs"]))
        for section in answer["sections"]
    )
    return Parsed(answer["title"], sections)


def main(file_name: str, seconds: int, memory_mb: int, max_pages: int) -> None:
    """Read a document from stdin, write its text to stdout."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        answer = dataclasses.asdict(formats.parse(sys.stdin.buffer.read(), file_name, max_pages))
        written = json.dumps(answer).encode()
    except UnreadableError as error:
        # A library's reason may quote the document's bytes.
        written = json.dumps({"error": clean(str(error))}).encode()
    except MemoryError:
        message = f"{file_name} = over {memory_mb} MiB to read; a simpler or smaller file"
        written = json.dumps({"error": message}).encode()
    except RecursionError:
        written = json.dumps({"error": f"{file_name} = nested too deep; a simpler file"}).encode()
    except Exception as error:
        # Parsers meet hostile input; whatever they raise is the document's state.
        message = f"{file_name} = not readable ({type(error).__name__}); a copy saved anew by its program"
        written = json.dumps({"error": message}).encode()
    sys.stdout.buffer.write(written)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
