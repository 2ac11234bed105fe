"""The parser's process: what a document that takes it over gets."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.ingest.outline import UnreadableError
from app.ingest.parse import parse
from app.settings import Ingest
from tests.app import office
from tests.app.servers import ROOT

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

        with pytest.raises(UnreadableError, match=r"^a\.xlsx = not readable \(OSError\)"):
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
        "import resource\nfrom app.ingest.outline import UnreadableError\n"
        "def load_workbook(*_, **__):\n"
        "    rights = [line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))]\n"
        "    most = resource.getrlimit(resource.RLIMIT_NPROC)\n"
        "    raise UnreadableError(' '.join([*''.join(rights).split(), str(most)]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnreadableError, match=r"^CapEff: 0+ NoNewPrivs: 1 \(0, 0\)$"):
        parse(WORKBOOK, "a.xlsx", LIMITS)


def test_a_parser_that_talks_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openpyxl.py").write_text(
        "import os\ndef load_workbook(*_, **__):\n    while True:\n        os.write(1, b'x' * 65536)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnreadableError, match=r"^a\.xlsx = over \d+ bytes of text"):
        parse(WORKBOOK, "a.xlsx", LIMITS)
