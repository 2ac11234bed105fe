"""Ollama's archive reaches the controller once and whole, or not at all."""

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from pyinfra.api.exceptions import PyinfraError

from inventories.settings import Inference, Machine, Model, Ssh
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


@pytest.mark.parametrize("planted", ["models", "models/blobs", ""])
def test_root_follows_no_link_that_ollamas_user_put_into_its_folder(
    planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("another user's folder is needed; only root has one")
    with tempfile.TemporaryDirectory(prefix="rag-") as place:
        home, store, target = (Path(place) / name for name in ("ollama", "store", "etc"))
        model = Model(name="all-minilm:l6-v2")
        (store / model.manifest).parent.mkdir(parents=True)
        layer = {"digest": "sha256:1"}
        (store / model.manifest).write_text(json.dumps({"config": layer, "layers": []}))
        (store / "blobs").mkdir()
        (store / "blobs/sha256-1").write_text("a blob")
        for folder in (Path(place), home, target):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        if planted:
            link = home / planted
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(target)
        subprocess.run(["chown", "-hR", "nobody", home], check=True)

        def here(source: list[str], script: str, *_: object) -> None:
            packed = subprocess.run(source, capture_output=True, check=True)
            subprocess.run(["sh", "-c", script], input=packed.stdout, check=False, capture_output=True)

        monkeypatch.setattr(ollama, "MODELS", str(home / "models"))
        monkeypatch.setattr(ollama, "USER", "nobody")
        monkeypatch.setattr(ollama, "stream", here)

        ollama._push_model(model, store, Ssh.model_construct(), Machine.model_construct(name="gpu1"))

        assert (target.owner(), [*target.iterdir()]) == ("root", [])
        blob = home / "models/blobs/sha256-1"
        assert blob.exists() == (not planted)
        assert planted or blob.owner() == "nobody"


def test_a_draft_that_cannot_be_gone_on_with_is_not_in_the_way_of_the_next_run(settings: Inference) -> None:
    draft(settings).write_bytes(CONTENT + b"and more")

    with pytest.raises(PyinfraError, match="not fetched; put the file at"):
        verified_archive(settings)

    assert verified_archive(settings).read_bytes() == CONTENT
