"""A primary with its replica, and an API with a worker that know both."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, text

from tests.app.conftest import make_database
from tests.app.servers import PostgreSQL, Process, free_port, ours, postgresql, replica_of, wait_for
from tests.app.site import PASSWORD, Person, Site

# Every commit is on the replica before it is acknowledged, as on a site.
SYNCHRONOUS = "-c synchronous_standby_names=*"


@dataclass
class Pair:
    """A primary, its replica, and an API with a worker that know both."""

    primary: PostgreSQL
    replica: PostgreSQL
    http: httpx.Client
    worker: Process
    token: str

    @property
    def admin(self) -> Person:
        return Person(self.http, self.token)

    def rows(self, statement: str) -> list[Any]:
        """Asked on the replica."""
        asking: Engine = create_engine(
            f"postgresql+psycopg2://postgres@{self.replica.address}:{self.replica.port}/rag",
        )
        with asking.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(statement))]
        asking.dispose()
        return found


@contextmanager
def pair_of(site: Site, settings: str = SYNCHRONOUS, **database: int) -> Iterator[Pair]:
    """Both running, the replica in step; ``database`` are settings of the program's."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rag-pair-")))
        primary = stack.enter_context(postgresql(folder))
        asking = create_engine(f"postgresql+psycopg2://postgres@{primary.address}:{primary.port}/postgres")
        with asking.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            make_database(connection)
        asking.dispose()
        replica = stack.enter_context(replica_of(primary, folder))
        primary.stop()
        primary = PostgreSQL(primary.data, primary.port, primary.programs, settings=settings)
        primary.start()

        environment, ports = configured(site, folder, primary.port, database)
        migrated = site.run("app.store.migrate", **environment)
        assert migrated.returncode == 0, migrated.stderr
        # Until then the API would not be let in there, and keep to the primary.
        may_connect = "select has_database_privilege('rag_read', 'rag', 'connect')"
        wait_for("the replica shows the schema", lambda: asked(replica, may_connect) == [True], 30)
        environment = {**site.environment, **environment}
        command = ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"]
        base = f"http://127.0.0.1:{ports['api']}"
        api = ours(command, environment, folder / "api.log", f"{base}/health/live")
        metrics = f"http://127.0.0.1:{ports['worker_metrics']}"
        worker = ours(["app.ingest"], environment, folder / "worker.log", metrics)
        for process in (api, worker):
            stack.callback(process.stop)
            process.start()
        http = stack.enter_context(httpx.Client(base_url=base, timeout=60, trust_env=False))
        answer = http.post("/api/v1/token", data={"username": "admin", "password": PASSWORD})
        yield Pair(primary, replica, http, worker, answer.json()["access_token"])


def configured(site: Site, folder: Path, port: int, database: dict[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    ports = {name: free_port() for name in ("api", "worker_metrics", "index_metrics")}
    lines = []
    for line in (site.folder / "rag.toml").read_text().splitlines():
        name = line.partition(" = ")[0]
        if name in ports:
            lines.append(f"{name} = {ports[name]}")
        elif name == "hosts":
            lines.append('hosts = ["127.0.0.1", "127.0.0.2"]')
        elif line == f"port = {site.postgresql.port}":
            lines.append(f"port = {port}")
        elif line == "[database]":
            lines += [line, *(f"{setting} = {value}" for setting, value in database.items())]
        elif name in database:
            continue
        else:
            lines.append(line)
    (folder / "rag.toml").write_text("\n".join(lines))
    return {"RAG_CONFIG": str(folder / "rag.toml"), "RUNTIME_DIRECTORY": str(folder / "run")}, ports


def asked(server: PostgreSQL, statement: str) -> list[object]:
    pool = create_engine(f"postgresql+psycopg2://postgres@{server.address}:{server.port}/rag")
    with pool.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = list(connection.execute(text(statement)).scalars())
    pool.dispose()
    return found


def pause(replica: PostgreSQL) -> None:
    """It goes on taking what the primary sends, and shows none of it."""
    asked(replica, "select pg_wal_replay_pause()::text")
    state = "select pg_get_wal_replay_pause_state()"
    wait_for("the replay pauses", lambda: asked(replica, state) == ["paused"])
