"""Two app hosts of one site, whose embedding model is changed while colleagues search and upload on both."""

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.app.conftest import whole_site
from tests.app.hosts import SecondHost, configuration_of, second_host
from tests.app.ollama_standin import DIMENSIONS, EMBED, NEXT
from tests.app.servers import wait_for
from tests.app.site import Person, Site

OTHER = {EMBED: NEXT, NEXT: EMBED}
PATH = "/api/v1/reembedding"
CHANCE = random.SystemRandom()


@dataclass
class Pair:
    """The site and its second host."""

    site: Site
    second: SecondHost
    admin: Person = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.site.sign_in()

    @property
    def hosts(self) -> tuple[Person, Person]:
        """The administrator at either host."""
        return self.admin, Person(self.second.http, self.admin.token)

    # --- the site's file and its deploys

    def configure(self, **inference: object) -> None:
        """Write the site's file: embedding_model, and next_embedding_model if there is one."""
        name_models(self.site, **inference)
        ports = dict(re.findall(r"^(api|worker_metrics|index_metrics) = (\d+)$", self._second(), re.MULTILINE))
        configuration_of(self.site, self.second.folder, {**ports, "port": self.second.chroma_port})

    def deploy(self, **inference: object) -> str:
        """As the deploy does it: the file, the schema, then every process anew; what the migration said."""
        self.configure(**inference)
        migrated = self.site.run("app.store.migrate")
        if migrated.returncode:
            return migrated.stderr
        for process in (self.site.index, self.site.worker, self.site.api, *self.second.processes):
            process.stop()
            process.launch()
        self.wait_until_ready()
        return migrated.stdout

    def _second(self) -> str:
        return (self.second.folder / "rag.toml").read_text()

    def wait_until_ready(self) -> None:
        self.site.wait_until_ready()
        wait_for("the second host is ready", lambda: ready(self.second.http), 60)

    # --- the change

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.admin.get(PATH)
        return shown

    def step(self, method: str = "POST", path: str = "") -> dict[str, Any]:
        answer = self.admin.call(method, f"{PATH}{path}")
        assert answer.is_success, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def refused(self, method: str = "POST", path: str = "") -> str:
        answer = self.admin.call(method, f"{PATH}{path}")
        assert answer.status_code == 409, answer.text
        return str(answer.json()["detail"])

    def wait_for_state(self, state: str, seconds: float = 150) -> None:
        def reached() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool(self.status()["state"] == state)
            return False

        try:
            wait_for(f"the change is {state}", reached, seconds)
        except pytest.fail.Exception:
            pytest.fail(f"the change is not {state}: {self.status()}")

    # --- what there is

    def has_begun(self) -> bool:
        """Whether the second host has looked through all changes for the new model."""
        statement = text("select filled from index_slots join reembedding on slot = new_slot where host = 'app2'")
        with self.site.database.connect() as connection:
            return bool(connection.execute(statement).scalar_one_or_none())

    def indexes(self) -> dict[str, str]:
        """How each host's index stands with the other model."""
        names = {one["host"]: one["index"] for one in self.status()["hosts"]}
        return {"app2" if name == "app2" else "app1": index for name, index in names.items()}

    def served(self) -> str:
        return str(self.status()["served"]).split()[0]

    def vectors(self) -> dict[str, int]:
        """How many passages have a vector in PostgreSQL, by model."""
        statement = text(
            "select model, count(*) as vectors from (select model from passages union all select model from embeddings)"
            " as every group by model"
        )
        with self.site.database.connect() as connection:
            return {row.model: row.vectors for row in connection.execute(statement)}

    def passages(self) -> int:
        with self.site.database.connect() as connection:
            return int(connection.execute(text("select count(*) from passages")).scalar_one())

    def in_indexes(self) -> list[dict[str, int]]:
        """For each host, how many vectors its Chroma holds of each dimension."""
        return [held(port) for port in (int(self.site.environment["CHROMA_PORT"]), self.second.chroma_port)]


def name_models(site: Site, **inference: object) -> None:
    """Let the site's file name these models, and no others."""
    path = site.folder / "rag.toml"
    lines = [line for line in path.read_text().splitlines() if not re.match(r"(next_)?embedding_", line)]
    place = lines.index("[inference]") + 1
    named = []
    for key, model in inference.items():
        named += [f'{key} = "{model}"', f"{key.replace('model', 'dimension')} = {DIMENSIONS[str(model)]}"]
    path.write_text("\n".join([*lines[:place], *named, *lines[place:]]))


def ready(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/health/ready").status_code == 200
    return False


def held(port: int) -> dict[str, int]:
    """How many vectors a Chroma holds, by the slot in the names of its collections."""
    base = f"http://127.0.0.1:{port}/api/v2/tenants/default_tenant/databases/default_database/collections"
    counted: dict[str, int] = {}
    for one in httpx.get(base, params={"limit": 10_000}, trust_env=False).json():
        slot = one["name"][:-37]
        if not one["name"].startswith("rag-position"):
            count = httpx.get(f"{base}/{one['id']}/count", trust_env=False)
            # Listed, and gone a moment later.
            if count.status_code == 200:
                counted[slot] = counted.get(slot, 0) + count.json()
    return counted


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """Both hosts, ready."""
    with whole_site() as site:
        path = site.folder / "rag.toml"
        path.write_text(path.read_text().replace("[index]", "[index]\nforget_seconds = 1"))
        site.index.stop()
        site.index.start()
        with second_host(site) as second:
            made = Pair(site, second)
            made.wait_until_ready()
            yield made


def words(number: int) -> str:
    """A document of many subjects, and the question that it answers best.

    Of documents that hardly differ Chroma's approximate search leaves some out, whatever the model.
    """
    made = random.Random(number)  # noqa: S311 - the same words each time
    return " ".join(f"w{made.randrange(200)}x" for _ in range(20))


@dataclass
class Stream:
    """Searches and uploads on both hosts; what went wrong, and how long the searches took."""

    pair: Pair
    collection: str
    known: list[str]
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    uploaded: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator["Stream"]:
        threads = [
            threading.Thread(target=self._search, args=(person,)) for person in self.pair.hosts for _ in range(2)
        ]
        threads += [threading.Thread(target=self._upload, args=(person, n)) for n, person in enumerate(self.pair.hosts)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _search(self, person: Person) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            wanted = number % len(self.known)
            mode = ("vector", "hybrid")[number % 2]
            params = {"collection": self.collection, "q": words(wanted), "mode": mode}
            began = time.monotonic()
            try:
                answer = person.call("GET", "/api/v1/search", params=params)
            except httpx.HTTPError as error:
                self.failed.append(f"{person.http.base_url} {error!r}")
                continue
            self.seconds.append(time.monotonic() - began)
            if answer.status_code != 200:
                self.failed.append(answer.text)
            elif answer.json()["degraded"]:
                self.failed.append(f"{person.http.base_url} degraded {answer.json()['degraded']}")
            elif self.known[wanted] not in [hit["document_id"] for hit in answer.json()["results"]]:
                self.failed.append(f"{person.http.base_url} {mode} did not find {wanted}")

    def _upload(self, person: Person, of: int) -> None:
        number = 0
        while not self._over.wait(0.3):
            number += 1
            try:
                document = person.upload(
                    self.collection, f"new-{of}-{number}.txt", words(CHANCE.randrange(10**6, 10**12)).encode()
                )
                if number % 3:
                    self.uploaded.append(document)
                else:
                    person.call("DELETE", f"/api/v1/documents/{document['id']}").raise_for_status()
                    self.deleted.append(document["id"])
            except (httpx.HTTPError, AssertionError) as error:
                self.failed.append(f"{person.http.base_url} upload {error!r}")
