"""Repositories that are hurt: each way has its kind, one line, a figure, and an end."""

from collections.abc import Iterator

import pytest

from app.backup.repositories import KINDS
from inventories import secrets
from inventories.escrow import offline_password
from inventories.settings import Machine
from tests.live.fleet import Fleet
from tests.live.hurt import Place, placed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def place(fleet: Fleet) -> Iterator[Place]:
    yield from placed(fleet)


@pytest.mark.role("backup")
def test_what_restic_passes_over_in_silence_is_a_failure(machine: Machine, place: Place) -> None:
    found = place.run(
        """
raw = subprocess.run(
    ["restic", "-r", HERE / "whole", "-p", PASSWORD, "--no-cache", "backup", "--dry-run", SOURCE, HERE / "gone"],
    capture_output=True,
)
(HERE / "empty").mkdir()
print(json.dumps({
    "raw": raw.returncode,
    "gone": said(lambda: restic.backup(at("whole"), HERE / "gone", tags=["wal"])),
    "empty": said(lambda: restic.backup(at("whole"), HERE / "empty", tags=["wal"])),
    "few": said(lambda: restic.backup(at("whole"), SOURCE, tags=["wal"], least_files=3)),
    "nothing": said(lambda: restic.restore(at("whole"), "latest", HERE / "out", include=["/gone"])),
    "producer": said(lambda: restic.backup_output(at("whole"), "x", ["sh", "-c", "echo half; exit 7"], tags=["dump"])),
    "snapshots": len(restic.snapshots(at("whole"))),
}))
"""
    )

    assert found["raw"] == 0, "restic has learnt to say it: the guard may go"
    assert [found[name][0] for name in ("gone", "empty", "few", "nothing", "producer")] == ["failed"] * 5
    assert found["snapshots"] == 1


@pytest.mark.role("backup")
def test_absent_wrong_revoked_and_locked_are_told_apart(machine: Machine, place: Place) -> None:
    found = place.run(
        """
repository = copy_of("keyed")
keys.add_key(repository, "drill", file=HERE / "credentials" / "drill-password")
drill = at("keyed", HERE / "credentials" / "drill-password")
opened = said(lambda: restic.snapshots(drill))
keys.remove_key(repository, next(key for key in keys.keys(repository) if key.user == "drill"))
holder = subprocess.Popen(
    ["restic", "-r", repository.location, "-p", PASSWORD, "--no-cache",
     "backup", "--stdin-from-command", "sleep", "60"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
while not any((repository.local / "locks").iterdir()):
    time.sleep(0.05)
locked = said(lambda: process.run(repository, ["prune"], lock_minutes=0))
lives = restic.unlock(repository)
beside = said(lambda: restic.backup(repository, SOURCE, tags=["wal"]))
holder.send_signal(signal.SIGKILL)
holder.wait()
left = len(list((repository.local / "locks").iterdir()))
after = restic.unlock(repository)
print(json.dumps({
    "absent": said(lambda: restic.snapshots(at("nowhere"))),
    "wrong": said(lambda: restic.snapshots(at("whole", HERE / "credentials" / "wrong"))),
    "opened": opened, "revoked": said(lambda: restic.snapshots(drill)),
    "locked": locked, "lives": lives, "beside": beside, "left": left, "after": after,
    "pruned": said(lambda: process.run(repository, ["prune"], lock_minutes=0)),
}))
"""
    )

    assert found["absent"][0] == "absent"
    assert found["wrong"][0] == found["revoked"][0] == "password"
    assert found["opened"][0] == ""
    assert found["locked"][0] == "locked"
    # The lock of the living stays, and keeps no backup out; that of the killed goes.
    assert (found["lives"], found["beside"][0]) == (1, "")
    assert (found["left"] >= 1, found["after"], found["pruned"][0]) == (True, 0, "")
    for name in ("absent", "wrong", "locked"):
        assert len(found[name][1].split("; ")) >= 3


HURT = {
    "flipped": "bytes_ = bytearray(pack.read_bytes()); bytes_[1000] ^= 1; pack.write_bytes(bytes_)",
    "truncated": "os.truncate(pack, 1000)",
    "deleted": "pack.unlink()",
}


@pytest.mark.role("backup")
@pytest.mark.parametrize("how", HURT)
def test_a_hurt_pack_is_found_by_the_next_maintenance(machine: Machine, place: Place, how: str) -> None:
    found = place.run(
        f"""
repository = copy_of("hurt")
pack = pack_of(repository)
pack.chmod(0o600)
{HURT[how]}
one = maintain._kept(repository, "base", 32, None)
outcome = maintain._figures({{"base": one}})
maintain._work = lambda settings: maintain.Outcome(not one.problem, one.problem, outcome)
print(json.dumps([maintain.run(settings), one.problem, figures("maintain")]))
"""
    )

    code, problem, figures = found
    assert code == 1
    assert "= corrupt," in problem
    assert figures['rag_backup_repository_good{repository="base"}'] == "0.0"
    assert figures['rag_backup_last_result{kind="maintain"}'] == "0.0"


@pytest.mark.role("backup")
def test_the_second_repository_gets_what_it_lacks_and_only_that(machine: Machine, place: Place) -> None:
    found = place.run(
        """
elsewhere = settings.second.model_copy(update={"repository": str(HERE / "elsewhere")})
settings = settings.model_copy(update={"second": elsewhere})
copying.KINDS = ("base",)
subprocess.run(["mkdir", "-p", HERE / "repositories"], check=True)
subprocess.run(["cp", "-a", HERE / "whole", HERE / "repositories/base"], check=True)
target = copying.second(settings, "base")
restic.init(target, like=at("repositories/base"))
keyless = copying.run(settings)
keys.add_key(target, "offline", password="written down, as the escrow line says\\n")
first = copying.run(settings)
second = copying._copied(settings, "base", target, None)
there = restic.snapshots(target)
pack = pack_of(at("repositories/base"))
pack.chmod(0o600)
restic.backup(at("repositories/base"), HERE / "figures", tags=["base"])
pack.unlink()
lost = copying._copied(settings, "base", target, None)
newest = restic.snapshots(at("whole"))[-1].at.timestamp()
print(json.dumps([keyless, first, second.new, second.newest == newest, [one.original for one in there],
                  [one.id for one in restic.snapshots(at("whole"))], lost.problem, figures("copy")]))
"""
    )

    keyless, first, again, is_newest, there, whole, lost, figures = found
    # The place that the line on paper does not open gets its copies, and is no good one.
    assert keyless == 1
    assert (first, again, is_newest) == (0, 0, True)
    assert there == whole
    # What the first one lost since is in the second one, and a new snapshot that needs none of it comes along.
    assert lost == ""
    assert figures['rag_backup_last_result{kind="copy"}'] == "1.0"


@pytest.mark.role("backup")
def test_the_line_that_was_written_down_opens_every_repository_and_brings_a_base_back(
    machine: Machine, fleet: Fleet
) -> None:
    found = fleet.python(
        machine.name,
        """
import os, subprocess, tempfile
from pathlib import Path
def restic(kind, *words):
    command = ["restic", "-r", f"/var/lib/rag-backup/repositories/{kind}", "--no-cache", "--no-lock", "--json", *words]
    known = {"PATH": os.environ["PATH"], "RESTIC_PASSWORD": values["password"]}
    return subprocess.run(command, env=known, capture_output=True).returncode
opened = {kind: restic(kind, "snapshots") for kind in values["kinds"]}
with tempfile.TemporaryDirectory() as folder:
    part = ("--include", "/data/global", "--include", "/data/PG_VERSION")
    code = restic("base", "restore", "latest", "--target", folder, "--verify", *part)
    files = [name for name in ("global/pg_control", "PG_VERSION") if (Path(folder) / "data" / name).stat().st_size]
print(json.dumps([opened, code, files]))
""",
        password=offline_password(secrets.age_key_of(fleet.site.name)),
        kinds=list(KINDS),
    )

    assert found == [dict.fromkeys(KINDS, 0), 0, ["global/pg_control", "PG_VERSION"]]
