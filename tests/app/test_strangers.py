"""Uploads by those who may not: the answer comes before their bytes are read, and the line takes nothing else."""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.app.balancer import balancer
from tests.app.hosts import another_host
from tests.app.servers import wait_for
from tests.app.site import Person, Site

BYTES = 900_000
SENT = 20_000
HEAD = (
    "POST /api/v1/collections/{name}/documents HTTP/1.1\r\nHost: rag.test\r\n{more}"
    "Content-Type: multipart/form-data; boundary=b\r\n{length}\r\n"
)
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
Connect = Callable[[], contextlib.AbstractContextManager[socket.socket]]


@pytest.fixture(scope="module", params=["directly", "behind the balancer"])
def connect(site: Site, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    """How to reach the API."""
    port = urlsplit(site.base).port
    assert port
    if request.param == "directly":
        yield lambda: socket.create_connection(("127.0.0.1", port), 15)
        return
    with balancer(tmp_path_factory.mktemp("front"), port, 1_000_000) as (https, trust):

        def wrapped() -> ssl.SSLSocket:
            return trust.wrap_socket(socket.create_connection(("127.0.0.1", https), 15), server_hostname="app1")

        wait_for(
            "the balancer knows the API", lambda: _asked(wrapped, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")[0]
        )
        yield wrapped


def _asked(connect: Connect, sent: bytes) -> tuple[int, dict[str, Any], str]:
    """The status, the problem and the head of what is answered to these bytes, after which nothing is sent."""
    with connect() as line:
        line.sendall(sent)
        answer = line.makefile("rb")
        head = b"".join(iter(answer.readline, b"\r\n")).decode()
        length = next(int(row.split(":")[1]) for row in head.splitlines() if row.lower().startswith("content-length"))
        body = json.loads(answer.read(length))
        status = int(head.split()[1])
        # Whoever goes on sending finds nobody there; the balancer throws away what was on its way, and says goodbye.
        assert status < 400 or "connection: close" in head.lower() or answer.read(1) == b""
        return status, body, head


def upload(
    connect: Connect, name: str, token: str | None, length: str = f"Content-Length: {BYTES}\r\n"
) -> tuple[int, dict[str, Any], str]:
    """An upload of which only the first part is sent."""
    more = f"Authorization: Bearer {token}\r\n" if token else ""
    body = PART + b"x" * SENT
    if "chunked" in length:
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    return _asked(connect, HEAD.format(name=name, more=more, length=length).encode() + body)


def test_a_stranger_hears_so_before_the_bytes_are_there(connect: Connect, collection: str) -> None:
    for token in (None, "forged"):
        for length in (f"Content-Length: {BYTES}\r\n", "Transfer-Encoding: chunked\r\n"):
            status, problem, _ = upload(connect, collection, token, length)

            assert (status, problem["status"]) == (401, 401)


def test_who_may_not_write_there_or_sends_too_much_hears_so_before_the_bytes_are_there(
    site: Site, connect: Connect, admin: Person, collection: str
) -> None:
    other, reader = site.add_user(), site.add_user()
    name = reader.get("/api/v1/me")["name"]
    grant = f"/api/v1/collections/{collection}/grants/users/{name}"
    assert admin.call("PUT", grant, json={"permission": "read"}).status_code < 300

    assert upload(connect, collection, other.token)[0] == 404
    assert upload(connect, collection, reader.token)[0] == 403
    assert upload(connect, collection, admin.token, "Content-Length: 20000000\r\n")[0] == 413


def test_who_uploads_too_often_hears_so_before_the_bytes_are_there(site: Site, admin: Person, collection: str) -> None:
    with another_host(site, uploads_per_minute=1) as host:
        port = host.base_url.port
        assert port
        body = {"file": ("a.txt", b"The gate opens at nine.")}
        there = Person(host, site.add_user().token)
        mine = there.make_collection()

        def line() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), 15)

        answers = [there.call("POST", f"/api/v1/collections/{mine}/documents", files=body).status_code]
        status, problem, head = upload(line, mine, there.token)
        # Where a minute ended in between, the next one is as full.
        if status != 429:
            status, problem, head = upload(line, mine, there.token)

    assert answers == [202]
    assert status == 429
    assert "retry-after" in head.lower()
    assert problem["retry_after"] > 0


@pytest.mark.parametrize(
    "sent",
    [
        {"files": {"other": ("a.txt", b"text")}},
        {"data": {"file": "text"}},
        {"content": b"text", "headers": {"content-type": "text/plain"}},
        {"files": [("file", ("a.txt", b"one")), ("file", ("b.txt", b"two"))]},
    ],
)
def test_an_upload_without_its_one_file_says_what_is_needed(
    admin: Person, collection: str, sent: dict[str, Any]
) -> None:
    headers = {"authorization": f"Bearer {admin.token}", **sent.pop("headers", {})}
    answer = admin.http.post(f"/api/v1/collections/{collection}/documents", headers=headers, **sent)

    assert answer.status_code in {400, 422}
    assert "multipart" in answer.text or "form" in answer.text
