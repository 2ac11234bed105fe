"""Other app hosts of the same site: an API alone, on the same database and index, or all that a host has."""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.app.servers import Process, chroma, free_port, ours
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


@dataclass
class SecondHost:
    """A whole second app host: its own Chroma, index, worker and API on the site's database."""

    folder: Path
    http: httpx.Client
    chroma: Process
    index: Process
    worker: Process
    api: Process
    chroma_port: int

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.index, self.worker, self.api


@contextlib.contextmanager
def second_host(site: Site) -> Iterator[SecondHost]:
    """It goes by a name of its own, and reads what `configuration_of` writes."""
    port = {name: free_port() for name in ("api", "worker_metrics", "index_metrics", "port")}
    with tempfile.TemporaryDirectory(prefix="rag-host-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        configuration_of(site, folder, port)
        environment = {**site.environment, "RAG_CONFIG": str(folder / "rag.toml"), "RUNTIME_DIRECTORY": name}

        def own(module: str, metrics: str) -> Process:
            made = ours([module], environment, folder / f"{module}.log", f"http://127.0.0.1:{port[metrics]}")
            # The follower tells by which name its host goes.
            as_other = f"hostname app2 && exec {shlex.join(made.command)}"
            made.command = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", as_other]
            return made

        base = f"http://127.0.0.1:{port['api']}"
        command = ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"]
        made = SecondHost(
            folder,
            stack.enter_context(httpx.Client(base_url=base, timeout=60, trust_env=False)),
            chroma(folder, port["port"]),
            own("app.index", "index_metrics"),
            ours(["app.ingest"], environment, folder / "worker.log", f"http://127.0.0.1:{port['worker_metrics']}"),
            ours(command, environment, folder / "api.log", f"{base}/health/live"),
            port["port"],
        )
        for process in (made.chroma, *made.processes):
            stack.callback(process.stop)
            process.launch()
        yield made


def configuration_of(site: Site, folder: Path, port: dict[str, int]) -> None:
    """The site's configuration, with this host's own ports."""
    section, lines = "", []
    for line in (site.folder / "rag.toml").read_text().splitlines():
        section = line if line.startswith("[") else section
        key = line.partition(" = ")[0]
        own = {"[listen]": ("api", "worker_metrics", "index_metrics"), "[chroma]": ("port",)}.get(section, ())
        lines.append(f"{key} = {port[key]}" if key in own else line)
    (folder / "rag.toml").write_text("\n".join(lines))
