"""What a recovery in place writes down of the last backup before it, and what counts for the next recovery."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inventories.settings import Machine, Site
from tasks import last_backup
from tasks.in_place import Order
from tests.unit.recovering import BEGUN, MOVE, NEWER, RECORD, STOP, WINDOW, Machines


def test_the_last_backup_counts_from_the_moment_on_at_which_the_data_are_exchanged(machines: Machines) -> None:
    machines.recover()

    order = [machines.first(step) for step in (STOP, "start rag-backup; systemctl", "stop patroni", BEGUN, MOVE)]
    assert order == sorted(order)
    kept = json.loads(machines.asked[machines.first(BEGUN)].partition("recovery.json ")[2] or "{}")
    assert (kept["base"], kept["log"], kept["began"]) == ("b1", "l1", "2026-11-27T12:00:00+00:00")


def test_a_rebuild_writes_down_what_the_repository_had_and_the_way_back_to_it(machines: Machines) -> None:
    machines.recover(Order(datetime(2026, 11, 27, 8, tzinfo=UTC), fresh=True))

    kept = json.loads(machines.asked[machines.first(BEGUN)].partition("recovery.json ")[2])
    assert (kept["at"], kept["base"], kept["log"]) == (WINDOW["last"], "b1", "l1")
    assert not machines.was("start rag-backup; systemctl start rag-backup")


def test_a_recovery_is_over_when_its_cluster_has_a_base_of_its_own() -> None:
    with_new = WINDOW | {"bases": [*WINDOW["bases"], NEWER]}

    assert not last_backup.unfinished({}, WINDOW)
    assert last_backup.unfinished(RECORD, WINDOW)
    assert not last_backup.unfinished(RECORD, with_new)
    # As an older release wrote it, whatever that said of its end.
    old = {name: value for name, value in RECORD.items() if name != "began"} | {"done": False}
    assert not last_backup.unfinished(old, with_new)
    assert last_backup.breaks_of(RECORD, WINDOW) == []
    assert last_backup.breaks_of(RECORD, with_new) == [[RECORD["at"], NEWER["at"]]]
    done = RECORD | {"breaks": last_backup.breaks_of(RECORD, with_new)}
    assert last_backup.breaks_of(done, with_new) == done["breaks"]


def test_the_last_backup_of_a_recovery_that_stopped_midway_counts_for_the_next(machines: Machines) -> None:
    machines.answer({"recovery.json 2>": json.dumps(RECORD)})
    machines.answers["select exists"] = "f"

    said = machines.recover()

    assert "a recovery did not come to its end; latest is the last backup that it took" in said
    assert machines.was('restore {"to": null, "base": "b0", "log": "l0"}')
    assert not machines.was("start rag-backup; systemctl start rag-backup")


def test_one_that_was_given_up_counts_no_more_once_people_use_the_site(machines: Machines) -> None:
    machines.answer({"recovery.json 2>": json.dumps(RECORD)})
    machines.answers["select exists"] = "t"

    said = machines.recover()

    assert not [line for line in said if "did not come to its end" in line]
    # What they did comes back with a base of the cluster in which they did it, and is in the last backup.
    assert machines.first("systemctl start rag-base") < machines.first(STOP)
    assert machines.was('restore {"to": null}')
    assert machines.first("start rag-backup; systemctl start rag-backup") > machines.first(STOP)


def test_the_way_back_is_the_last_backup_of_the_recovery_before(machines: Machines) -> None:
    machines.window = WINDOW | {"bases": [*WINDOW["bases"], NEWER]}
    machines.answer({"recovery.json 2>": json.dumps(RECORD)})

    machines.recover(Order(None, before=True))

    assert machines.was('restore {"to": null, "base": "b0", "log": "l0"}')
    assert json.dumps([[RECORD["at"], NEWER["at"]]]) in machines.asked[machines.first(BEGUN)]


def test_a_link_in_the_place_of_the_record_is_not_followed(
    prod: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recovery.json.new").symlink_to(tmp_path / "shadow")
    (tmp_path / "shadow").write_text("root's")

    def ask(_: Site, __: Machine, script: str, stdin: str = "", **___: Any) -> str:
        subprocess.run(["sh", "-c", script], input=stdin, text=True, check=True)
        return ""

    monkeypatch.setattr(last_backup, "ask", ask)
    monkeypatch.setattr(last_backup, "RECORD", str(tmp_path / "recovery.json"))

    last_backup._keep(prod, prod.machine("ops1"), RECORD)

    assert (tmp_path / "shadow").read_text() == "root's"
    assert json.loads((tmp_path / "recovery.json").read_text()) == RECORD
