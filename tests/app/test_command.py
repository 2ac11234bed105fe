"""The command `rag` as a colleague types it, against the whole site."""

import os
import pty
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app import formats
from tests.app.servers import ROOT, free_port, wait_for
from tests.app.site import PASSWORD, Person, Site


@dataclass(frozen=True)
class Shell:
    """A colleague's shell, with a home of its own."""

    home: Path

    def __call__(self, *words: object, says: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.client.command", *map(str, words)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "COLUMNS": "200", **environment},
            cwd=ROOT,
            input=says,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def account(self) -> Path:
        return self.home / ".config/rag/account.json"


@pytest.fixture
def rag(site: Site, tmp_path: Path) -> Shell:
    shell = Shell(tmp_path / "home")
    shell.home.mkdir()
    signed_in = shell("sign-in", str(site.http.base_url).rstrip("/"), "--user", "admin", says=f"{PASSWORD}\n")
    assert signed_in.returncode == 0, signed_in.stderr
    return shell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "papers"
    (made / "old").mkdir(parents=True)
    (made / "contract.txt").write_bytes(formats.contract("contract.txt"))
    (made / "old/contract.txt").write_text("The old contract had a notice period of 14 days.")
    (made / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    (made / "photo.jpg").write_bytes(b"\xff\xd8")
    (made / ".hidden.txt").write_text("not for others")
    return made


def test_a_sign_in_leaves_a_key_that_only_its_owner_can_read_and_a_sign_out_ends_it(site: Site, rag: Shell) -> None:
    kept = rag.account.read_text()
    shown = rag("keys", says=f"{PASSWORD}\n")

    assert rag.account.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in kept
    assert '"rag_' in kept
    assert "rag on " in shown.stdout
    assert rag("sign-out", says=f"{PASSWORD}\n").returncode == 0
    assert not rag.account.exists()
    secret = kept.split('"secret": "')[1].split('"')[0]
    assert Person(site.http, secret).call("GET", "/api/v1/me").status_code == 401


def test_a_folder_is_uploaded_and_each_file_ends_searchable_or_with_a_reason(
    rag: Shell, collection: str, folder: Path
) -> None:
    done = rag("upload", collection, folder, folder / "nowhere.txt")
    listed = [line.split("\t") for line in rag("documents", collection).stdout.splitlines()]

    assert done.returncode == 1
    assert f"{folder / 'photo.jpg'}: skipped, .jpg is not read" in done.stderr
    assert f"{folder / 'contract.txt'}: indexed, 1 passages" in done.stderr
    assert done.stderr.endswith("2 indexed, 2 failed\n")
    failed = dict(line.split("\t") for line in done.stdout.splitlines())
    assert set(failed) == {str(folder / "broken.pdf"), str(folder / "nowhere.txt")}
    assert "broken.pdf = " in failed[str(folder / "broken.pdf")]
    states = {name: state for _, name, state, *_ in listed}
    assert states == {"contract.txt": "indexed", "old - contract.txt": "indexed", "broken.pdf": "failed"}


def test_search_ask_and_delete(site: Site, rag: Shell, collection: str, folder: Path) -> None:
    assert rag("upload", collection, folder / "contract.txt").returncode == 0
    site.wait_until_in_step()

    found = rag("search", collection, "notice", "period")
    asked = rag("ask", collection, "How long is the notice period?")
    identifier = rag("documents", collection).stdout.split("\t")[0]
    deleted = rag("delete", identifier)

    assert found.stdout.startswith("1. ")
    assert "90 days" in found.stdout
    answer, *citations = asked.stdout.splitlines()
    assert "90 days" in answer
    assert citations[0].startswith("[1] ")
    assert "90 days" in citations[0]
    assert (deleted.returncode, rag("documents", collection).stdout) == (0, "")
    again = rag("delete", identifier)
    assert again.returncode == 1
    assert again.stderr.startswith(f"document = {identifier}; ")


def test_a_colleague_measures_a_collection(site: Site, rag: Shell, collection: str, folder: Path) -> None:
    assert rag("upload", collection, folder / "contract.txt").returncode == 0
    site.wait_until_in_step()
    (folder / "questions.jsonl").write_text(
        '{"question": "How long is the notice period?", "documents": ["contract.txt"], "phrases": ["90 days"]}\n'
    )

    done = rag("eval", folder / "questions.jsonl", collection, "--json", folder / "figures.json")
    refused = rag("eval", folder / "photo.jpg", collection)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^hybrid hit@1 +1\.000$", done.stdout, re.MULTILINE)
    assert '"citations verbatim in their passage"' in (folder / "figures.json").read_text()
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_on_a_terminal_there_are_bars_and_tables_and_no_control_characters_of_a_document(
    rag: Shell, collection: str, tmp_path: Path
) -> None:
    (tmp_path / "evil.txt").write_text("Beware of the \x1b[2J\x9b31m door, which is green.")
    assert rag("upload", collection, tmp_path / "evil.txt").returncode == 0

    listed = on_a_terminal(rag, "documents", collection)
    found = on_a_terminal(rag, "search", collection, "green door")
    sent = on_a_terminal(rag, "upload", collection, tmp_path / "evil.txt")

    assert "passages" in listed.splitlines()[0]
    assert "evil.txt" in listed
    assert "door, which is green" in found
    assert "\x1b[2J" not in found
    assert "\x9b" not in found
    assert "1 indexed, 0 failed" in sent


def on_a_terminal(rag: Shell, *words: object) -> str:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "app.client.command", *map(str, words)],
        env={"PATH": os.environ["PATH"], "HOME": str(rag.home), "TERM": "xterm", "COLUMNS": "200"},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        # How Linux tells that the other end was closed.
        pass
    finally:
        os.close(ours)
    assert child.wait(30) == 0, shown
    return shown.decode(errors="replace")


def test_a_collection_is_made_filled_and_taken_away_and_a_missing_one_is_refused_once(rag: Shell, folder: Path) -> None:
    name = f"papers-{folder.parent.name}"[:60]
    missing = rag("upload", name, folder)
    made = rag("collections", "--add", name)
    again = rag("collections", "--add", name)
    filled = rag("upload", name, folder / "contract.txt")
    gone = rag("collections", "--delete", name)

    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert f"rag collections --add {name}" in missing.stderr
    assert (made.returncode, again.returncode, filled.returncode, gone.returncode) == (0, 1, 0, 0)
    assert name not in rag("collections").stdout


def test_collections_and_status(site: Site, rag: Shell, collection: str) -> None:
    listed = [line.split("\t")[:2] for line in rag("collections").stdout.splitlines()]
    site.wait_until_in_step()
    wait_for("the index has told so", lambda: "in step" in rag("status").stdout)
    well = rag("status")
    site.ollama.stop()
    wait_for("the platform has noticed", lambda: site.readiness().status_code != 200)
    sick = rag("status")

    assert [collection, "manage"] in listed
    assert (well.returncode, well.stdout.splitlines()[0]) == (0, "ready")
    assert (sick.returncode, sick.stdout.splitlines()[0]) == (1, "not ready")
    assert "inference\tinference = " in sick.stdout
    # What nobody measured is said, and makes nothing unready.
    assert "inference.distances = none for standin-embed; two that rag eval proposes" in well.stdout
    assert f"index of {socket.gethostname()}: in step" in well.stdout


def test_what_cannot_be_done_is_one_line_and_a_code_of_its_own(site: Site, rag: Shell, tmp_path: Path) -> None:
    url = str(site.http.base_url).rstrip("/")
    stranger = Shell(tmp_path)

    unknown = rag("documents", "nosuch")
    unsigned = stranger("collections")
    wrong = stranger("sign-in", url, "--user", "admin", says="wrong\n")
    clear = stranger("sign-in", "http://rag.example.org", "--user", "admin", says="secret\n")
    nobody = rag("collections", RAG_URL=f"http://127.0.0.1:{free_port()}", RAG_KEY="rag_x")
    misspelt = rag("uplaod")

    assert (unknown.returncode, unknown.stderr[:22]) == (1, "collection = nosuch; o")
    assert (unsigned.returncode, "rag sign-in" in unsigned.stderr) == (2, True)
    assert (wrong.returncode, wrong.stderr[:30]) == (1, "username or password = wrong; ")
    assert (clear.returncode, "https://" in clear.stderr) == (2, True)
    assert (nobody.returncode, "no answer" in nobody.stderr) == (3, True)
    assert misspelt.returncode == 2
    assert all(done.stderr.count("\n") == 1 for done in (unknown, unsigned, wrong, clear, nobody))
