"""Two inference hosts behind their doors and an app host's way to them: real HAProxy, configured as on a site."""

import contextlib
import csv
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from inventories.network import OLLAMA, OpenDoor
from inventories.settings import Machine, Site, Ssh
from tasks.wants import TEMPLATES, rendered
from tests.app.ollama_standin import OllamaStandin
from tests.app.servers import Process, free_port, listens

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleKeyOfOneOperatorReplaceItWithYourOwn operator@example.org"
PLACES = 2
APP = Machine(name="app1", address=IPv4Address("127.0.0.1"), roles=frozenset({"app"}))
HOSTS = tuple(
    Machine(name=f"gpu{n}", address=IPv4Address(f"127.0.0.{n + 1}"), roles=frozenset({"inference"})) for n in (1, 2)
)


@dataclass
class Doors:
    """The pool's address, what is behind it, and a client that another app host's would look like."""

    pool: str
    ollamas: list[OllamaStandin]
    other: list[httpx.Client]
    folder: Path

    def queued(self, host: int, share: str) -> int:
        """How many requests wait at that door."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / f"{HOSTS[host].name}.sock"))
            control.sendall(b"show stat\n")
            text = b"".join(iter(lambda: control.recv(65536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        # Who has no server yet waits in the backend's line, the others in a server's.
        return sum(int(row["qcur"] or 0) for row in rows if row["pxname"] == f"ollama_{share}")


@contextlib.contextmanager
def doors(folder: Path, patience: int) -> Iterator[Doors]:
    """All of it, running; a request waits ``patience`` seconds for its turn at a door."""
    ollamas = [OllamaStandin() for _ in HOSTS]
    port, pool = free_port(), free_port()
    certify(folder)
    shares = tuple(replace(share, patience=patience) for share in OLLAMA.shares)
    with ExitStack() as stack:
        for machine, ollama in zip(HOSTS, ollamas, strict=True):
            door = OpenDoor(port, replace(OLLAMA, backend=ollama.port, shares=shares), ("app1", "app2"))
            _run(stack, folder, machine, [door], port, pool)
        _run(stack, folder, APP, [], port, pool)
        trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        trust.load_cert_chain(folder / "proxy.crt", folder / "proxy.key")
        trust.check_hostname = False
        other = [
            stack.enter_context(
                httpx.Client(base_url=f"https://{machine.address}:{port}", verify=trust, timeout=60, trust_env=False)
            )
            for machine in HOSTS
        ]
        yield Doors(f"http://127.0.0.1:{pool}", ollamas, other, folder)
        for ollama in ollamas:
            ollama.stop()


def chat(client: httpx.Client | str, **more: Any) -> httpx.Response:
    """A question to the model, as the application sends it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "options": {"num_ctx": 2048}, **more}
    if isinstance(client, str):
        return httpx.post(f"{client}/api/chat", json=body, timeout=60, trust_env=False)
    return client.post("/api/chat", json=body)


def _run(stack: ExitStack, folder: Path, machine: Machine, open_: list[OpenDoor], port: int, pool: int) -> None:
    site = Site(
        name="doors",
        domain="rag.test",
        machines=(
            Machine(
                name="db1", address=IPv4Address("127.0.0.9"), roles=frozenset({"etcd", "database", "app", "balancer"})
            ),
            *HOSTS,
        ),
        operators=(IPv4Network("127.0.0.0/8"),),
        users=(IPv4Network("127.0.0.0/8"),),
        ssh=Ssh(authorized_keys=(KEY,)),
    )
    text = rendered(
        "proxy/haproxy.cfg.j2",
        machine=machine,
        domain=site.domain,
        proxy=SimpleNamespace(certificate=folder / "proxy.crt"),
        web=SimpleNamespace(certificate=folder / "proxy.crt"),
        authority=folder / "ca.crt",
        ports={**dict.fromkeys(("http", "https", "api_door"), 1), "ollama_door": port, "inference_pool": pool},
        upload_bytes=1,
        apps=(),
        inferences=site.having("inference"),
        pushing=(),
        doors=open_,
        places=PLACES,
        no_service=TEMPLATES / "proxy/no-service.http",
    ).decode()
    # Who it runs as and where it can be asked belong to a machine.
    text = re.sub(r"^    (user|group|log) .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"stats socket \S+", f"stats socket {folder / machine.name}.sock", text)
    file = folder / f"{machine.name}.cfg"
    file.write_text(text)
    assert HAPROXY
    where = (open_[0].port, str(machine.address)) if open_ else (pool, "127.0.0.1")
    process = Process([HAPROXY, "-db", "-f", str(file)], {}, folder / f"{machine.name}.log", lambda: listens(*where))
    stack.callback(process.stop)
    process.start()


def certify(folder: Path) -> None:
    """One certificate for everybody, of a CA that all trust."""
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = "subjectAltName=DNS:gpu1,DNS:gpu2,DNS:app1"
    commands = (
        ("req", "-x509", *made, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test", "-days", "2"),
        ("req", *made, "-keyout", "proxy.key", "-out", "proxy.csr", "-subj", "/OU=proxy/CN=app1", "-addext", names),
        (
            "x509",
            "-req",
            "-in",
            "proxy.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-out",
            "proxy.crt",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
        ),
    )
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
