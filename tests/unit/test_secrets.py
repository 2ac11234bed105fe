"""Secrets: made once, kept, readable for the key's holder alone, and never shown."""

import json
import re
import subprocess
from pathlib import Path

import pyrage
import pytest

from inventories import secrets
from inventories.settings import SettingsError
from tests.unit.sites import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAG_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("RAG_AGE_KEY", str(tmp_path / "key" / "age-key"))
    return tmp_path


def values(site: str = "prod") -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in secrets.secrets_of(site).items()}


def test_the_first_run_makes_every_secret_and_the_second_keeps_them_all(folder: Path) -> None:
    made = secrets.create("prod")
    first, text = values(), secrets.file_of("prod").read_bytes()

    assert made
    assert set(first) >= {kind.name for kind in secrets.KINDS} | {f"{ca}-certificate" for ca in secrets.AUTHORITIES}
    assert len(set(first.values())) == len(first)
    assert secrets.create("prod") == []
    assert values() == first
    assert text


def test_a_secret_of_a_later_release_is_added_and_the_others_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = secrets.Kind("later-password", "came with a later release", lambda: "new")
    secrets.create("prod")
    first = values()

    monkeypatch.setattr(secrets, "KINDS", (*secrets.KINDS, later))

    assert secrets.create("prod") == ["later-password"]
    assert values() == first | {"later-password": "new"}


def test_an_interrupted_run_leaves_the_old_file_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.create("prod")
    first = values()
    monkeypatch.setattr(secrets, "KINDS", (*secrets.KINDS, secrets.Kind("later", "", lambda: "new")))

    with monkeypatch.context() as patch:
        patch.setattr(secrets.os, "fsync", _pull_the_plug)
        with pytest.raises(KeyboardInterrupt):
            secrets.create("prod")

    assert values() == first
    assert secrets.create("prod") == ["later"]


def _pull_the_plug(_: int) -> None:
    raise KeyboardInterrupt


def test_file_and_key_are_their_owners_alone(folder: Path) -> None:
    secrets.create("prod")

    assert secrets.file_of("prod").stat().st_mode & 0o777 == 0o600
    assert secrets.key_file_of("prod").stat().st_mode & 0o777 == 0o600
    assert secrets.key_file_of("prod").parent.stat().st_mode & 0o777 == 0o700


def test_the_age_command_opens_the_file(folder: Path) -> None:
    secrets.create("prod")
    path, key = secrets.file_of("prod"), secrets.key_file_of("prod")

    # Held with and without the command: its own format, armoured, for the key that the key file names.
    assert path.read_text().startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert re.match(r"# public key: age1[a-z0-9]{58}\nAGE-SECRET-KEY-1[A-Z0-9]+\n$", key.read_text())
    try:
        done = subprocess.run(["age", "--decrypt", "--identity", key, path], capture_output=True, check=True)
        opened = done.stdout
    except FileNotFoundError:
        identity = pyrage.x25519.Identity.from_str(key.read_text().splitlines()[1])
        opened = pyrage.decrypt(path.read_bytes(), [identity])
    assert json.loads(opened) == values()


def other_key(folder: Path) -> None:
    secrets.key_file_of("prod").write_text(f"{pyrage.x25519.Identity.generate()}\n")


def garbage_key(folder: Path) -> None:
    secrets.key_file_of("prod").write_text("AGE-SECRET-KEY-1NOTONE\n")


def empty_key(folder: Path) -> None:
    secrets.key_file_of("prod").write_text("")


def no_key(folder: Path) -> None:
    secrets.key_file_of("prod").unlink()


def no_file(folder: Path) -> None:
    secrets.file_of("prod").unlink()


def garbage_file(folder: Path) -> None:
    secrets.file_of("prod").write_bytes(b"\0not an age file")


def cut_file(folder: Path) -> None:
    path = secrets.file_of("prod")
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (other_key, "age key = .*; it does not open .*; set RAG_AGE_KEY"),
        (garbage_key, "age key = .*; a line AGE-SECRET-KEY-1… is needed; copy the key file again"),
        (empty_key, "age key = .*; a line AGE-SECRET-KEY-1… is needed; copy the key file again"),
        (no_key, r"age key = \(no file .*\); it opens the secrets; copy it there"),
        (no_file, r"secrets of prod = \(no file .*\); they are made once; make secrets SITE=prod"),
        (garbage_file, "age key = .*; it does not open .*; set RAG_AGE_KEY"),
        (cut_file, "age key = .*; it does not open .*; set RAG_AGE_KEY"),
    ],
)
def test_what_does_not_open_is_refused_in_one_line(folder: Path, harm: object, line: str) -> None:
    secrets.create("prod")
    assert callable(harm)

    harm(folder)

    with pytest.raises(SettingsError, match=line) as refused:
        secrets.secrets_of("prod")
    assert "\n" not in str(refused.value)


def test_a_wrong_key_never_replaces_the_secrets(folder: Path) -> None:
    secrets.create("prod")
    before = secrets.file_of("prod").read_bytes()
    other_key(folder)

    with pytest.raises(SettingsError):
        secrets.create("prod")

    assert secrets.file_of("prod").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["prod", "lab", "solo"], ["porD"], [""]])
def test_a_site_that_has_no_file_gets_no_secrets(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code = secrets.main(arguments)

    said = capsys.readouterr()
    assert code == 2
    assert said.err.count("\n") == 1
    assert said.err.startswith("site = ")
    assert not secrets.FOLDER.samefile(folder)
    assert not [*folder.rglob("*.age")]


def test_the_command_says_what_it_made_and_never_a_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert secrets.main(["prod"]) == 0

    said = capsys.readouterr().out
    assert "admin-password" in said
    assert str(secrets.key_file_of("prod")) in said
    assert not [name for name, value in values().items() if value.strip() in said]


def test_one_secret_is_told_to_who_asks_for_it_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets.create("lab")

    assert secrets.main(["lab", "admin-password"]) == 0
    assert capsys.readouterr().out == f"{secrets.secrets_of('lab')['admin-password'].get_secret_value()}\n"

    assert secrets.main(["lab", "admin-pasword"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "admin-password" in said.err


def test_no_secret_of_a_real_site_is_in_the_checkout_unencrypted() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    keys = "AGE-SECRET-KEY-1" + "Q", "BEGIN " + "PRIVATE KEY"
    assert not [
        name
        for name in files
        if (ROOT / name).is_file() and any(key.encode() in (ROOT / name).read_bytes() for key in keys)
    ]
