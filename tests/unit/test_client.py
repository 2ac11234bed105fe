"""The Python client against a platform that says what the test wants, and its wheel on a computer that has nothing."""

import re
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.client import Client, Problem, UnreachableError
from app.client.upload import SUFFIXES, sources
from tests.unit.sites import ROOT


@dataclass
class Said:
    """What the platform answers, in turn; the last one ever after."""

    status: int
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Platform:
    url: str
    says: list[Said] = field(default_factory=list)
    heard: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def platform() -> Iterator[Platform]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            made.heard.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, sent))
            said = made.says.pop(0) if len(made.says) > 1 else made.says[0]
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said.body.encode())))
            self.end_headers()
            self.wfile.write(said.body.encode())

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Platform(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


BUSY = Said(503, '{"detail": "answer = no free place", "help": "ask again", "request_id": "r1"}', {"Retry-After": "0"})
MADE = Said(201, '{"name": "manuals", "permission": "manage"}')


def test_a_write_that_is_told_to_come_again_comes_again_as_the_same_write(platform: Platform) -> None:
    platform.says = [BUSY, Said(429, "", {"Retry-After": "0"}), MADE, MADE]

    with Client(platform.url, "secret") as client:
        made = client.add_collection("manuals")
        client.add_collection("manuals")

    keys = [headers["idempotency-key"] for _, _, headers, _ in platform.heard]
    assert made.name == "manuals"
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert platform.heard[0][2]["authorization"] == "Bearer secret"


def test_an_upload_that_comes_again_is_whole_and_its_progress_adds_up(platform: Platform) -> None:
    document = '{"id": "8c6f3c1e-0000-4000-8000-000000000000", "title": "", "file_name": "a.txt", "media_type": "",'
    document += ' "sha256": "", "size": 5, "state": "queued", "created_at": "2026-01-01T00:00:00Z",'
    document += ' "changed_at": "2026-01-01T00:00:00Z"}'
    platform.says = [BUSY, Said(202, document)]
    told: list[int] = []

    with Client(platform.url) as client:
        client.upload("manuals", "a.txt", b"Hello", told.append)

    bodies = [body.split(b"\r\n\r\n")[1][:5] for _, _, _, body in platform.heard]
    assert bodies == [b"Hello", b"Hello"]
    assert sum(told) == 5


def test_patience_ends_with_the_problem_itself(platform: Platform) -> None:
    platform.says = [Said(503, BUSY.body, {"Retry-After": "2"})]

    with Client(platform.url, patience=1) as client, pytest.raises(Problem) as raised:
        client.collection("manuals")

    problem = raised.value
    assert (problem.status, problem.detail, problem.request_id) == (503, "answer = no free place", "r1")
    assert str(problem) == "answer = no free place; ask again"
    assert len(platform.heard) == 1


def test_another_refusal_is_told_at_once_and_one_without_a_document_too(platform: Platform) -> None:
    platform.says = [Said(404, "<html>"), Said(409, "[]")]

    with Client(platform.url) as client:
        for status in (404, 409):
            with pytest.raises(Problem) as raised:
                client.collection("manuals")
            assert raised.value.status == status

    assert len(platform.heard) == 2


def test_a_long_list_is_read_page_by_page(platform: Platform) -> None:
    page = '{{"items": [{{"name": "{}", "permission": "read"}}], "next": {}}}'
    platform.says = [Said(200, page.format("a", '"x/y&z"')), Said(200, page.format("b", "null"))]

    with Client(platform.url) as client:
        assert [one.name for one in client.collections()] == ["a", "b"]

    assert platform.heard[1][1] == "/api/v1/collections?after=x%2Fy%26z"


def test_a_name_cannot_lead_to_another_path(platform: Platform) -> None:
    platform.says = [MADE]

    with Client(platform.url) as client:
        client.collection("../users?x=")

    assert platform.heard[0][1] == "/api/v1/collections/..%2Fusers%3Fx%3D"


def test_nobody_there_is_said_at_once() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(UnreachableError, match=r"^http://127\.0\.0\.1:1 = "):
        client.collection("manuals")


@pytest.mark.parametrize("url", ["http://rag.example.org", "rag.example.org", "ftp://127.0.0.1"])
def test_a_secret_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        Client(url, "secret")


def test_a_folder_gives_its_readable_files_each_with_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.md", "deep/a.md", "deep/er/b.PDF", "photo.jpg", ".hidden.md", ".git/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    found = {source.name: source.file for source in sources([tmp_path])}

    assert set(found) == {"a.md", "deep - a.md", "deep - er - b.PDF"}
    assert found["deep - a.md"] == tmp_path / "deep/a.md"
    assert "photo.jpg: skipped" in capsys.readouterr().err


def test_of_a_folder_the_client_sends_what_the_platform_reads() -> None:
    told = re.findall(r'"(\.\w+)"', (ROOT / "app/ingest/formats.py").read_text())

    assert set(told) == SUFFIXES


@pytest.fixture(scope="module")
def wheel() -> Path:
    made = subprocess.run(
        ["make", "-o", "setup", "client", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"build/rag_client-\S+\.whl", made.stdout)
    assert found
    return ROOT / found[0]


def test_the_wheel_brings_the_command_and_asks_for_what_it_uses(wheel: Path, tmp_path: Path) -> None:
    def run(*command: str, **environment: str) -> str:
        return subprocess.run(
            command, env=environment or None, check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout

    run(sys.executable, "-m", "venv", "empty")
    run("empty/bin/pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))

    # Its libraries are lent by this computer; nothing of the checkout is among them.
    lent = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": "/usr/bin:/bin"}
    helped = run("empty/bin/rag", "--help", **lent)
    run("empty/bin/python", "-c", "import app.client.measure", **lent)
    shown = run("empty/bin/pip", "show", "rag-client")

    assert "upload" in helped
    requires = re.search(r"^Requires: (.*)$", shown, re.MULTILINE)
    assert requires
    assert set(requires[1].split(", ")) == {"httpx", "pydantic", "rich"}


def test_both_packages_have_one_version_and_one_command() -> None:
    whole, client = (
        tomllib.loads((ROOT / where).read_text())["project"]
        for where in ("pyproject.toml", "app/client/pyproject.toml")
    )

    assert client["version"] == whole["version"]
    assert client["scripts"] == whole["scripts"]
    assert set(client["dependencies"]) <= set(whole["dependencies"])
