"""The operations' pure parts: what a machine answers, what is put where, how a check is waited for."""

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path

from tasks.facts import MachineState
from tasks.operations import _start, put, waiting
from tasks.wants import Check, Directory, File, Unit, User, Wants, credential


def ask(wants: Wants) -> object:
    said = subprocess.run(["sh", "-c", MachineState().command(wants=wants)], capture_output=True, text=True, check=True)
    return MachineState().process(said.stdout.splitlines())


def test_a_machine_tells_what_is_there_and_is_silent_about_the_rest(tmp_path: Path) -> None:
    there = tmp_path / "a file with blanks"
    there.write_bytes(b"hello")
    there.chmod(0o640)
    owner = f"{there.owner()} {there.group()}"
    wants = Wants(
        users=(User("root"), User("nobody-of-this-name")),
        directories=(Directory(str(tmp_path)), Directory(str(tmp_path / "missing"))),
        files=(File(str(there), b"hello"), File(str(tmp_path / "gone"), b"")),
        check=Check("true"),
    )

    found = ask(wants)

    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert found.marks[str(there)] == f"{digest} 640 {owner}"  # type: ignore[attr-defined]
    assert str(tmp_path / "gone") not in found.marks  # type: ignore[attr-defined]
    assert str(tmp_path / "missing") not in found.marks  # type: ignore[attr-defined]
    assert list(found.users) == ["root"]  # type: ignore[attr-defined]
    assert found.answers  # type: ignore[attr-defined]
    assert not ask(Wants(check=Check("false"))).answers  # type: ignore[attr-defined]


def test_files_travel_with_rights_and_owners_on_standard_input_only() -> None:
    (command,) = put([File("/etc/rag/x", b"content", "640", "root", "rag"), credential("token-key", "very secret")])

    text = command.connector_arguments["_stdin"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(str(text)))) as tar:
        first, second = tar.getmembers()
        assert (first.name, first.mode, first.uname, first.gname) == ("etc/rag/x", 0o640, "root", "rag")
        assert (second.name, second.mode) == ("etc/credstore/token-key", 0o600)
        assert tar.extractfile(second).read() == b"very secret"  # type: ignore[union-attr]
    assert "very secret" not in str(command) + repr(command)
    assert "very secret" not in repr(credential("token-key", "very secret"))


def commands(words: set[str], stale: list[File], **unit: object) -> list[str]:
    wanted = Unit("x.service", reads=("/etc/x",), **unit)  # type: ignore[arg-type]
    return [str(command) for command in _start(wanted, words, stale, None)]


def test_a_unit_is_started_restarted_or_left_alone() -> None:
    changed = [File("/etc/x", b"")]

    assert commands({"active", "enabled"}, []) == []
    assert [line.split(" ||")[0] for line in commands({"enabled"}, [])] == ["systemctl restart x.service"]
    assert commands({"active", "enabled", "stale"}, [])[0].startswith("systemctl restart")
    assert commands({"active", "enabled"}, changed)[0].startswith("systemctl restart")
    assert commands({"active", "enabled"}, changed, reloads=True)[0].startswith("systemctl reload")
    assert commands({"active"}, []) == ["systemctl enable --quiet x.service"]
    assert commands({"active", "enabled"}, [File("/etc/other", b"")]) == []


def test_a_check_is_waited_for_and_says_what_did_not_answer(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / "journalctl").write_text("#!/bin/sh\n")
    (tmp_path / "journalctl").chmod(0o755)

    late = subprocess.Popen(["sh", "-c", waiting(Check(f"test -e {flag}", seconds=20))], env=environment)
    flag.touch()
    never = subprocess.run(
        ["sh", "-c", waiting(Check("false", seconds=1), (Unit("x.service"),))],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert late.wait(20) == 0
    assert never.returncode == 1
    assert "no answer in 1 s: false; read: journalctl -u x.service -n 50" in never.stderr
