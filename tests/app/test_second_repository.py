"""The second repository on a real rest-server of Debian's: over TLS by a CA of its own, with a user, adding alone."""

import base64
import contextlib
import hashlib
import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.backup import copying, fetch, keys, process, restic
from app.backup.repositories import second
from app.backup.settings import Kind, Settings
from tests.app.idp import write_certificate
from tests.app.repositories import empty, keeper_in, made, of, taken
from tests.app.servers import ROOT, Process, free_port, listens

SERVER = ROOT / "build/rest-server/usr/bin/restic-rest-server"
USER, PASSWORD = "rag", "a password: 50% & more"
# One tells what all do, and each costs its time.
KIND: Kind = "base"
OFFLINE = "the offline password, which is long enough"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A backup host with log of five days, and a base of before it and of today."""
    settings = keeper_in(tmp_path, monkeypatch)
    for module in (copying, fetch, keys):
        monkeypatch.setattr(module, "KINDS", (KIND,))
    monkeypatch.setattr(process, "OPEN_SECONDS", 3.0)
    made(settings, "wal", "base")
    today, folder = datetime.now(UTC).replace(microsecond=0), tmp_path / "any"
    folder.mkdir()
    for days in (5, 4, 3, 2, 1, 0):
        (folder / "mark").write_text(f"{days}")
        taken(of(settings, "wal"), folder, "wal", today - timedelta(days=days))
        if days in {5, 3, 0}:
            taken(of(settings, "base"), folder, "base", today - timedelta(days=days))
    return settings.model_copy(update={"retention": settings.retention.model_copy(update={"days": 2})})


@contextlib.contextmanager
def server(folder: Path, *arguments: str) -> Iterator[str]:
    """Its address for restic."""
    if not SERVER.exists():
        pytest.fail(f"{SERVER} = not there; Debian 13's rest-server is needed; make app-test")
    (folder / "served").mkdir(parents=True)
    write_certificate(folder, "localhost")
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    (folder / "users").write_text(f"{USER}:{{SHA}}{digest}\n")
    port = free_port()
    words = [SERVER, "--listen", f"127.0.0.1:{port}", "--path", folder / "served", "--private-repos", "--tls"]
    words += ["--tls-cert", folder / "crt.pem", "--tls-key", folder / "key.pem", "--htpasswd-file", folder / "users"]
    running = Process([*map(str, words), *arguments], {}, folder / "log", lambda: listens(port))
    running.start()
    try:
        yield f"rest:https://localhost:{port}/{USER}"
    finally:
        running.stop()


def knows(settings: Settings, place: str, ca: Path | None = None, password: str = PASSWORD) -> Settings:
    """The backup host with that second repository."""
    lines = f"RESTIC_REST_USERNAME={USER}\nRESTIC_REST_PASSWORD={password}\n"
    (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "second-repository-environment").write_text(lines)
    update = {"repository": place, "ca": str(ca or "")}
    return settings.model_copy(update={"second": settings.second.model_copy(update=update)})


def keyed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the deploy does."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{OFFLINE}\n"))
    return keys.run(settings, elsewhere=True)


def figures(settings: Settings) -> dict[str, float]:
    families = text_string_to_metric_families((settings.textfiles / "rag_backup_copy.prom").read_text())
    return {
        f"{sample.name} {sample.labels.get('repository', '')}".strip(): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_server_that_only_adds_gets_all_and_keeps_all_and_a_lost_repository_comes_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path / "nas", "--append-only") as place:
        site = knows(settings, place, tmp_path / "nas/crt.pem")
        assert keyed(site, monkeypatch) == 0
        assert copying.run(site) == 0
        anew = site.model_copy(update={"folder": tmp_path / "anew"})
        (tmp_path / "anew/repositories").mkdir(parents=True)
        assert fetch.run(anew) == 0

        said = capsys.readouterr().out
        assert "= keeps everything; it lets nobody delete" in said
        there = replace(of(settings, KIND), location=str(tmp_path / "anew/repositories" / KIND))
        originals = [one.id for one in restic.snapshots(of(settings, KIND))]
        assert [one.original for one in restic.snapshots(there)] == originals
        # Whoever has nothing but the line on paper and the server's password opens it.
        elsewhere = second(site, KIND)
        assert elsewhere
        assert keys.opens(elsewhere, password=OFFLINE)
        found = figures(site)
        assert found["rag_backup_last_result"] == 1
        newest = restic.snapshots(of(settings, KIND))[-1].at.timestamp()
        assert found[f"rag_backup_copy_newest_timestamp_seconds {KIND}"] == newest
        assert time.time() - found[f"rag_backup_copy_read_timestamp_seconds {KIND}"] < 600
        assert found[f"rag_backup_copy_keys {KIND}"] == 2


def test_a_server_that_lets_delete_is_thinned_though_a_copy_was_killed_in_it(
    settings: Settings, tmp_path: Path
) -> None:
    with server(tmp_path / "nas") as place:
        site = knows(settings, place, tmp_path / "nas/crt.pem")
        empty(settings, tmp_path / "nas/served" / USER / KIND)
        there = second(site, KIND)
        assert there
        killed_in(there)

        assert copying.run(site) == 0

        assert len(restic.snapshots(there)) == 2


def killed_in(repository: process.Repository) -> None:
    """A restic that cleans up there, and loses its power: its lock stays, which lets in nobody."""
    words = ["restic", "--no-cache", "--limit-download=1", "prune"]
    environment = process._environment(repository)
    writer = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not process.run(repository, ["list", "locks", "--no-lock"]).stdout.strip():
        assert writer.poll() is None
    writer.kill()
    writer.wait()


def test_who_is_not_let_in_says_why_in_one_line_and_in_figures_and_keeps_the_last_success(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path / "nas") as place:
        ca = tmp_path / "nas/crt.pem"
        empty(settings, tmp_path / "nas/served" / USER / KIND)
        assert copying.run(knows(settings, place, ca)) == 0
        success = figures(settings)["rag_backup_last_success_timestamp_seconds"]
        wrong = {
            "401 Unauthorized; a user and a password that it knows; make keep-secret": knows(settings, place, ca, "no"),
            "authority; a certificate of a CA that is trusted; backup.second_repository_ca": knows(settings, place),
        }
        for line, site in wrong.items():
            knows(settings, place, ca, "no" if "401" in line else PASSWORD)
            told(site, line, success, capsys)
    told(knows(settings, place, ca), "connection refused; a repository that answers", success, capsys)


def told(site: Settings, line: str, success: float, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert copying.run(site) == 1

    last = capsys.readouterr().out.splitlines()[-1]
    assert line in last
    assert PASSWORD not in last
    found = figures(site)
    assert found["rag_backup_last_result"] == 0
    assert found["rag_backup_last_success_timestamp_seconds"] == success
    assert fetch.run(site) == 1
    assert line in capsys.readouterr().out


def test_a_second_repository_that_the_line_on_paper_does_not_open_is_no_good_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = knows(settings, str(tmp_path / "elsewhere"))
    empty(settings, tmp_path / "elsewhere" / KIND)
    for key in (tmp_path / "elsewhere").glob("*/keys/*"):
        content = json.dumps(json.loads(key.read_text()) | {"username": "rag-backup"}).encode()
        key.unlink()
        key.with_name(hashlib.sha256(content).hexdigest()).write_bytes(content)
    site.second_keyed.touch()

    assert copying.run(site) == 1
    assert "the escrow line does not open it" in capsys.readouterr().out
    # So the next deploy does it again.
    assert not site.second_keyed.exists()

    assert keyed(site, monkeypatch) == 0
    assert copying.run(site) == 0
