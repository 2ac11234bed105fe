"""Wait for what must come true."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What ``true`` gives as soon as that is something; a failing look counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        problem: object = "not yet"
        try:
            if found := true():
                return found
        except (httpx.HTTPError, AssertionError, subprocess.SubprocessError) as error:
            problem = error
        assert time.monotonic() < end, f"{what} = not after {seconds:.0f} s; {problem}"
        time.sleep(0.3)
