"""A line to PostgreSQL on which the answer to a COMMIT gets lost, after the server has done what it says."""

import contextlib
import select
import socket
import threading
from typing import Any
from uuid import UUID

from sqlalchemy import text

from tests.app.servers import Process, ours
from tests.app.site import Site

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class Wire:
    """Listens on a loopback port; while ``losing``, every other COMMIT is done and never answered."""

    def __init__(self, port: int) -> None:
        self.losing = False
        self.lost = 0
        self._commits = 0
        self._lock = threading.Lock()
        self._target = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_every_other(self) -> None:
        """From now on; the next one is the first that is lost."""
        self.losing, self.lost, self._commits = True, 0, 0

    def close(self) -> None:
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._door.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    if not (data := end.recv(65536)):
                        return
                    (server if end is client else client).sendall(data)
                    if end is client and data.endswith(COMMIT) and self._is_lost():
                        server.recv(65536)
                        return

    def _is_lost(self) -> bool:
        with self._lock:
            self._commits += self.losing
            lost = self.losing and self._commits % 2 == 1
            self.lost += lost
            return lost


def configuration_behind(site: Site, wire: Wire, api_port: int) -> str:
    given = (site.folder / "rag.toml").read_text().replace(f"port = {site.postgresql.port}", f"port = {wire.port}")
    api = site.http.base_url.port
    path = site.folder / f"wire-{api_port}.toml"
    path.write_text(
        given.replace(f"api = {api}", f"api = {api_port}").replace("write_seconds = 4", "write_seconds = 20")
    )
    return str(path)


def behind_wire(site: Site, wire: Wire, command: list[str], port: int) -> Process:
    own = {"RAG_CONFIG": configuration_behind(site, wire, port), "RUNTIME_DIRECTORY": str(site.folder / f"run-{port}")}
    return ours(command, {**site.environment, **own}, site.folder / "wire.log", f"http://127.0.0.1:{port}/health/live")


def rows(site: Site, statement: str, **values: Any) -> list[Any]:
    with site.database.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), values)]


def told(site: Site, document: dict[str, Any]) -> list[str]:
    statement = "select kind || ' ' || passages from changes where document_id = :id order by xid, seq"
    return [row[0] for row in rows(site, statement, id=UUID(document["id"]))]
