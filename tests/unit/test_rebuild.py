"""What a rebuild begins with: the line on paper, the place of the repositories, the site's state out of them."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from pyrage import x25519

from inventories.escrow import offline_password
from inventories.settings import Machine, SettingsError, Site
from tasks import last_backup, rebuild, restored
from tasks.cluster import site_of
from tasks.in_place import Phases
from tasks.members import RefusedError
from tasks.ssh import AskError
from tests.unit.recovering import RECORD


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys" / "prod.age-key"
    monkeypatch.setenv("RAG_AGE_KEY", str(path))
    return path


def test_the_line_on_paper_is_typed_once_and_kept_for_its_owner_alone(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = str(x25519.Identity.generate())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"  {line.lower()}\n"))

    assert rebuild.escrow_line("prod") == line
    assert not key_file.exists()
    rebuild.keep_line("prod", line)

    assert key_file.stat().st_mode & 0o777 == 0o600
    # From now on it is read from its file, as every deploy does.
    assert rebuild.escrow_line("prod") == line
    assert len(offline_password(line)) >= 32


@pytest.mark.parametrize("typed", ["", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-" + "1QQQQ", "hunter2"])
def test_a_line_that_is_no_key_is_refused_and_kept_nowhere(
    key_file: Path, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    with pytest.raises(RefusedError, match="the whole line AGE-SECRET-KEY-1") as refused:
        rebuild.escrow_line("prod")

    assert not key_file.exists()
    assert "hunter2" not in str(refused.value)


def test_a_place_holds_a_repository_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/config").touch()

    assert rebuild.locations(f"{tmp_path}/")["base"] == f"{tmp_path}/base"
    assert rebuild.locations("s3:https://s3.example.org/rag")["wal"] == "s3:https://s3.example.org/rag/wal"
    assert rebuild.locations("sftp:nas:/rag")["site"] == "sftp:nas:/rag/site"
    for place, why in (("", "FROM = \\(nothing\\)"), (f"{tmp_path}/site", "a folder with the repositories")):
        with pytest.raises(RefusedError, match=why):
            rebuild.locations(place)


def test_an_address_with_a_password_is_refused_before_any_command_has_it() -> None:
    with pytest.raises(RefusedError, match="with a password in its address") as refused:
        rebuild.locations("rest:https://rag:hunter2@nas.example.org/rag")
    assert "hunter2" not in str(refused.value)


def test_the_state_lies_where_a_deploy_reads_it_and_what_lay_there_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, state = tmp_path / "checkout", tmp_path / "state"
    (checkout / "inventories").mkdir(parents=True)
    (checkout / "inventories/prod").write_text("an example")
    state.mkdir()
    (state / "inventory").write_text("the site")
    (state / "secrets.age").write_text("sealed")
    monkeypatch.setattr(rebuild, "ROOT", checkout)
    monkeypatch.setenv("RAG_SECRETS_DIR", str(tmp_path / "secrets"))

    said = rebuild.put_state("prod", state, "20261122T080000Z")

    assert (checkout / "inventories/prod").read_text() == "the site"
    assert (checkout / "inventories/prod.before-20261122T080000Z").read_text() == "an example"
    secrets = tmp_path / "secrets/prod.age"
    assert (secrets.read_text(), secrets.stat().st_mode & 0o777) == ("sealed", 0o600)
    assert len(said) == 1
    # Typed again it changes nothing.
    assert rebuild.put_state("prod", state, "20261122T090000Z") == []


def state_repository(folder: Path, line: str, site: str) -> str:
    """A repository with the state of that site, which the key derived from the line opens."""
    state, place = folder / "state", folder / "repositories/site"
    state.mkdir()
    for name, text in (("inventory", "…"), ("secrets.age", "sealed"), ("state.json", json.dumps({"site": site}))):
        (state / name).write_text(text)
    for words in (["init"], ["backup", "--tag", "site", "."]):
        restic = ["restic", "--repo", str(place), "--password-file", "/dev/stdin", "--no-cache", *words]
        subprocess.run(restic, input=offline_password(line), cwd=state, capture_output=True, text=True, check=True)
    return str(place.parent)


def test_a_line_that_opens_nothing_is_kept_nowhere_and_another_sites_state_is_refused(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, other = (str(x25519.Identity.generate()) for _ in range(2))
    place = state_repository(tmp_path, line, "lab")
    for typed, why in ((other, "the escrow line does not open it"), (line, "the state of lab; that of prod is needed")):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        phases = Phases(lambda _: None, lambda: 0.0)

        with pytest.raises(RefusedError, match=why):
            rebuild.rebuild("prod", place, None, False, site_of, phases)

        assert not key_file.exists()


def test_a_line_that_opened_the_sites_own_state_is_kept_for_the_deploy(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = str(x25519.Identity.generate())
    place = state_repository(tmp_path, line, "prod")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))
    monkeypatch.setattr(rebuild, "put_state", lambda *_: [])

    def read(_: str) -> Site:
        raise SettingsError("database.versoin = 17; no such setting")

    with pytest.raises(RefusedError, match="state of prod = not readable by this checkout"):
        rebuild.rebuild("prod", place, None, False, read, Phases(lambda _: None, lambda: 0.0))

    assert key_file.read_text() == f"{line}\n"


def test_the_repositories_belong_to_the_user_of_the_backups_whatever_rights_they_were_copied_with(
    prod: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []
    monkeypatch.setattr(rebuild, "ask", lambda *words, **_: scripts.append(words[2]) or "")
    monkeypatch.setattr(rebuild, "stream", lambda *words: scripts.append(words[1]))
    monkeypatch.setattr(restored, "verb_on", lambda *words, **_: scripts.append(words[2]) or "{}")
    monkeypatch.setattr(last_backup, "ask", lambda *_, **__: "{}")

    rebuild.bring_repositories(prod, str(tmp_path), "the offline password", Phases(lambda _: None, lambda: 0.0))

    aside, unpacked, whole, keyed, remembered = scripts
    assert whole == "systemctl restart rag-repositories"
    assert "install -d -m 700 -o rag-backup -g rag-backup /var/lib/rag-backup/repositories" in aside
    assert unpacked.startswith("cd /; runuser -u rag-backup -- sh -c ")
    assert (keyed, remembered) == ("init --offline", "recoveries --anew")


OTHER = RECORD | {"at": "2026-11-26T11:00:00+00:00"}


@pytest.mark.parametrize(
    ("here", "told", "anew", "done"),
    [
        ({}, RECORD, False, [RECORD]),
        # Nothing is written that is known already.
        (RECORD, RECORD, False, []),
        ({}, {}, False, []),
        # What it knew was of another site.
        (OTHER, RECORD, True, [RECORD]),
        (OTHER, {}, True, ["rm"]),
    ],
)
def test_a_backup_host_that_is_built_anew_knows_of_recoveries_again(
    prod: Site,
    monkeypatch: pytest.MonkeyPatch,
    here: dict[str, object],
    told: dict[str, object],
    anew: bool,
    done: list[object],
) -> None:
    happened, verbs = list[object](), list[str]()
    monkeypatch.setattr(last_backup, "record_of", lambda *_: here)
    monkeypatch.setattr(last_backup, "ask", lambda *words: happened.append(words[2].split()[0]))
    monkeypatch.setattr(restored, "verb_on", lambda *words, **_: verbs.append(words[2]) or json.dumps(told))
    monkeypatch.setattr(last_backup, "_keep", lambda _, __, record: happened.append(record))

    last_backup.remembered(prod, prod.machine("ops1"), anew=anew)

    assert happened == done
    assert verbs == [f"recoveries{' --anew' if anew else ''}"]


def test_a_rebuild_goes_on_where_nobody_can_read_what_recoveries_wrote_down(
    prod: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def verb_on(_: Site, __: Machine, verb: str, **___: object) -> str:
        if verb.startswith("recoveries"):
            raise AskError("ops1: backup recoveries = exit 1; repository site = corrupt")
        return "{}"

    monkeypatch.setattr(rebuild, "ask", lambda *_, **__: "")
    monkeypatch.setattr(last_backup, "ask", lambda *_, **__: "{}")
    monkeypatch.setattr(rebuild, "stream", lambda *_: None)
    monkeypatch.setattr(restored, "verb_on", verb_on)

    rebuild.bring_repositories(prod, str(tmp_path), "the offline password", Phases(said.append, lambda: 0.0))

    assert [line for line in said if "nothing is forgotten until they are" in line]


def test_a_rebuild_says_what_did_not_come_from_another_server(prod: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(rebuild, "ask", lambda *_, **__: "")
    monkeypatch.setattr(last_backup, "ask", lambda *_, **__: "{}")
    told = "base: 1 did not come, damaged there: 1234abcd of 2026-11-27 08:00:00+00:00"
    monkeypatch.setattr(restored, "verb_on", lambda *words, **_: told if words[2].startswith("fetch") else "{}")

    rebuild.bring_repositories(prod, "s3:https://s3.example.org/rag", "offline", Phases(said.append, lambda: 0.0))

    assert told in said


def test_another_servers_secrets_are_given_to_what_reads_there_alone(
    prod: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(restored, "ask", lambda *words, **_: asked.append(words[2]) or "{}")
    monkeypatch.setattr(rebuild, "ask", lambda *_, **__: "")
    monkeypatch.setattr(last_backup, "remembered", lambda *_: None)
    keeper = prod.machine("ops1")

    restored.window(prod, keeper)
    rebuild.fetch(prod, keeper, "rest:https://nas.example.org/rag")

    window, fetched, *_ = asked
    assert "LoadCredential=repository-password" in window
    assert "second-repository" not in window
    assert "-name 'second-repository-*' -printf '--property=LoadCredential" in fetched
