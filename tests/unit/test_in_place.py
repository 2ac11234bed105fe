"""A recovery in place: what it finds out before anything stands still, and what is left when it stops."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from inventories.settings import Site
from tasks import in_place, outage, patroni, swap
from tasks.in_place import Order
from tasks.members import Cluster, Member, RefusedError, StoppedError
from tasks.ssh import AskError
from tests.unit.recovering import BEGUN, MOVE, RECORD, STOP, Machines


def fails(why: str = "no room") -> Any:
    def answer() -> str:
        raise AskError(f"ops1: {why}")

    return answer


def test_everything_goes_on_where_it_stops_before_the_data_are_touched(machines: Machines) -> None:
    machines.answer({"start rag-backup; systemctl start rag-backup": fails()})

    with pytest.raises(StoppedError, match="ops1: no room; no data were touched and all goes on") as stopped:
        machines.recover()

    assert "before" not in str(stopped.value)
    for name, unit in (("app1", "rag-api"), ("app2", "rag-api"), ("db1", "patroni"), ("ops1", "rag-wal")):
        assert machines.was(f"^{name}: .*systemctl start {unit}"), name
    assert machines.was("^app1: rm -f /run/systemd/system/rag-api")
    assert not machines.was(MOVE)
    assert not machines.was(BEGUN)


def test_what_is_refused_once_something_stands_still_is_told_as_a_stop(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise RefusedError("ops1: restore = refused; free disk at scratch = 1 MB")

    monkeypatch.setattr("tasks.restored.make", refuses)

    with pytest.raises(StoppedError, match="free disk at scratch = 1 MB; no data were touched and all goes on"):
        machines.recover()


def test_who_interrupts_it_is_told_where_it_stands(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.restored.make", interrupted)
        with pytest.raises(StoppedError, match="stopped; interrupted; no data were touched and all goes on"):
            machines.recover()
    monkeypatch.setattr(swap, "follow", interrupted)
    with pytest.raises(
        StoppedError, match=r"stopped midway; interrupted; .*with TO=before the data of before come back"
    ):
        machines.recover()


def test_a_rebuild_that_stops_midway_is_typed_again(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise StoppedError("db2 = not back")

    monkeypatch.setattr(swap, "follow", fails)

    with pytest.raises(StoppedError, match=r"db2 = not back.*make rebuild SITE=prod with the same FROM") as stopped:
        machines.recover(Order(None, fresh=True))

    assert "TO=before" not in str(stopped.value)


def test_what_does_not_run_again_is_named_with_the_command_that_helps(machines: Machines) -> None:
    machines.answer(
        {"start rag-backup; systemctl start rag-backup": fails(), "systemctl start rag-api": fails("app1 is broken")}
    )

    with pytest.raises(StoppedError, match=r"not all of it runs again: ops1: app1 is broken .*; make deploy SITE=prod"):
        machines.recover()


def test_a_backup_host_that_cannot_hold_the_copy_is_refused_while_all_runs(machines: Machines) -> None:
    machines.answer({r"ops1: df --block-size=1M": "600"})

    with pytest.raises(RefusedError, match="free disk of ops1 = 600 MB; 662 MB are needed for the restored copy"):
        machines.recover()

    assert not machines.was(STOP)


def test_a_database_machine_that_lives_and_does_not_let_us_in_is_refused(machines: Machines) -> None:
    machines.silent = {"db3"}
    assert "silent, and left out: db3" in machines.recover()

    machines.answers["dev/tcp"] = "8008"
    with pytest.raises(RefusedError, match="db3 = lives, its port 8008 answers db1, and SSH does not"):
        machines.recover()


def test_nothing_is_moved_while_another_machine_leads(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "led_by", lambda *_: "db9")

    with pytest.raises(StoppedError, match=r"db9 = leads with the data of before.*all goes on"):
        machines.recover()

    assert not machines.was(MOVE)


def test_who_leads_instead_of_the_first_member_is_told_at_once(prod: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "ask", lambda *_, **__: "0")
    cluster = Cluster((Member("db2", role="leader", state="running"), Member("db1")))
    monkeypatch.setattr(swap, "look", lambda *_: cluster)

    with pytest.raises(StoppedError, match="db2 = leads instead of db1"):
        swap._wait_for_leader(prod, prod.machine("db1"), lambda _: None)


def test_nothing_is_moved_while_a_program_writes(machines: Machines) -> None:
    machines.answer({"is-active rag-api": "active"})
    with pytest.raises(StoppedError, match="app1 = runs again"):
        machines.recover()

    # One that SSH does not reach is seen by the primary.
    machines.answers["is-active rag-api"] = ""
    machines.answers["pg_stat_activity"] = "10.0.0.9"
    with pytest.raises(StoppedError, match=r"the program at 10\.0\.0\.9 = writes still"):
        machines.recover()

    assert not machines.was(MOVE)


def test_an_app_host_that_is_gone_holds_nobody_up(machines: Machines) -> None:
    machines.silent = {"app2"}

    said = machines.recover()

    assert "silent, and left out: app2" in said
    assert "app2 was silent; when it is back, its index sees that the data are others and fills anew" in said
    assert machines.was("^app1: systemctl start rag-api")

    machines.silent = {"app1", "app2"}
    with pytest.raises(RefusedError, match="app hosts of prod = all silent"):
        machines.recover()


def test_the_program_and_patroni_cannot_start_until_their_turn(machines: Machines) -> None:
    machines.recover()

    for name, unit in (("app1", "rag-api"), ("app1", "rag-migrate"), ("db1", "patroni"), ("db2", "patroni")):
        path = outage.drop_in(unit)
        assert machines.first(f"^{name}: .*printf .* > {path}") < machines.first(f"^{name}: .*rm -f .*{path}")
    # What was begun with the old data does not stay when the machine is started anew.
    assert outage.drop_in("patroni").startswith("/run/")


def test_root_writes_nothing_where_the_user_of_the_backups_could_have_put_a_link(machines: Machines) -> None:
    machines.recover(Order(datetime(2026, 11, 27, 8, tzinfo=UTC)))

    there = [line.partition(": ")[2] for line in machines.asked if line.startswith("ops1: ")]
    own = [line for line in there if not line.startswith("cd /; runuser -u rag-backup -- sh -c ")]
    # Its own folder is root's; what lies deeper is not.
    assert [line for line in own if re.search(r"> ?/var/lib/rag-backup/recovery.json.new; mv -T", line)]
    assert not [line for line in own if re.search(r"(>|mv|install|cat|tar)[^;]* /var/lib/rag-backup/\w+/\w+", line)
                and "/aside/spool-" not in line]  # fmt: skip


def test_what_a_controller_that_died_left_stopped_goes_on_with_the_end_of_the_copy(machines: Machines) -> None:
    said: list[str] = []
    machines.answer({"rag-api.service.d/recovery.conf .. echo held": "held"})

    in_place.end(machines.site, machines.site.machine("ops1"), said.append)

    assert said[-1] == "no data were touched by the recovery that stopped; all goes on"
    assert machines.was("^app1: rm -f .*systemctl start rag-api")

    # Where the data are exchanged already, nobody may write yet.
    machines.asked.clear()
    machines.answer({"recovery.json 2>": json.dumps(RECORD)})
    in_place.end(machines.site, machines.site.machine("ops1"), said.append)
    assert said[-1].startswith("a recovery stopped midway; make restore SITE=prod IN_PLACE=1")
    assert not machines.was("systemctl start rag-api")


def test_the_rows_are_compared_before_anybody_can_write(machines: Machines) -> None:
    machines.answer({r"select json_build_object\(\'documents": '{"documents": 2}'})

    with pytest.raises(StoppedError, match=r"rows of the cluster = \{'documents': 1\} fewer than in the copy"):
        machines.recover()

    assert not machines.was("systemctl start rag-api")


def test_where_the_lock_was_lost_nothing_more_is_done(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: object) -> None:
        if machines.was("systemctl stop patroni"):
            raise StoppedError("restore in place = no longer alone")

    monkeypatch.setattr("tests.unit.recovering.Still.check", lost)

    with pytest.raises(StoppedError, match="no longer alone"):
        machines.recover()

    assert not machines.was("deleterange")
    assert patroni.RETURN
