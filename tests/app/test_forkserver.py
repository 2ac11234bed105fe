"""The process that parsers come from: what they have of it and of each other, and what is left when one dies."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.ingest.outline import UnreadableError
from app.ingest.parse import LostParserError, parse, server
from app.settings import Ingest
from tests.app import office
from tests.app.servers import ROOT, wait_for

LIMITS = Ingest().limits
WORKBOOK = office.workbook({"a": [["b"]]})

# In the place of the library that reads workbooks. What it finds out stands beside the document.
TELLS = """
import os
from app.ingest.outline import UnreadableError
def open_ones():
    for number in range(3, 1024):
        try:
            yield number, os.fstat(number)
        except OSError:
            pass
def load_workbook(*_, **__):
    raise UnreadableError(f"{os.getppid()} {os.getpid()} {list(open_ones())}")
"""
HANGS = """
import time
from pathlib import Path
from app.ingest.outline import UnreadableError
THERE = Path(__file__).with_name("there")
def load_workbook(*_, **__):
    while not THERE.exists():
        time.sleep(0.01)
    raise UnreadableError("read")
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library lies that parsers have; the parsers' server is this test's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "openpyxl.py"


def test_each_document_has_a_process_of_its_own_that_holds_nothing_of_the_others(library: Path) -> None:
    library.write_text(TELLS)

    def told(_: int) -> list[str]:
        with pytest.raises(UnreadableError) as error:
            parse(WORKBOOK, "a.xlsx", LIMITS)
        return str(error.value).split(maxsplit=2)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(told, range(20)))

    assert {parent for parent, _, _ in answers} == {str(process_of_the_server())}
    assert len({parser for _, parser, _ in answers}) == 20
    assert {descriptors for _, _, descriptors in answers} == {"[]"}


def test_a_document_whose_server_is_killed_is_read_by_the_next(library: Path) -> None:
    library.write_text(HANGS)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(parse, WORKBOOK, "a.xlsx", LIMITS)
        wait_for("a parser is at work", lambda: children(process_of_the_server()))
        first, parsers = process_of_the_server(), children(process_of_the_server())
        library.with_name("there").touch()
        os.kill(first, signal.SIGKILL)

        with pytest.raises(UnreadableError, match=r"^read$"):
            reading.result(60)

    assert process_of_the_server() != first
    wait_for("the first parser is gone too", lambda: not any(map(runs, parsers)))


def test_a_server_that_always_dies_is_no_documents_reason(library: Path) -> None:
    library.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")

    with pytest.raises(LostParserError):
        parse(WORKBOOK, "a.xlsx", LIMITS)


def test_with_the_worker_its_parsers_end(library: Path) -> None:
    library.write_text(HANGS)
    program = (
        f"import sys; sys.path.insert(0, {str(library.parent)!r})\n"
        "from app.ingest.parse import parse; from app.settings import Ingest\n"
        "parse(sys.stdin.buffer.read(), 'a.xlsx', Ingest().limits)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdin
        worker.stdin.write(WORKBOOK)
        worker.stdin.close()
        wait_for("a parser is at work", lambda: [one for child in children(worker.pid) for one in children(child)])
        family = [(child, one) for child in children(worker.pid) for one in children(child)]
        worker.kill()

    wait_for("all are gone", lambda: not any(runs(process) for pair in family for process in pair))


def process_of_the_server() -> int:
    # The last one started: each folder of libraries has its own.
    return server().pid or 0


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.glob("*") for child in (task / "children").read_text().split()]


def runs(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
