"""The parser's process: what a document that takes it over gets."""

import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.inference import worker_client
from app.ingest import landlock, sandbox
from app.ingest import worker as worker_module
from app.ingest.embed import Worker
from app.ingest.outline import UnreadableError
from app.ingest.parse import parse, read
from app.ingest.split import Size
from app.ingest.worker import work_once
from app.settings import Ingest, load
from app.store.database import engine
from tests.app import intruder, office
from tests.app.servers import ROOT, wait_for
from tests.app.site import Person, Site

LIMITS = Ingest().limits
WORKBOOK = office.workbook({"a": [["b"]]})


def test_a_parser_that_was_taken_over_reaches_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(0)
        # In the place of the library that reads workbooks.
        (tmp_path / "openpyxl.py").write_text(
            f'import socket\ndef load_workbook(*_, **__):\n    socket.create_connection(("127.0.0.1", {port}), 5)\n'
        )
        monkeypatch.syspath_prepend(str(tmp_path))

        with pytest.raises(UnreadableError, match=r"^a\.xlsx = not readable \(PermissionError\)"):
            parse(WORKBOOK, "a.xlsx", LIMITS)

        with pytest.raises(BlockingIOError):
            listener.accept()
        with socket.create_connection(("127.0.0.1", port), 5):
            assert listener.accept()


def test_where_the_parser_cannot_shut_itself_in_nothing_is_parsed() -> None:
    program = (
        "from app.ingest.parse import parse; from app.ingest.sandbox import OpenDoorError\n"
        "from app.settings import Ingest\n"
        "try: print(parse(b'The cellar key hangs behind the door.', 'a.txt', Ingest().limits))\n"
        "except OpenDoorError as error: print(error)\n"
    )
    none_left = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'

    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", none_left, "sh", sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )

    assert done.stdout.decode() == (
        "parser = no network namespace of its own (No space left on device); sysctl user.max_user_namespaces\n"
    )


def test_a_parser_that_was_taken_over_has_no_rights_and_may_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit counts for nobody who is root, as whoever tests may be.
    (tmp_path / "openpyxl.py").write_text(
        "import ctypes, resource\nfrom app.ingest.outline import UnreadableError\n"
        "def load_workbook(*_, **__):\n"
        "    libc, rights = ctypes.CDLL(None), (ctypes.c_uint32 * 6)()\n"
        "    libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), rights)\n"
        "    most = resource.getrlimit(resource.RLIMIT_NPROC)\n"
        "    raise UnreadableError(f'{list(rights)} {libc.prctl(39, 0, 0, 0, 0)} {most}')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnreadableError, match=r"^\[0, 0, 0, 0, 0, 0\] 1 \(0, 0\)$"):
        parse(WORKBOOK, "a.xlsx", LIMITS)


@pytest.mark.parametrize("said", [b"x" * 65536, b'{"text": "a", "headings": [], "place": {}}' + b" " * 65536 + b"\n"])
def test_a_parser_that_talks_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    (tmp_path / "openpyxl.py").write_text(
        'import os\ndef load_workbook(*_, **__):\n    os.write(1, b\'{"title": "a"}\\n\')\n'
        f"    while True:\n        os.write(1, {said!r})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnreadableError, match=r"^a\.xlsx = over \d+ bytes of text"):
        read(WORKBOOK, "a.xlsx", LIMITS, Size(200, 30))


# Each of them is within the most that is read of a parser, and would be gigabytes of lists and texts.
FLOODS = {
    "brackets": (
        'os.write(1, b\'{"title": "a", "pieces": [\')\n    for n in range(500):\n'
        "        os.write(1, b'[],' * 100000)\n    os.write(1, b'[]]}')\n    os._exit(0)"
    ),
    "brackets in lines": (
        'os.write(1, b\'{"title": "a"}\\n\')\n'
        "    while True:\n        os.write(1, b'{\"text\": [' + b'[],' * 40000 + b'[]]}\\n')"
    ),
    "headings": (
        'os.write(1, b\'{"title": "a"}\\n\')\n    for n in range(200000):\n'
        "        head = ','.join(f'\"{n}{n % 7}{a}\\U0001f600{\"b\" * 280}\"' for a in 'abcdefghijkl')\n"
        '        os.write(1, f\'{{"text": "a", "headings": [{head}], "place": {{}}}}\\n\'.encode())'
    ),
}
READS = """
import os, resource, sys
from app.ingest.outline import UnreadableError
from app.ingest.parse import parse, read
from app.ingest.split import Size
from app.settings import Ingest
parse(b"Nothing but words.", "a.txt", Ingest().limits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(sys.stdin.buffer.read(), "a.xlsx", Ingest().limits, Size(200, 30))
except UnreadableError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("flood", FLOODS)
def test_what_a_parser_that_was_taken_over_says_does_not_fill_the_workers_memory(tmp_path: Path, flood: str) -> None:
    (tmp_path / "openpyxl.py").write_text(f"import os\ndef load_workbook(*_, **__):\n    {FLOODS[flood]}\n")

    done = subprocess.run(
        [sys.executable, "-c", READS],
        input=WORKBOOK,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=True,
        cwd=ROOT,
    )

    told, kilobytes = done.stdout.decode().splitlines()
    assert told.startswith("a.xlsx = ")
    assert int(kilobytes) < 256 * 1024


def test_a_parser_that_was_taken_over_reaches_no_secret_no_database_and_no_other_process(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries, folder = tmp_path / "libraries", tmp_path / "folder"
    for one in (libraries, folder):
        one.mkdir()
    (libraries / "intruder.py").write_text((ROOT / "tests/app/intruder.py").read_text())
    (libraries / "openpyxl.py").write_text(
        "import pathlib\nfrom app.ingest.outline import UnreadableError\nimport intruder\n"
        "def load_workbook(*_, **__):\n"
        "    aims = (pathlib.Path(__file__).parent / 'aims').read_text()\n"
        "    raise UnreadableError(f'went through: {intruder.went_through(aims)}')\n"
    )
    aims = {
        "folder": str(folder),
        "secret": str(site.folder / "database-password"),
        "settings": str(site.folder / "rag.toml"),
        "repository": str(ROOT / "pyproject.toml"),
        "passwords": "/etc/passwd",
        "port": str(site.postgresql.port),
        "socket": str(folder / "socket"),
    }
    (libraries / "aims").write_text(json.dumps(aims))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(aims["socket"])
        listener.listen()
        monkeypatch.syspath_prepend(str(libraries))
        for name in ("kept", "doomed"):
            (folder / name).touch()
        with pytest.raises(UnreadableError) as told:
            parse(WORKBOOK, "a.xlsx", LIMITS)
        # Each of them goes through where nobody is shut in.
        control = subprocess.run(
            [sys.executable, "-c", f"import intruder; print(len(intruder.went_through({json.dumps(aims)!r})))"],
            env={"PYTHONPATH": str(libraries)},
            capture_output=True,
            check=True,
        )

    assert str(told.value) == "went through: []"
    assert int(control.stdout) == len(intruder.attempts(aims))


def test_where_the_kernel_keeps_no_files_from_the_parser_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(number: int, *_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(landlock, "_call", refused)
    with pytest.raises(sandbox.OpenDoorError, match=r"^parser = the worker's files within its reach \(Operation not"):
        sandbox._leave_the_files()


def test_a_document_whose_parser_alone_says_that_it_is_not_shut_in_is_not_read_for_ever(
    site: Site, admin: Person, collection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openpyxl.py").write_text(
        "import json, os\ndef load_workbook(*_, **__):\n"
        "    os.write(1, json.dumps({'open': 'the\\a machine'}).encode())\n    os._exit(0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    monkeypatch.setenv("RAG_CONFIG", site.environment["RAG_CONFIG"])
    site.worker.stop()
    settings = load()
    ingest = settings.ingest.model_copy(update={"retry_seconds": 0.01})
    settings = settings.model_copy(update={"ingest": ingest})
    primary = engine(settings.database, "read-write")
    worker = Worker(settings, primary, worker_client(settings.inference), threading.Event())
    document = admin.upload(collection, "a.xlsx", WORKBOOK)

    def given_up() -> bool:
        work_once(worker)
        return bool(admin.get(f"/api/v1/documents/{document['id']}")["state"] == "failed")

    try:
        work_once(worker)
        assert admin.get(f"/api/v1/documents/{document['id']}")["error"] == "waiting: the machine"
        wait_for("it is given up", given_up)
        # Where nobody is shut in, it is the machine, and no try counts.
        monkeypatch.setattr(worker_module, "can_shut_in", lambda _: False)
        waiting = admin.upload(collection, "b.xlsx", office.workbook({"a": [["c"]]}))
        for _ in range(2 * ingest.max_attempts):
            wait_for("it is tried", lambda: work_once(worker))
        assert admin.get(f"/api/v1/documents/{waiting['id']}")["state"] == "queued"
    finally:
        primary.dispose()
    told = admin.get(f"/api/v1/documents/{document['id']}")["error"]
    assert told == "document = its parser alone is not shut in here; a copy saved anew by its program"


def test_nobody_sees_the_documents_name_among_the_machines_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openpyxl.py").write_text(
        "import sys\nfrom app.ingest.outline import UnreadableError\n"
        "def load_workbook(*_, **__):\n    raise UnreadableError(' '.join(sys.orig_argv[1:]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnreadableError) as told:
        parse(WORKBOOK, "dismissal of Ada.xlsx", LIMITS)

    assert str(told.value) == "-m app.ingest.forkserver"


def test_a_text_of_letters_without_end_is_split_within_the_parsers_limits() -> None:
    hostile = ("a " * 4_000_000).encode()

    with pytest.raises(UnreadableError, match=r"^a\.txt = over 1 s to read|^a\.txt = not readable"):
        read(hostile, "a.txt", dataclasses.replace(LIMITS, seconds=1), Size(200, 30))
