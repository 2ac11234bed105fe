"""Another app host of the same site: an API of its own on the same database and index, with other settings."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.app.servers import free_port, ours
from tests.app.site import Site


@contextlib.contextmanager
def another_host(site: Site, more: str = "", **settings: object) -> Iterator[httpx.Client]:
    """A client of it; ``settings`` are lines of the site's configuration by their key, as TOML writes them.

    ``more`` is what the site's configuration does not have.
    """
    port = free_port()
    wanted = {"api": port, **settings}
    lines = []
    for line in (site.folder / "rag.toml").read_text().splitlines():
        key = line.partition(" = ")[0]
        lines.append(f"{key} = {wanted[key]}" if key in wanted else line)
    with tempfile.TemporaryDirectory(prefix="rag-host-") as name:
        folder = Path(name)
        (folder / "rag.toml").write_text("\n".join(lines) + more)
        environment = {**site.environment, "RAG_CONFIG": str(folder / "rag.toml"), "RUNTIME_DIRECTORY": name}
        command = ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"]
        base = f"http://127.0.0.1:{port}"
        api = ours(command, environment, folder / "api.log", f"{base}/health/live")
        try:
            api.start()
            with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
                yield client
        finally:
            api.stop()
