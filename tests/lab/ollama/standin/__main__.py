"""The verbs of `ollama` that a server needs: serve, list, ps, show, --version."""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import environment

VERSION = (
    (Path(__file__).parent / "VERSION").read_text().strip() if (Path(__file__).parent / "VERSION").exists() else "0"
)


def main(words: list[str]) -> int:
    """Exit as Ollama does: 0, or 1 with one line on standard error."""
    verbs: dict[str, Callable[[list[str]], int]] = {
        "serve": _serve,
        "embed": _embed,
        "list": _list,
        "ls": _list,
        "ps": _ps,
        "show": _show,
        "--version": _version,
        "-v": _version,
    }
    verb = verbs.get(words[0] if words else "")
    if verb is None:
        print(f"Error: ollama {' '.join(words)} = not in the stand-in; it has {' '.join(verbs)}", file=sys.stderr)
        return 1
    try:
        return verb(words[1:])
    except urllib.error.HTTPError as error:
        print(f"Error: {json.load(error)['error']}", file=sys.stderr)
    except OSError:
        print("Error: could not connect to ollama server, run 'ollama serve' to start it", file=sys.stderr)
    return 1


def _serve(_: list[str]) -> int:
    # Two texts at a time, each on one core, are a third faster than two cores on one text.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Threads that wait by spinning slow llama.cpp down tenfold as soon as the cores have other work too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Only the server needs numpy and llama.cpp, which take half a second to load.
    from .server import serve  # noqa: PLC0415

    serve(environment.read(), VERSION)
    return 0


def _embed(words: list[str]) -> int:
    # The server's own; it has set the environment.
    from .apart import serve  # noqa: PLC0415 - as above

    serve(Path(words[0]))
    return 0


def _list(_: list[str]) -> int:
    _table("NAME ID SIZE", [(one["name"], one["digest"][:12], _size(one["size"])) for one in _ask("tags")["models"]])
    return 0


def _ps(_: list[str]) -> int:
    rows = [
        (one["name"], one["digest"][:12], _size(one["size"]), "100% CPU", str(one["context_length"]), one["expires_at"])
        for one in _ask("ps")["models"]
    ]
    _table("NAME ID SIZE PROCESSOR CONTEXT UNTIL", rows)
    return 0


def _show(words: list[str]) -> int:
    for key, value in _ask("show", {"model": words[0] if words else ""})["details"].items():
        print(f"  {key:<20} {value}")
    return 0


def _version(_: list[str]) -> int:
    try:
        print(f"ollama version is {_ask('version')['version']}")
    except OSError:
        print(f"Warning: could not connect to a running Ollama instance\nWarning: client version is {VERSION}")
    return 0


def _ask(path: str, body: dict[str, str] | None = None) -> Any:
    here = environment.read()
    host = "127.0.0.1" if here.host in {"0.0.0.0", "::"} else here.host  # noqa: S104
    request = urllib.request.Request(
        f"http://{host}:{here.port}/api/{path}", json.dumps(body).encode() if body else None
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def _table(head: str, rows: Sequence[tuple[str, ...]]) -> None:
    lines = [tuple(head.split()), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("    ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _size(amount: int) -> str:
    return f"{amount / 1e6:.0f} MB"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
