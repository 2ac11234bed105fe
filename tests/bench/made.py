"""What the bench of the application makes: one collection with documents, gone at its end."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx

from inventories.settings import Site
from tests.bench.cluster import Cluster, until
from tests.lab.host import LabError

AREA = "application"


@dataclass(frozen=True)
class Made:
    """The site, its first administrator's client, and the name under which everything is made."""

    cluster: Cluster
    site: Site
    http: httpx.Client
    name: str

    @property
    def apps(self) -> tuple[str, ...]:
        return tuple(machine.name for machine in self.site.having("app"))


@contextmanager
def collection(made: Made) -> Iterator[None]:
    """A collection for the run, gone at its end with all that is in it."""
    made.http.post("/api/v1/collections", json={"name": made.name}).raise_for_status()
    try:
        yield
    finally:
        with suppress(httpx.HTTPError):
            made.http.delete(f"/api/v1/collections/{made.name}").raise_for_status()


def upload(made: Made, texts: Mapping[str, str]) -> None:
    """Put the documents, several at once."""

    def put(name: str) -> None:
        path = f"/api/v1/collections/{made.name}/documents"
        made.http.post(path, files={"file": (name, texts[name].encode())}).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, texts))


def wait_until_indexed(made: Made, seconds: float) -> None:
    """Return when no document of the collection is on its way; one that failed ends the made."""

    def done() -> bool:
        states = made.http.get(f"/api/v1/collections/{made.name}").raise_for_status().json()["documents"]
        if states.get("failed"):
            raise LabError(f"documents = {states}; none failed; journalctl -u rag-worker")
        return set(states) == {"indexed"}

    # Seldom: what is asked and answered here is taken from the processors that ingestion shares with it.
    until(done, seconds, "every document is indexed", every=2)
