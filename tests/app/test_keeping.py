"""What the repositories keep, thin, copy and let go: on real ones, with snapshots of the days and hours that matter."""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.backup import copying, fetch, maintain, recoveries, restic, restore, snapshot, spool, window
from app.backup.settings import Settings
from tests.app.repositories import empty, keeper_in, made, of, taken

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shortest retention that there is: four days are kept."""
    settings = keeper_in(tmp_path, monkeypatch)
    # The other kinds are looked after in the same way, and would cost the same time again.
    for module in (maintain, copying, fetch):
        monkeypatch.setattr(module, "KINDS", ("wal", "base"))
    return settings.model_copy(update={"retention": settings.retention.model_copy(update={"days": 2})})


def segment(number: int) -> str:
    return spool.Segment(1, number, whole=True).name


def fill(settings: Settings, *numbers: int) -> None:
    for number in numbers:
        with (settings.spool / segment(number)).open("wb") as file:
            file.truncate(spool.SEGMENT_BYTES)
        # As it was received a day ago.
        os.utime(settings.spool / segment(number), (time.time() - 86400,) * 2)


def held(settings: Settings) -> set[str]:
    """Segments that some snapshot of the log has."""
    wal = of(settings, "wal")
    return {name for one in restic.snapshots(wal) for name in restic.files_of(wal, one.id)}


def figures(settings: Settings, kind: str) -> dict[str, float]:
    families = text_string_to_metric_families((settings.textfiles / f"rag_backup_{kind}.prom").read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def mark(folder: Path, text: str) -> Path:
    """A folder whose content is another one each time."""
    folder.mkdir(exist_ok=True)
    (folder / "mark").write_text(text)
    return folder


def test_log_that_waited_for_a_copy_for_hours_is_in_a_snapshot_that_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(settings, "wal", "base")
    wal = of(settings, "wal")
    noon = datetime.now(UTC).replace(minute=20, second=0, microsecond=0) - 6 * HOUR
    place = spool.written(5 * spool.SEGMENT_BYTES + 40)
    settings.newest_base.write_text(json.dumps({"system_identifier": 1, "started_lsn": place}))

    def copied(at: datetime) -> None:
        taken(wal, settings.spool, "wal", at)
        snapshot._trimmed(settings, wal)

    fill(settings, 1)
    copied(noon - 9 * HOUR)
    # Nothing was copied for hours.
    fill(settings, 2, 3, 4, 5, 6)
    for minutes in (0, 1, 50, 70, 71):
        copied(noon + timedelta(minutes=minutes))
    fill(settings, 7)
    copied(noon + 5 * HOUR)
    assert not (settings.spool / segment(4)).exists(), "nothing was let go: the test proves nothing"

    assert maintain.run(settings) == 0

    assert held(settings) == {segment(number) for number in range(1, 8)}


def test_the_newest_base_stays_however_old_it_is_and_so_does_the_log_since(settings: Settings) -> None:
    made(settings, "wal", "base")
    now = datetime.now(UTC).replace(microsecond=0)
    folder = settings.folder / "any"
    bases = [taken(of(settings, "base"), mark(folder, f"{day}"), "base", now - day * DAY) for day in (9, 8)]
    logs = [taken(of(settings, "wal"), mark(folder, f"{day}"), "wal", now - day * DAY) for day in range(9, -1, -1)]
    (settings.aside / "gap").mkdir()
    (settings.aside / "gap/segment").write_bytes(bytes(1000))

    assert maintain.run(settings) == 0

    assert [one.id for one in restic.snapshots(of(settings, "base"))] == [bases[1].id]
    assert [one.id for one in restic.snapshots(of(settings, "wal"))] == [one.id for one in logs[1:]]
    assert figures(settings, "maintain")["rag_backup_aside_bytes"] == 1000
    assert figures(settings, "maintain")["rag_backup_aside_oldest_timestamp_seconds"] > 0
    # With another base the old one may go, and the log that it alone needed.
    newer = taken(of(settings, "base"), mark(folder, "new"), "base", now - HOUR)

    assert maintain.run(settings) == 0

    assert [one.id for one in restic.snapshots(of(settings, "base"))] == [newer.id]
    assert [one.id for one in restic.snapshots(of(settings, "wal"))] == [one.id for one in logs[-5:]]


def test_a_clock_that_leaps_lets_nothing_go(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    made(settings, "wal", "base")
    now = datetime.now(UTC).replace(microsecond=0)
    folder = settings.folder / "any"
    times = [now - 400 * DAY, now - 399 * DAY, now - timedelta(seconds=90)]
    for kind in ("wal", "base"):
        for at in times:
            taken(of(settings, kind), mark(folder, f"{at}"), kind, at)

    assert maintain.run(settings) == 1

    said = capsys.readouterr().out
    # The last one may be of yesterday, a minute and a half after midnight.
    still = (times[2].date() - times[1].date()).days
    assert f"clock = {times[2]:%Y-%m-%d}, backups stood still for {still} days, so nothing was forgotten" in said
    for kind in ("wal", "base"):
        assert [one.at for one in restic.snapshots(of(settings, kind))] == times
    # Days on, the old ones are as many days with backups old as those that came since.
    for days in (3, 2, 1):
        taken(of(settings, "wal"), mark(folder, f"{days}"), "wal", now - days * DAY)

    assert maintain.run(settings) == 0

    assert [one.at for one in restic.snapshots(of(settings, "base"))] == times[1:]


def test_a_snapshot_of_a_time_to_come_makes_no_other_one_old(settings: Settings) -> None:
    made(settings, "wal", "base")
    now = datetime.now(UTC).replace(microsecond=0)
    folder = settings.folder / "any"
    for at in (now - 2 * DAY, now - DAY, now + 400 * DAY):
        taken(of(settings, "base"), mark(folder, f"{at}"), "base", at)
    # Those of the last two hours all stay, beside the last of each hour.
    for at in (now - 2 * DAY, *(now - timedelta(seconds=ago) for ago in (60, 40, 20)), now + 400 * DAY):
        taken(of(settings, "wal"), mark(folder, f"{at}"), "wal", at)

    assert maintain.run(settings) == 0

    assert len(restic.snapshots(of(settings, "base"))) == 3
    assert len(restic.snapshots(of(settings, "wal"))) == 5


def test_the_last_backup_before_a_recovery_in_place_outlives_maintenance_here_and_elsewhere(
    settings: Settings, tmp_path: Path
) -> None:
    made(settings, "wal", "base")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 5 * HOUR
    folder = settings.folder / "any"
    taken(of(settings, "base"), mark(folder, "base"), "base", hour)
    logs = [
        taken(of(settings, "wal"), mark(folder, f"{minutes}"), "wal", hour + timedelta(minutes=minutes))
        for minutes in (10, 20, 30, 40, 200)
    ]
    last = logs[1]
    told = {"at": last.at.isoformat(), "base": "", "log": last.id, "done": False, "breaks": []}
    (settings.folder / "recovery.json").write_text(json.dumps(told))
    for kind in ("wal", "base"):
        empty(settings, tmp_path / "elsewhere" / kind)
    second = settings.second.model_copy(update={"repository": str(tmp_path / "elsewhere")})
    settings = settings.model_copy(update={"second": second})

    assert maintain.run(settings) == 0
    assert copying.run(settings) == 0

    kept = [last.id, logs[3].id, logs[4].id]
    assert [one.id for one in restic.snapshots(of(settings, "wal"))] == kept
    elsewhere = copying.second(settings, "wal")
    assert elsewhere
    assert [one.original for one in restic.snapshots(elsewhere)] == kept


def test_a_backup_host_that_is_built_anew_has_recoveries_and_the_last_backups_of_before_from_the_second_repository(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (copying, fetch):
        monkeypatch.setattr(module, "KINDS", ("wal", "base", "site"))
    elsewhere = settings.second.model_copy(update={"repository": str(tmp_path / "elsewhere")})
    settings = settings.model_copy(update={"second": elsewhere})
    anew = settings.model_copy(update={"folder": tmp_path / "anew"})
    for kind in ("wal", "base", "site"):
        for place in ("repositories", "elsewhere", "anew/repositories"):
            empty(settings, tmp_path / place / kind)
    base, log = (taken(of(settings, kind), mark(tmp_path / "any", kind), kind) for kind in ("base", "wal"))
    told = {"at": log.at.isoformat(), "base": base.id, "log": log.id, "done": True}
    told["breaks"] = [[log.at.isoformat(), (log.at + HOUR).isoformat()]]
    mark(settings.site_folder, "the site")
    (settings.folder / "recovery.json").write_text(json.dumps(told))

    assert snapshot._site_taken(settings)
    assert not snapshot._site_taken(settings)
    assert copying.run(settings) == 0
    # The new host has taken the site's state already, as its deploy put it, and knows of no recovery.
    taken(replace(of(settings, "site"), location=str(tmp_path / "anew/repositories/site")), tmp_path / "any", "site")
    assert fetch.run(anew) == 0
    capsys.readouterr()

    assert recoveries.run(anew) == 0
    assert json.loads(capsys.readouterr().out) == told
    bases, logs = restore.known_of(anew, "base"), restore.known_of(anew, "wal")
    found = restore.named(restore.Request(base=told["base"], log=told["log"]), bases, logs)
    assert (found.base, found.log) == (bases[0].id, (logs[0].id,))
    assert bases[0].id != base.id
    assert window.window(anew)["log"]["id"] == log.id
    # Until somebody has written down what the repository knows, nothing goes, here and there; one of this host's own
    # recoveries is not all of it.
    there = copying.second(anew, "base")
    assert there
    later = datetime.now(UTC)
    its_own = told | {"at": later.isoformat(), "base": "its own", "breaks": []}
    for known in (None, its_own):
        if known:
            (anew.folder / "recovery.json").write_text(json.dumps(known))
        assert maintain._past(anew) == (None, recoveries.UNKNOWN)
        assert copying._past(anew, there) == (None, recoveries.UNKNOWN)
    assert recoveries.run(anew) == 0
    both = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert both == its_own | {"breaks": told["breaks"]}
    (anew.folder / "recovery.json").write_text(json.dumps(both))
    assert maintain._past(anew)[0]
    assert copying._past(anew, there)[0]


def test_copies_of_copies_are_known_by_the_first_one(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(settings, "base")
    folder = settings.folder / "any"
    originals = [taken(of(settings, "base"), mark(folder, text), "base").id for text in ("a", "b")]
    second = settings.second.model_copy(update={"repository": str(tmp_path / "second")})
    third = second.model_copy(update={"repository": str(tmp_path / "third")})

    # Here, elsewhere, and back onto a backup host that was built anew; from there to a third place.
    def on(name: str, place: object) -> Settings:
        return settings.model_copy(update={"folder": tmp_path / name, "second": place})

    def copied(here: Settings) -> copying.Copied:
        target = copying.second(here, "base")
        assert target
        return copying._copied(here, "base", target, None)

    for name in ("second", "third", "anew/repositories", "again/repositories"):
        empty(settings, tmp_path / name / "base")
    assert copied(on(".", second)).new == 2
    assert fetch.run(on("anew", second)) == 0
    there, known = copied(on("anew", third)), restic.snapshots(of(settings, "base"))
    assert (there.problem, there.new, there.newest) == ("", 2, known[-1].at.timestamp())
    assert fetch.run(on("again", third)) == 0
    assert fetch.run(on("again", third)) == 0

    assert "base: 0 of 2 snapshots came, 2 were here" in capsys.readouterr().out
    found = restic.snapshots(replace(of(settings, "base"), location=str(tmp_path / "again/repositories/base")))
    assert [one.original for one in found] == originals
