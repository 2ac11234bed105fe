"""What a restore is asked for, who may copy what it made, and the log that must be whole for it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.backup import restore
from app.backup.restic import Snapshot
from app.backup.restore import RefusedError, listen_of, request_of
from tests.unit.backups import settings_in


def test_a_request_names_a_moment_with_its_zone() -> None:
    asked = request_of(json.dumps({"to": "2026-11-22T08:00:00+01:00", "members": {"db1": "192.0.2.1"}}))

    assert asked.to == datetime(2026, 11, 22, 7, tzinfo=UTC)
    assert asked.members == {"db1": "192.0.2.1"}
    assert request_of(json.dumps({"to": None})).to is None
    with pytest.raises(RefusedError, match="a moment with its zone is needed"):
        request_of(json.dumps({"to": "2026-11-22T08:00:00"}))


def test_only_database_machines_copy_it_and_only_by_their_certificate() -> None:
    cluster = SimpleNamespace(ssl_cert="/c.crt", ssl_key="/c.key", ssl_root_cert="/ca.crt")
    settings: Any = SimpleNamespace(cluster=cluster)

    found = listen_of(settings, {"db1": "192.0.2.1", "db2": "192.0.2.2"})

    assert found.hba == (
        "hostssl replication replicator 192.0.2.1/32 cert clientname=DN map=members",
        "hostssl replication replicator 192.0.2.2/32 cert clientname=DN map=members",
    )
    assert found.ident == ('members "CN=db1,OU=postgresql" replicator', 'members "CN=db2,OU=postgresql" replicator')
    assert (found.certificate, found.key, found.authority) == ("/c.crt", "/c.key", "/ca.crt")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["000000010000000000000003", "000000010000000000000004.partial"], ""),
        (["000000010000000000000002", "000000010000000000000003", "000000010000000000000004"], ""),
        # Over a failover: the new timeline begins in the segment in which the old one ended.
        (["000000010000000000000003", "000000010000000000000004.partial", "000000020000000000000004"], ""),
        (["000000010000000000000004"], "missing before 000000010000000000000004"),
        (
            ["000000010000000000000003", "000000010000000000000005"],
            "missing between 000000010000000000000003 and 000000010000000000000005",
        ),
        ([], "nothing there"),
    ],
)
def test_the_log_must_be_whole_from_where_the_base_begins(tmp_path: Path, files: list[str], why: str) -> None:
    (tmp_path / "data").mkdir()
    label = "START WAL LOCATION: 0/30000D8 (file 000000010000000000000003)\nSTART TIMELINE: 1\n"
    (tmp_path / "data/backup_label").write_text(label)
    (tmp_path / "wal").mkdir()
    for name in files:
        (tmp_path / "wal" / name).write_bytes(b"")

    assert restore.lacking(tmp_path) == why


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_in(tmp_path)
    (settings.run / "restore.json").write_text("{}")
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    large = Snapshot("895208b48aa1", at, (), (), 1, 1 << 50, 0, 0)
    monkeypatch.setattr(restore, "known_of", lambda *_: [large])

    assert restore.run(settings) == 2

    said = capsys.readouterr().out
    assert re.search(r"restore = refused; disk of \S+restored = .* free; 2251800.4 GB needed; df -h", said), said
    assert not restore.folder_of(settings).exists()
