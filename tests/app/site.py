"""One whole site of the application, as a person with a browser or an operator with a shell meets it."""

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, text

from app.settings import Database, Settings
from app.settings_of_models import Inference
from app.store.models import Kept
from tests.app.ollama_standin import CHAT, DIMENSION, EMBED, OllamaStandin
from tests.app.servers import ROOT, PostgreSQL, Process, wait_for

# What every error's body holds.
PROBLEM = {"type", "title", "status", "detail", "help", "request_id"}
SETTLED = {"indexed", "failed", "cancelled"}
PASSWORD = "correct horse battery staple"
# For a part that a test runs by itself, given its connections.
SETTINGS = Settings(
    domain="rag.test",
    database=Database(hosts=("127.0.0.1",)),
    inference=Inference(chat_model=CHAT, embedding_model=EMBED, embedding_dimension=DIMENSION),
)
KEPT = Kept(EMBED, DIMENSION)


@dataclass(frozen=True)
class Models:
    """Where the site finds its models, and what they are asked with."""

    url: str
    chat: str = CHAT
    embedding: str = EMBED
    dimension: int = DIMENSION
    num_ctx: int = 2048
    query_prefix: str = ""
    document_prefix: str = ""


@dataclass
class Person:
    """A signed-in user."""

    http: httpx.Client
    token: str

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, headers={"authorization": f"Bearer {self.token}"}, **options)

    def get(self, path: str, **options: Any) -> Any:
        answer = self.call("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make_collection(self) -> str:
        name = f"c{uuid.uuid4().hex[:10]}"
        answer = self.call("POST", "/api/v1/collections", json={"name": name})
        assert answer.status_code == 201, answer.text
        return name

    def upload(self, collection: str, name: str, content: bytes) -> dict[str, Any]:
        answer = self.call("POST", f"/api/v1/collections/{collection}/documents", files={"file": (name, content)})
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def settled(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document once it is indexed, failed or cancelled."""
        path = f"/api/v1/documents/{document['id']}"
        wait_for(f"{document['file_name']} is settled", lambda: self.get(path)["state"] in SETTLED)
        settled: dict[str, Any] = self.get(path)
        return settled

    def ask(self, collection: str, question: str, **more: Any) -> dict[str, Any]:
        body = {"collection": collection, "question": question, **more}
        answer = self.call("POST", "/api/v1/questions", json=body)
        assert answer.status_code == 200, answer.text
        answered: dict[str, Any] = answer.json()
        return answered

    @contextlib.contextmanager
    def asking(self, collection: str, question: str, **more: Any) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """The answer's events as they come; whoever leaves before the end hangs up."""
        body = {"collection": collection, "question": question, "stream": True, **more}
        headers = {"authorization": f"Bearer {self.token}"}
        with self.http.stream("POST", "/api/v1/questions", json=body, headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _events(answer)

    def search(self, collection: str, words: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/api/v1/search", params={"collection": collection, "q": words})
        return found


def _events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@dataclass
class Site:
    folder: Path
    environment: dict[str, str]
    http: httpx.Client
    postgresql: PostgreSQL
    database: Engine
    ollama: OllamaStandin
    chroma: Process
    worker: Process
    index: Process
    api: Process

    @property
    def base(self) -> str:
        """The address that a browser is given."""
        return str(self.http.base_url).rstrip("/")

    def sign_in(self, name: str = "admin", password: str = PASSWORD) -> Person:
        answer = self.http.post("/api/v1/token", data={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return Person(self.http, answer.json()["access_token"])

    def add_user(self) -> Person:
        name = f"u{uuid.uuid4().hex[:10]}"
        answer = self.sign_in().call("POST", "/api/v1/users", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return self.sign_in(name)

    def run(self, *module_and_arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *module_and_arguments],
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def metric(self, line: str) -> float:
        """The value of one line of the API's figures; none yet is 0."""
        values = [one for one in self.http.get("/metrics").text.splitlines() if one.startswith(f"{line} ")]
        return float(values[0].rpartition(" ")[2]) if values else 0.0

    def readiness(self) -> httpx.Response:
        return self.http.get("/health/ready")

    def wait_until_ready(self) -> None:
        wait_for("the site is ready", self._is_ready)

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.readiness().status_code == 200
        return False

    def wait_until_in_step(self, seconds: float = 20) -> None:
        """Every change so far is in the index."""
        with self.database.connect() as connection:
            # In the order in which they are applied: of two at a time the later number may come first.
            statement = text(
                "select xid::text::bigint as xid, seq from changes order by changes.xid desc, seq desc limit 1"
            )
            row = connection.execute(statement).first()
        last = (row.xid, row.seq) if row else (0, 0)
        wait_for("the index is in step", lambda: self._position() >= last, seconds)

    def _position(self) -> tuple[int, int]:
        base = f"http://127.0.0.1:{self.environment['CHROMA_PORT']}/api/v2/tenants/default_tenant/databases"
        for collection in httpx.get(
            f"{base}/default_database/collections", params={"limit": 10_000}, trust_env=False
        ).json():
            if collection["name"] == "rag-position":
                return int(collection["metadata"]["xid"]), int(collection["metadata"]["seq"])
        return -1, -1


def engine(port: int, name: str = "rag") -> Engine:
    return create_engine(f"postgresql+psycopg2://postgres@127.0.0.1:{port}/{name}", pool_pre_ping=True)
