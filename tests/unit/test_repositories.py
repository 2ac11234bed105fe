"""What the verbs decide before restic is asked: who gives the base, what leaves the spool, what is read and copied."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from app.backup import base, copying, maintain, manifest, repositories, restic, snapshot, spool
from app.backup.base import Source
from app.backup.keys import run as init
from app.backup.metrics import BackupError
from app.backup.restic import Repository, RepositoryError, Snapshot
from app.backup.settings import Second, Settings
from app.settings import ConfigurationError
from tests.unit.backups import settings_in

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "repository-password").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    made = settings_in(tmp_path)
    made.site_folder.mkdir()
    return made


def test_the_furthest_replica_gives_the_base_and_the_primary_where_there_is_none() -> None:
    primary = Source("db1", standby=False, at=100, bytes=1)
    near = Source("db2", standby=True, at=90, bytes=1)
    stuck = Source("db3", standby=True, at=10, bytes=1)

    assert base.chosen([primary, stuck, near]) == near
    assert base.chosen([primary]) == primary
    assert base.chosen([near, primary, stuck], primary=True) == primary
    with pytest.raises(BackupError, match="no host among 0"):
        base.chosen([])
    with pytest.raises(BackupError, match="no primary among 1"):
        base.chosen([near], primary=True)


def test_a_base_that_no_database_gives_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    (credentials / "backup-password").write_text("x")

    def refuses(*_: object, **__: object) -> None:
        raise psycopg2.OperationalError("SSL error: certificate has expired")

    monkeypatch.setattr(psycopg2, "connect", refuses)

    with pytest.raises(
        BackupError, match=r"lets us in \(SSL error: certificate has expired\); one of db1; make cluster"
    ):
        base.sources(settings)


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**31 + 1, 10 * 2**31, 2**42])
def test_every_part_is_read_within_a_week(size: int) -> None:
    days = [maintain.part_of(size, NOON + timedelta(days=day)) for day in range(7)]

    parts = days[0][1]
    assert {part for part, _ in days} == set(range(1, parts + 1))
    assert {of for _, of in days} == {parts}
    assert parts == 1 if size <= 2**31 else parts > 1


def taken(minutes: float, name: str) -> Snapshot:
    return Snapshot(name, NOON - timedelta(minutes=minutes), ("/spool",), ("wal",), 1, 1, 1, 1, original=name)


def test_of_the_log_the_last_of_each_ended_hour_and_the_newest_are_copied_and_of_the_rest_all() -> None:
    known = [taken(130, "a"), taken(125, "b"), taken(65, "c"), taken(61, "d"), taken(20, "e"), taken(1, "f")]

    assert [one.id for one in copying.wanted("wal", known)] == ["b", "d", "f"]
    assert copying.wanted("base", known) == known
    assert copying.wanted("wal", []) == []


def test_the_log_that_a_base_backup_needs_comes_from_postgresqls_own_list(tmp_path: Path) -> None:
    (tmp_path / "backup_manifest").write_text(
        json.dumps(
            {
                "System-Identifier": 7577000000000000001,
                "Files": [{"Path": "PG_VERSION"}, {"Path": "base/1/2"}],
                "WAL-Ranges": [{"Timeline": 3, "Start-LSN": "0/16000060", "End-LSN": "0/16000158"}],
            }
        )
    )

    assert manifest.range_of(tmp_path) == manifest.Range(7577000000000000001, 3, "0/16000060", "0/16000158")
    assert manifest.files_of(tmp_path) == 2


def test_a_base_backup_over_a_failover_begins_on_the_old_timeline(tmp_path: Path) -> None:
    ranges = [
        {"Timeline": 4, "Start-LSN": "0/17000000", "End-LSN": "0/18000158"},
        {"Timeline": 3, "Start-LSN": "0/16000060", "End-LSN": "0/17000000"},
    ]
    (tmp_path / "backup_manifest").write_text(json.dumps({"System-Identifier": 7, "Files": [], "WAL-Ranges": ranges}))

    assert manifest.range_of(tmp_path) == manifest.Range(7, 4, "0/16000060", "0/18000158")


def test_a_base_backup_takes_away_the_request_that_it_was_made_for_and_no_later_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.staging.mkdir()
    later = "log is missing between 0003 and 0005"

    def staged(*_: object) -> tuple[Snapshot, Source, manifest.Range]:
        settings.base_wanted.write_text(next(asks))
        return (
            taken(0, "a"),
            Source("db1", standby=False, at=1, bytes=1),
            manifest.Range(7, 2, "0/5000028", "0/5000158"),
        )

    monkeypatch.setattr(base, "_staged_and_taken", staged)
    asks = iter([later, later])

    settings.base_wanted.write_text("no base backup is known\n")
    base._work(settings)
    assert settings.base_wanted.read_text() == later

    base._work(settings)
    assert not settings.base_wanted.exists()
    assert spool.base_of(settings) == spool.Base(7, 0x5000028, 2, 0x5000158)


def test_a_password_in_the_second_repositorys_address_is_refused_and_not_shown(settings: Settings) -> None:
    def there(place: str) -> Repository | None:
        update = {"second": settings.second.model_copy(update={"repository": place})}
        return repositories.second(settings.model_copy(update=update), "wal")

    with pytest.raises(ConfigurationError, match="RESTIC_REST_PASSWORD; make keep-secret") as refused:
        there("rest:https://user:secret@example.org/rag")
    assert "secret@" not in str(refused.value)
    assert there("rest:https://example.org/rag")


def test_over_sftp_ssh_uses_the_sites_key_for_the_server_that_shows_its_own_and_asks_nobody(
    settings: Settings, tmp_path: Path
) -> None:
    place = {"repository": "sftp://backup@example.org:2222//srv/rag"}
    with pytest.raises(
        ConfigurationError, match="private key that its server lets in is needed; make keep-secret SITE=… NAME"
    ):
        repositories.second(settings.model_copy(update={"second": Second(**place)}), "wal")
    key = tmp_path / "credentials/second-repository-key"
    key.write_text("a key")
    with pytest.raises(ConfigurationError, match=r"host key is needed; backup\.second_repository_host_key"):
        repositories.second(settings.model_copy(update={"second": Second(**place)}), "wal")

    found = repositories.second(
        settings.model_copy(update={"second": Second(**place, known_hosts="/etc/rag/known")}), "wal"
    )

    assert found
    assert found.location == "sftp://backup@example.org:2222//srv/rag/wal"
    words = found.ssh.split()
    assert words[:4] == ["-F", "none", "-i", str(key)]
    assert {"-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oUserKnownHostsFile=/etc/rag/known"} < set(words)
    # What its owner shows to everybody would be told as the reason of a failure.
    assert "-oLogLevel=ERROR" in words


def test_the_ca_of_the_second_repositorys_server_is_restics_alone(settings: Settings) -> None:
    elsewhere = Second(repository="rest:https://example.org/rag", ca="/etc/rag/ca.crt")

    there = repositories.second(settings.model_copy(update={"second": elsewhere}), "wal")

    assert there
    assert there.environment == {"RESTIC_CACERT": "/etc/rag/ca.crt"}
    assert repositories.own(settings, "wal").environment == {}


def test_log_of_this_hour_stays_and_asks_no_repository_every_few_seconds(settings: Settings) -> None:
    (settings.spool / spool.Segment(1, 1, whole=True).name).write_bytes(b"x")
    settings.newest_base.write_text(json.dumps({"system_identifier": 1, "started_lsn": "0/5000028"}))

    assert snapshot._trimmed(settings, Repository("/nowhere", Path("/nowhere"))) == 0


def test_a_segment_that_got_its_name_while_restic_read_is_read_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def backup(*_: object, **__: object) -> Snapshot:
        calls.append("")
        if len(calls) == 1:
            raise RepositoryError("partial", "repository = partial, 0001.partial: lstat: no such file or directory")
        return taken(0, "a")

    monkeypatch.setattr(restic, "backup", backup)

    assert snapshot._spool_taken(settings, Repository("/r", Path("/p"))) == taken(0, "a")
    assert len(calls) == 2


def test_a_file_that_may_not_be_read_fails_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def backup(*_: object, **__: object) -> Snapshot:
        raise RepositoryError("partial", "repository = partial, 0001: permission denied")

    monkeypatch.setattr(restic, "backup", backup)

    with pytest.raises(RepositoryError, match="permission denied"):
        snapshot._spool_taken(settings, Repository("/r", Path("/p")))


def test_the_sites_state_is_taken_when_it_changed_and_not_every_few_seconds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restic, "backup", lambda *_, **__: taken(0, "a"))
    assert not snapshot._site_taken(settings)
    (settings.site_folder / "inventory").write_text("1")

    assert snapshot._site_taken(settings)
    assert not snapshot._site_taken(settings)

    (settings.site_folder / "inventory").write_text("2")
    assert snapshot._site_taken(settings)


def test_the_second_repositorys_server_gets_its_users_and_keys_in_the_environment_alone(
    settings: Settings, tmp_path: Path
) -> None:
    elsewhere = settings.model_copy(
        update={"second": settings.second.model_copy(update={"repository": "s3:https://s3.example.org/rag/"})}
    )
    (tmp_path / "credentials" / "second-repository-environment").write_text("# ours\nAWS_ACCESS_KEY_ID=a\nX=b=c\n\n")

    there = repositories.second(elsewhere, "wal")

    assert there
    assert there.location == "s3:https://s3.example.org/rag/wal"
    assert there.environment == {"AWS_ACCESS_KEY_ID": "a", "X": "b=c"}
    assert "b=c" not in repr(there)
    assert repositories.second(settings, "wal") is None


def test_a_repository_without_its_config_is_not_made_anew_over_what_is_left(settings: Settings) -> None:
    (settings.repository("wal") / "data").mkdir(parents=True)
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    (credentials / "drill-password").write_text("y")

    assert init(settings) == 1

    assert [path.name for path in settings.repository("wal").iterdir()] == ["data"]


def test_a_short_password_is_no_key(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "line").write_text("short\n")
    with (tmp_path / "line").open() as line:
        monkeypatch.setattr("sys.stdin", line)
        with pytest.raises(ConfigurationError, match="password = 5 characters"):
            init(settings, offline=True)


def test_a_credential_that_the_unit_does_not_load_is_named(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="credential drill-password"):
        repositories.own(settings, "wal", key="drill-password")
