"""The application on the restored database: its settings, its role, and the way to the inference hosts."""

import json
import secrets
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.backup import settings as of_backups
from app.backup.drill.database import connected
from app.backup.drill.place import free_port
from app.backup.recovered import Listen, Server
from app.settings import Settings

ROLE = "rag_drill"
USER = "drill"
# In its own namespace nobody else is there, and without one a password keeps the others of this machine out.
LISTEN = Listen("127.0.0.1", (f"host rag {ROLE} 127.0.0.1/32 scram-sha-256",))


@dataclass(frozen=True)
class Stack:
    """What the drill's application runs with; secrets are made anew for each drill."""

    settings: Settings
    file: Path
    secrets: Mapping[str, str]


def made(settings: of_backups.Settings, server: Server, folder: Path) -> Stack:
    """Settings for the restored database, and a role in it that may use it."""
    password = secrets.token_urlsafe(32)
    with connected(server) as cursor:
        cursor.execute(f"create role {ROLE} login superuser password %s", (password,))
    inference = settings.drill.inference.model_dump() | {"url": f"http://127.0.0.1:{free_port()}"}
    tables: dict[str, dict[str, Any]] = {
        "listen": {"api": free_port(), "worker_metrics": free_port(), "index_metrics": free_port(), "processes": 1},
        "database": {"hosts": ["127.0.0.1"], "port": server.port, "user": ROLE, "statement_seconds": 60},
        "chroma": {"port": free_port(), "deadline_seconds": 60},
        "inference": inference,
        "answering": {"language": settings.drill.language},
    }
    text = 'domain = "drill.invalid"\n' + "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    file = folder / "rag.toml"
    file.write_text(text)
    made = Settings.model_validate({"domain": "drill.invalid", **tables})
    return Stack(made, file, {"database-password": password, "token-key": secrets.token_urlsafe(48)})


class _Relay(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    door = ""


class _Caller(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as pool:
            try:
                pool.connect(getattr(self.server, "door", ""))
            except OSError:
                # Nobody is behind the door: the caller hears it as from a host that hung up.
                return
            back = threading.Thread(target=_copy, args=(pool, self.request), daemon=True)
            back.start()
            _copy(self.request, pool)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever hung up ends both ways.
        for one in (source, target):
            one.close()


@contextmanager
def relay(door: str, port: int) -> Iterator[None]:
    """The pool's socket as a port on loopback: the drill has no network, and a socket needs none."""
    with _Relay(("127.0.0.1", port), _Caller) as server:
        server.door = door
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
