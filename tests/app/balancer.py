"""What browsers meet: real HAProxy as on a balancer, and the app host's door behind it, before an API that runs."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

from inventories.network import API, OpenDoor
from inventories.settings import Machine
from tasks.wants import TEMPLATES, rendered
from tests.app.doors import HAPROXY, certify
from tests.app.servers import Process, free_port, listens

MACHINE = Machine(name="app1", address=IPv4Address("127.0.0.1"), roles=frozenset({"app", "balancer"}))


@contextlib.contextmanager
def balancer(folder: Path, api: int, upload_bytes: int) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The port of the page, and what trusts it."""
    certify(folder)
    ports = {name: free_port() for name in ("http", "https", "api_door", "ollama_door", "inference_pool")}
    text = rendered(
        "proxy/haproxy.cfg.j2",
        machine=MACHINE,
        domain="rag.test",
        proxy=SimpleNamespace(certificate=folder / "proxy.crt"),
        web=SimpleNamespace(certificate=folder / "proxy.crt"),
        authority=folder / "ca.crt",
        ports=ports,
        upload_bytes=upload_bytes,
        apps=(MACHINE,),
        inferences=(),
        pushing=(),
        doors=[OpenDoor(ports["api_door"], replace(API, backend=api), ("app1",))],
        places=1,
        no_service=TEMPLATES / "proxy/no-service.http",
    ).decode()
    # Who it runs as and where it can be asked belong to a machine.
    text = re.sub(r"^    (user|group|log) .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"stats socket \S+", f"stats socket {folder / 'front.sock'}", text)
    file = folder / "front.cfg"
    file.write_text(text)
    assert HAPROXY
    process = Process([HAPROXY, "-db", "-f", str(file)], {}, folder / "front.log", lambda: listens(ports["https"]))
    trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    process.start()
    try:
        yield ports["https"], trust
    finally:
        process.stop()
