"""What a second repository keeps back when packs in it are damaged, and when that is noticed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.backup import copying, fetch, maintain, process, recoveries, restic
from app.backup.metrics import published
from app.backup.process import Repository, RepositoryError
from app.backup.restic import Snapshot
from app.backup.settings import Settings
from tests.app.repositories import empty, keeper_in, of, taken

KINDS = ("base", "site")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = keeper_in(tmp_path, monkeypatch)
    for module in (copying, fetch):
        monkeypatch.setattr(module, "KINDS", KINDS)
    # All of it each time, as all of it is within a month.
    monkeypatch.setattr(copying, "PARTS", 1)
    monkeypatch.setattr(process, "OPEN_SECONDS", 3.0)
    for kind in ("wal", *KINDS):
        empty(settings, tmp_path / "repositories" / kind)
    taken(of(settings, "wal"), content(tmp_path / "any"), "wal")
    return settings.model_copy(
        update={"second": settings.second.model_copy(update={"repository": f"{tmp_path}/there"})}
    )


def content(folder: Path) -> Path:
    """A folder that shares nothing with any other one."""
    folder.mkdir(exist_ok=True)
    (folder / "data").write_bytes(os.urandom(300_000))
    return folder


def packs(place: Path) -> Iterator[Path]:
    return (path for path in (place / "data").rglob("*") if path.is_file())


def copied_and_damaged(settings: Settings, kind: str, *, which: int, count: int = 3) -> list[Snapshot]:
    """So many snapshots of that kind, each copied by itself; in the packs of one of them a byte is another one."""
    here, there = of(settings, kind), Path(settings.second.repository) / kind
    for each in KINDS:
        empty(settings, there.with_name(each))
    came: list[set[Path]] = []
    for _ in range(count):
        before = set(packs(there))
        snapshot = taken(here, content(settings.folder / "any"), kind)
        restic.copy(here, Repository(str(there), here.password_file), [snapshot])
        came.append(set(packs(there)) - before)
    for pack in came[which]:
        old = pack.read_bytes()
        pack.chmod(0o600)
        pack.write_bytes(bytes([old[0] ^ 1]) + old[1:])
    return restic.snapshots(here)


def brought(settings: Settings) -> tuple[int, list[str]]:
    """What fetching brings to an empty backup host: exit code, and the originals that came."""
    anew = settings.model_copy(update={"folder": settings.folder / "anew"})
    for kind in KINDS:
        empty(settings, anew.folder / "repositories" / kind)
    code = fetch.run(anew)
    there = Repository(str(anew.folder / "repositories/base"), of(settings, "base").password_file)
    return code, [one.original for one in restic.snapshots(there)]


def test_a_damaged_pack_keeps_back_what_needs_it_and_nothing_else(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, damaged, newest = copied_and_damaged(settings, "base", which=1)

    code, came = brought(settings)

    assert came == [oldest.id, newest.id]
    assert code == 0
    said = capsys.readouterr().out
    assert "base: 2 of 3 snapshots came, 0 were here" in said
    assert "base: 1 did not come, damaged there: " in said
    assert f"{damaged.at:%Y-%m-%d}" in said
    # Maintenance asks the site's state what must stay.
    assert said.index("site: ") < said.index("base: ")


def test_a_damaged_newest_snapshot_is_named_and_the_older_ones_recover(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, middle, _ = copied_and_damaged(settings, "base", which=2)

    code, came = brought(settings)

    assert (code, came) == (0, [oldest.id, middle.id])
    assert "base = without its newest; a place that has it whole; make fetch-repositories" in capsys.readouterr().out


def test_where_nothing_of_a_kind_can_be_read_fetching_fails(settings: Settings) -> None:
    copied_and_damaged(settings, "base", which=0, count=1)

    assert brought(settings) == (1, [])


def test_a_damaged_pack_elsewhere_fails_the_copy_before_the_fire(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    copied_and_damaged(settings, "base", which=0)

    assert copying.run(settings) == 1

    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{settings.second.repository}/base = corrupt" in last
    found = published(settings, "copy")
    assert found["rag_backup_last_result"] == {(("kind", "copy"),): 0.0}
    # What came is there all the same, and the other kind is well.
    assert found[copying.NEWEST][(("repository", "base"),)] == restic.snapshots(of(settings, "base"))[-1].at.timestamp()
    assert (("repository", "base"),) not in found.get(copying.READ, {})


def test_a_server_that_is_gone_leaves_the_age_of_the_newest_copy_to_tell(settings: Settings) -> None:
    copied_and_damaged(settings, "base", which=0, count=1)
    taken(of(settings, "base"), content(settings.folder / "any"), "base")
    copying.run(settings)
    before = published(settings, "copy")
    gone = settings.second.model_copy(update={"repository": "rest:http://127.0.0.1:9/rag"})

    assert copying.run(settings.model_copy(update={"second": gone})) == 1

    after = published(settings, "copy")
    assert before[copying.NEWEST]
    assert (after[copying.NEWEST], after[copying.KEYS]) == (before[copying.NEWEST], before[copying.KEYS])


def test_copies_that_nobody_thins_are_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that was built anew and not given the repositories: what lies elsewhere would grow for ever."""
    for kind in KINDS:
        empty(settings, Path(settings.second.repository) / kind)
    there = Repository(f"{settings.second.repository}/site", of(settings, "site").password_file)
    taken(there, recovered(settings.folder / "site-of-before", "2026-11-20T11:00:00+00:00"), "site")

    assert copying.run(settings) == 1

    assert capsys.readouterr().out.splitlines()[-1].endswith(recoveries.UNKNOWN)


def recovered(folder: Path, at: str) -> Path:
    """A site's state that tells of a recovery."""
    told = {"at": at, "base": "b", "log": "l", "began": at, "done": True, "breaks": [[at, at]]}
    content(folder)
    (folder / recoveries.NAME).write_text(json.dumps(told))
    return folder


def test_an_old_step_of_a_recovery_that_is_damaged_keeps_no_maintenance_up(settings: Settings) -> None:
    site, days = of(settings, "site"), ("2026-11-20", "2026-11-21")
    first, second = (f"{day}T11:00:00+00:00" for day in days)
    came: list[set[Path]] = []
    for at in (first, second):
        before = set(packs(Path(site.location)))
        taken(site, recovered(settings.folder / "state", at), "site")
        came.append(set(packs(Path(site.location))) - before)
    assert [record["at"] for record in recoveries._told(site)] == [first, second]

    spoilt(site, came[0], "data")
    assert [record["at"] for record in recoveries._told(site)] == [second]
    (settings.folder / recoveries.NAME).write_text((settings.folder / "state" / recoveries.NAME).read_text())
    assert maintain._past(settings)[0]

    spoilt(site, came[1], "data")
    with pytest.raises(RepositoryError) as failed:
        recoveries._told(site)
    assert failed.value.kind == "corrupt"
    assert "; nothing was forgotten in any repository" in maintain._past(settings)[1]


def test_a_tree_that_restic_cannot_read_is_a_damaged_repository(settings: Settings) -> None:
    site = of(settings, "site")
    before = set(packs(Path(site.location)))
    taken(site, recovered(settings.folder / "state", "2026-11-20T11:00:00+00:00"), "site")

    spoilt(site, set(packs(Path(site.location))) - before, "tree")

    with pytest.raises(RepositoryError) as failed:
        recoveries._told(site)
    assert failed.value.kind == "corrupt"


def spoilt(repository: Repository, those: set[Path], what: str) -> None:
    """The packs of the data, which are larger here, or those of the trees."""
    for pack in those:
        old = pack.read_bytes()
        if (len(old) > 100_000) == (what == "data"):
            pack.chmod(0o600)
            # All blobs of it, and not the header at its end, whose length stands in the last four bytes.
            blobs = len(old) - 4 - int.from_bytes(old[-4:], "little")
            pack.write_bytes(bytes(byte ^ 1 for byte in old[:blobs]) + old[blobs:])
