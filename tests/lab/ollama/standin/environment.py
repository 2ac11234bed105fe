"""Ollama's environment variables, read as Ollama reads them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOREVER = float("inf")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[-+]?(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")


class DurationError(ValueError):
    """A duration that Go would not read."""


@dataclass(frozen=True)
class Environment:
    host: str
    port: int
    models: Path
    parallel: int
    queue: int
    keep_alive: float
    context: int


def read(variables: Mapping[str, str] = os.environ) -> Environment:
    """What the service was told, with Ollama's defaults for the rest."""
    host, port = _address(variables.get("OLLAMA_HOST", ""))
    home = Path(variables.get("HOME", "/usr/share/ollama"))
    return Environment(
        host=host,
        port=port,
        models=Path(variables.get("OLLAMA_MODELS") or home / ".ollama" / "models"),
        parallel=int(variables.get("OLLAMA_NUM_PARALLEL") or 1),
        queue=int(variables.get("OLLAMA_MAX_QUEUE") or 512),
        keep_alive=_lenient_seconds(variables.get("OLLAMA_KEEP_ALIVE") or "5m"),
        context=int(variables.get("OLLAMA_CONTEXT_LENGTH") or 4096),
    )


def seconds(value: str | float) -> float:
    """A request's keep_alive: seconds as a number or a Go duration; a negative one is for ever."""
    if isinstance(value, int | float):
        total = float(value)
    elif value == "0":
        total = 0.0
    elif _DURATION.fullmatch(value):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", value)
        total = sum(float(number) * _UNITS[unit] for number, unit in parts) * (-1 if value.startswith("-") else 1)
    else:
        kind = "missing unit in" if re.fullmatch(r"[-+]?[\d.]+", value) else "invalid"
        raise DurationError(f'time: {kind} duration "{value}"')
    return FOREVER if total < 0 else total


def _lenient_seconds(value: str) -> float:
    # Unlike a request, the environment may leave the unit out.
    return seconds(float(value) if re.fullmatch(r"-?\d+", value) else value)


def _address(value: str) -> tuple[str, int]:
    bare = value.strip().removeprefix("http://").rstrip("/")
    host, _, port = bare.rpartition(":") if ":" in bare else (bare, "", "")
    return host or "127.0.0.1", int(port or 11434)
