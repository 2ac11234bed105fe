"""Ollama's archive reaches the controller once and whole, or not at all."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from pyinfra.api.exceptions import PyinfraError

from inventories.settings import Inference
from tasks import ollama
from tasks.ollama import verified_archive

CONTENT = b"an archive" * 1000


@pytest.fixture
def settings(tmp_path: Path) -> Inference:
    (tmp_path / "source").write_bytes(CONTENT)
    return Inference(
        archive=tmp_path / "cache" / "ollama.tar.zst",
        archive_url=f"file://{tmp_path}/source",
        archive_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


def draft(settings: Inference) -> Path:
    settings.archive.parent.mkdir(exist_ok=True)
    return settings.archive.with_suffix(".part")


def test_an_archive_that_is_missing_is_fetched_and_an_interrupted_one_is_gone_on_with(settings: Inference) -> None:
    draft(settings).write_bytes(CONTENT[:100])

    assert verified_archive(settings).read_bytes() == CONTENT
    assert [path.name for path in settings.archive.parent.iterdir()] == ["ollama.tar.zst"]


def test_two_machines_that_ask_at_once_fetch_it_once(settings: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def curl(command: list[str], check: bool) -> SimpleNamespace:
        path = Path(command[command.index("--output") + 1])
        for part in (CONTENT[:100], CONTENT[100:]):
            with path.open("ab") as out:
                out.write(part)
            gevent.sleep(0.01)
        fetched.append(path)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ollama.subprocess, "run", curl)

    asking = [gevent.spawn(verified_archive, settings) for _ in range(2)]

    assert [asked.get().read_bytes() for asked in asking] == [CONTENT] * 2
    assert len(fetched) == 1


def test_another_content_than_the_site_pinned_is_refused_and_not_kept(settings: Inference, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"something else")

    with pytest.raises(PyinfraError, match=r"inference.archive_url = \S+ with sha256 \w+; \w+ is needed; correct"):
        verified_archive(settings)

    assert [*settings.archive.parent.iterdir()] == []


def test_a_draft_that_cannot_be_gone_on_with_is_not_in_the_way_of_the_next_run(settings: Inference) -> None:
    draft(settings).write_bytes(CONTENT + b"and more")

    with pytest.raises(PyinfraError, match="not fetched; put the file at"):
        verified_archive(settings)

    assert verified_archive(settings).read_bytes() == CONTENT
