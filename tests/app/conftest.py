"""The site under test, made once: every server real but Ollama."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import Connection, text

from app.backup import leftovers
from tests.app import formats, recoverable
from tests.app.browser import Window, chromium, window
from tests.app.idp import Provider, platform, provider
from tests.app.ollama_standin import OllamaStandin
from tests.app.recoverable import Backup
from tests.app.servers import chroma, free_port, ours, postgresql
from tests.app.site import PASSWORD, Models, Person, Site, engine
from tests.app.wire import Wire, behind_wire

CONFIGURATION = """
domain = "rag.test"
[listen]
api = {api}
worker_metrics = {worker}
index_metrics = {index}
processes = 1
[database]
hosts = ["127.0.0.1"]
port = {postgresql}
owner = "rag_owner"
reader = "rag_read"
pool_size = 8
write_seconds = 4
[chroma]
port = {chroma}
deadline_seconds = 10
[inference]
url = "{url}"
chat_model = "{chat}"
embedding_model = "{embedding}"
embedding_dimension = {dimension}
num_ctx = {num_ctx}
query_prefix = "{query_prefix}"
document_prefix = "{document_prefix}"
max_in_flight = 2
queue_seconds = 0.5
[index]
poll_seconds = 0.5
[upload]
max_bytes = 1000000
[limits]
questions_per_minute = 0
searches_per_minute = 0
uploads_per_minute = 0
sign_ins_per_minute = 0
wrong_keys_per_minute = 0
[quota]
bytes_per_person = 0
documents_per_person = 0
[ingest]
lease_seconds = 2
retry_seconds = 0.5
poll_seconds = 0.5
embed_batch = 4
"""


# The servers believe whoever comes over loopback.
PASSWORDS = ("database-password", "database-owner-password", "database-read-password")
SECRETS = {**dict.fromkeys(PASSWORDS, "unused on loopback"), "token-key": "k" * 40, "admin-password": PASSWORD}


def make_database(connection: Connection) -> None:
    """The roles and the database that the application finds on a site."""
    for role in ("rag_owner", "rag", "rag_read"):
        connection.execute(text(f"create role {role} login"))
    connection.execute(text("create database rag owner rag_owner"))
    connection.execute(text("revoke all on database rag from public"))


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with whole_site() as made:
        yield made


@contextmanager
def whole_site(models: Models | None = None) -> Iterator[Site]:
    """The site, ready; gone at the end. Its models are a small stand-in's, unless others are named."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rag-app-")))
        ollama = OllamaStandin()
        port = {name: free_port() for name in ("api", "worker", "index", "chroma")}
        server = stack.enter_context(postgresql(folder))
        port["postgresql"] = server.port
        admin = engine(port["postgresql"], "postgres").execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            make_database(connection)
        environment = _environment(folder, port, models or Models(ollama.url))
        worker = ours(["app.ingest"], environment, folder / "worker.log", f"http://127.0.0.1:{port['worker']}")
        index = ours(["app.index"], environment, folder / "index.log", f"http://127.0.0.1:{port['index']}")
        base = f"http://127.0.0.1:{port['api']}"
        command = ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"]
        api = ours(command, environment, folder / "api.log", f"{base}/health/live")
        made = Site(
            folder=folder,
            environment=environment,
            # gunicorn ends a connection that was idle for two seconds, as while a test looks at a page.
            http=httpx.Client(base_url=base, timeout=30, trust_env=False, limits=httpx.Limits(keepalive_expiry=1)),
            postgresql=server,
            database=engine(port["postgresql"]),
            ollama=ollama,
            chroma=chroma(folder, port["chroma"]),
            worker=worker,
            index=index,
            api=api,
        )
        for process in (made.chroma, worker, index, api):
            stack.callback(process.stop)
            process.launch()
        migrated = made.run("app.store.migrate")
        assert migrated.returncode == 0, migrated.stderr
        made.wait_until_ready()
        yield made


@pytest.fixture(autouse=True)
def healthy(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test broke is mended before the next."""
    yield
    if "site" in request.fixturenames:
        site: Site = request.getfixturevalue("site")
        site.ollama.reset()
        for process in (site.chroma, site.worker, site.index, site.api):
            if not process.running:
                process.launch()
        site.wait_until_ready()


@pytest.fixture
def admin(site: Site) -> Person:
    return site.sign_in()


@pytest.fixture
def collection(admin: Person) -> str:
    return admin.make_collection()


@pytest.fixture
def contract(site: Site, admin: Person, collection: str) -> str:
    """A collection with the contract in it, searchable."""
    admin.settled(admin.upload(collection, "contract.pdf", formats.contract("contract.pdf")))
    site.wait_until_in_step()
    return collection


# Beside it nothing of asyncio runs in this thread, so it must not live on into the other files.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def colleague(browser: Browser, site: Site) -> Iterator[Window]:
    """A window in which somebody has signed in; nothing may go wrong in it."""
    with window(browser, site.base) as opened:
        opened.sign_in()
        yield opened


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider whose people sign in at the site."""
    with provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def http(site: Site, there: Provider) -> Iterator[httpx.Client]:
    """The platform where they do."""
    with platform(site, there) as client:
        yield client


@pytest.fixture
def honest(there: Provider) -> Iterator[None]:
    """What a test let the provider do, it does no longer."""
    yield
    if not there.process.running:
        there.process.start()
    there.forges()


@pytest.fixture
def names(site: Site) -> Iterator[None]:
    """What people of the provider are called is free again."""
    yield
    with site.database.begin() as connection:
        connection.execute(text("delete from users where id in (select user_id from identities)"))


@pytest.fixture(scope="module")
def cable(site: Site) -> Iterator[Wire]:
    made = Wire(site.postgresql.port)
    yield made
    made.close()


@pytest.fixture
def wire(cable: Wire) -> Iterator[Wire]:
    """A line to PostgreSQL that a test may let lose answers."""
    yield cable
    cable.losing = False


@pytest.fixture(scope="module")
def api(site: Site, cable: Wire) -> Iterator[httpx.Client]:
    """Another API of the same site, behind that line."""
    port = free_port()
    command = ["gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"]
    process = behind_wire(site, cable, command, port)
    process.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        yield client
    process.stop()


def _environment(folder: Path, port: dict[str, int], models: Models) -> dict[str, str]:
    (folder / "rag.toml").write_text(CONFIGURATION.format(**port, **asdict(models)))
    for name, secret in SECRETS.items():
        (folder / name).write_text(secret)
    return {
        "PATH": os.environ["PATH"],
        "RAG_CONFIG": str(folder / "rag.toml"),
        "CREDENTIALS_DIRECTORY": str(folder),
        "RUNTIME_DIRECTORY": str(folder / "run"),
        "CHROMA_PORT": str(port["chroma"]),
    }


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder into which PostgreSQL's user comes, too."""
    with tempfile.TemporaryDirectory(prefix="rag-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def backup(place: Path) -> Backup:
    """Whole, and nobody's to spoil."""
    folder = place / "made"
    folder.mkdir()
    return recoverable.made(folder)


@pytest.fixture
def copied(backup: Backup, place: Path) -> Iterator[Backup]:
    """A backup that a test may spoil, and whose server ends with it."""
    folder = place / "spoilt"
    folder.mkdir()
    for name, source in (("base", backup.base), ("wal", backup.wal)):
        subprocess.run(["cp", "-a", str(source), str(folder / name)], check=True)
    yield Backup(folder / "base", folder / "wal", backup.moments)
    leftovers.end_left(folder)
    shutil.rmtree(folder)


@pytest.fixture
def pki(copied: Backup) -> Path:
    """A folder that PostgreSQL's user may fill."""
    folder = copied.base.parent / "pki"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    return folder
