"""What a rebuild begins with: the line on paper, the place of the repositories, the site's state out of them."""

import io
from pathlib import Path

import pytest
from pyrage import x25519

from inventories.escrow import offline_password
from tasks import rebuild
from tasks.members import RefusedError


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
