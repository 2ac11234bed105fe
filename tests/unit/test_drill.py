"""A drill's verdicts: what did not run has failed, what is missing is named, and figures say so."""

import json
import random
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.answer import cite
from app.backup.canaries import Canary, Memory
from app.backup.choice import NEVER, Recoveries, believed
from app.backup.drill import backups, database, golden, stack, steps
from app.backup.drill.checks import Check, CheckError, Checks
from app.backup.drill.evidence import Evidence, figures
from app.backup.drill.place import free_port
from app.backup.drill.steps import DAILY, WEEKLY
from app.backup.metrics import publish
from app.backup.restic import Snapshot
from app.backup.room import kept
from app.sentences import content_words
from app.settings import Answering
from app.store.passages import Passage
from tests.unit.backups import settings_in

CHANCE = random.SystemRandom()
LONG_LINE = " ".join(f"word{number}" for number in range(90))
NOW = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)


def failing(message: str) -> str:
    raise CheckError(message)


def test_every_check_has_a_verdict_and_only_a_pass_is_well() -> None:
    checks = Checks(["good", "bad", "broken", "late", "never"])

    assert checks.run("good", 5, lambda: "as it must be")
    assert not checks.run("bad", 5, lambda: failing("thing = wrong"))
    assert not checks.run("broken", 5, lambda: str(1 // 0))
    assert not checks.run("late", 0.05, lambda: time.sleep(5) or "")

    assert [check.verdict for check in checks.all] == [
        "pass",
        "fail",
        "could not run",
        "could not run",
        "could not run",
    ]
    assert [check.found for check in checks.all][1:3] == [
        "thing = wrong",
        "ZeroDivisionError: integer division or modulo by zero",
    ]
    assert not checks.well


def test_what_needs_a_check_that_did_not_pass_could_not_run_and_says_why() -> None:
    checks = Checks(["restore", "documents"])
    checks.run("restore", 5, lambda: failing("a pack is damaged"), needed=True)

    assert not checks.run("documents", 5, lambda: "never asked")

    assert checks.all[1] == Check("documents", "could not run", "not reached, since restore did not pass", 0.0)


def test_the_weekly_drill_has_all_of_the_daily_ones_checks() -> None:
    assert set(DAILY) < set(WEEKLY)
    assert len(set(WEEKLY)) == len(WEEKLY)


def canaries(*numbers: int, every: float = 10.0) -> list[Canary]:
    return [Canary(number, NOW - timedelta(seconds=60 - number * every)) for number in numbers]


def judged(
    found: list[Canary], *, manifest: Canary | None = None, remembered: list[Canary] | None = None, most: float = 120
) -> str:
    told = {"number": manifest.number, "at": manifest.at.isoformat()} if manifest else None
    memory = Memory(1, tuple(found[:1] if remembered is None else remembered))
    return database.recent(found, NOW, {"canary": told}, memory, most)


def test_a_gap_between_canaries_is_named() -> None:
    with pytest.raises(CheckError, match="without 3 of 1 to 5"):
        judged(canaries(1, 2, 4, 5))


def test_the_age_of_the_newest_canary_is_what_would_be_lost() -> None:
    found = canaries(1, 2, 3, 4)
    assert "20.0 s before" in judged(found, manifest=found[-1])
    with pytest.raises(CheckError, match="at most 15 s"):
        judged(found, most=15)
    with pytest.raises(CheckError, match="at least 9"):
        judged(found, manifest=canaries(9)[0])
    with pytest.raises(CheckError, match="canaries = none;"):
        database.recent([], NOW, {"canary": None}, None, 120)


def test_a_canary_of_a_time_to_come_is_no_sign_of_a_good_backup() -> None:
    with pytest.raises(CheckError, match=r"-3600.0 s before the drill began.*chronyc"):
        judged([*canaries(1, 2, 3), Canary(4, NOW + timedelta(hours=1))])


def test_a_number_that_was_given_again_is_another_canary() -> None:
    acknowledged = canaries(1, 2, 3, 4, 5)
    # The newest two were lost, and numbers go on from what is left.
    found = [*acknowledged[:3], *(Canary(one.number, one.at + timedelta(seconds=25)) for one in acknowledged[3:])]

    assert "5 as they were acknowledged" in judged(acknowledged, remembered=acknowledged)
    with pytest.raises(CheckError, match=r"canary 4 = of 2026-11-27 18:00:05.*; that of 2026-11-27 17:59:40.*is lost"):
        judged(found, remembered=acknowledged)
    with pytest.raises(CheckError, match="canary 4 = of"):
        judged(found, manifest=acknowledged[3])
    # Of what was cleared away, and of what is newer than what came back, nothing is asked.
    assert judged(acknowledged[2:4], remembered=acknowledged)


def test_a_tail_that_is_lost_and_not_yet_written_again_is_missed_by_its_number() -> None:
    found = canaries(1, 2, 3)
    gone = Canary(4, found[-1].at - timedelta(seconds=1))

    with pytest.raises(CheckError, match="canary 4 = not there"):
        judged(found, remembered=[*found, gone])


def test_without_anything_remembered_canaries_could_not_be_compared() -> None:
    found = canaries(1, 2)
    for memory in (None, Memory(1), Memory(1, tuple(canaries(3)))):
        with pytest.raises(CheckError, match="none remembered"):
            database.recent(found, NOW, {"canary": None}, memory, 120)


def test_a_random_moment_lies_between_two_canaries_and_after_the_base() -> None:
    found = canaries(1, 2, 3, 4, 5)

    for _ in range(50):
        moment, before, after = database.between(found, (found[1].at, found[3].at), CHANCE)
        assert before.at < moment < after.at
        # Of the last one, it is not sure that a snapshot has it.
        assert before.number == 3
    with pytest.raises(CheckError, match="no two canaries"):
        database.between(found, (NOW, NOW), CHANCE)


def test_no_moment_is_chosen_at_which_the_site_was_being_recovered_or_had_another_history() -> None:
    found = canaries(1, 2, 3, 4, 5, 6)
    # The third was written before the new base, and those that the recovery gave up came after the second.
    recoveries = Recoveries(((found[2].at - timedelta(seconds=1), found[3].at + timedelta(seconds=1)),))

    span = (found[0].at - timedelta(seconds=1), NOW)
    chosen = {database.between(found, span, CHANCE, recoveries)[1] for _ in range(60)}

    assert {one.number for one in chosen} == {1, 5}


def snapshot(name: str, seconds_ago: float, size: int = 1000) -> Snapshot:
    return Snapshot(name, NOW - timedelta(seconds=seconds_ago), (), (), 1, size, 0, 0)


def test_what_a_restore_would_take_is_taken_and_its_age_asserted() -> None:
    bases, wals = [snapshot("old", 90_000), snapshot("new", 3600)], [snapshot("w", 30)]
    chosen = backups.newest(bases, wals)

    assert (chosen.base.id, chosen.wal.id) == ("new", "w")
    assert "WAL w of 30 s ago" in backups.ages(chosen, NOW, 120)
    with pytest.raises(CheckError, match="WAL of the last 20 s"):
        backups.ages(chosen, NOW, 20)
    with pytest.raises(CheckError, match="a base of the last 26 h"):
        backups.ages(backups.newest([snapshot("old", 100_000)], wals), NOW, 120)
    with pytest.raises(CheckError, match="no base backup"):
        backups.newest([], wals)


def test_a_snapshot_of_a_time_to_come_is_not_taken_for_the_newest() -> None:
    known = [snapshot("new", 30), snapshot("in an hour", -3600)]

    assert [one.id for one in believed(known, NOW)] == ["new"]
    assert backups.newest(believed(known, NOW), believed(known, NOW)).wal.id == "new"


def test_a_moment_takes_the_base_before_it_and_the_first_log_that_proves_it() -> None:
    bases = [snapshot("first", 7200), snapshot("second", 600)]
    wals = [snapshot("a", 3000), snapshot("b", 2000), snapshot("c", 100)]
    moment = NOW - timedelta(seconds=2500)

    chosen = backups.reaching(bases, wals, moment, moment + timedelta(seconds=10), NEVER)

    assert (chosen.base.id, chosen.wal.id) == ("first", "b")
    with pytest.raises(CheckError, match="a moment from"):
        backups.reaching(bases, wals, NOW - timedelta(seconds=50), NOW, NEVER)


def test_the_space_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    chosen = backups.Chosen(snapshot("base", 10, size=1 << 50), snapshot("wal", 1))

    with kept(settings, "rag-drill") as room:
        drill = steps.Drill(settings, tmp_path, {}, Evidence("drill", "lab", NOW), Checks(DAILY), room)
        with pytest.raises(CheckError, match=r"GB free; 2251800\.4 GB needed; df -h"):
            drill.ask(backups.needed(chosen))


def test_the_figures_name_each_check_and_are_of_their_kind(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for kind in ("drill", "drill-weekly"):
        evidence = Evidence(kind, "lab", NOW, rto_seconds=7.5)  # type: ignore[arg-type]
        evidence.checks = (Check("restore", "pass", "", 1.0), Check("index", "could not run", "", 0.0))
        publish(settings, kind, figures(evidence), well=evidence.well, seconds=9.0)

    text = "".join(path.read_text() for path in tmp_path.glob("rag_backup_*.prom"))
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples[("rag_backup_drill_check", ("check", "index"), ("kind", "drill"))] == 0
    assert samples[("rag_backup_drill_check", ("check", "restore"), ("kind", "drill-weekly"))] == 1
    assert samples[("rag_backup_drill_rto_seconds", ("kind", "drill"))] == 7.5
    assert not [name for name, *_ in samples if name == "rag_backup_drill_rpo_seconds"]
    assert samples[("rag_backup_last_result", ("kind", "drill"))] == 0
    # The parser does not mind a series that is there twice; node_exporter would.
    assert text.count('rag_backup_drill_rto_seconds{kind="drill"}') == 1


def test_the_evidence_is_whole_when_hardly_anything_ran() -> None:
    evidence = Evidence("drill", "lab", NOW)
    evidence.checks = (Check("snapshots", "fail", "none", 0.1),)

    read = json.loads(evidence.as_json())

    assert (read["verdict"], read["rto_seconds"], read["checks"][0]["found"]) == ("fail", None, "none")
    assert read["began"] == "2026-11-27T18:00:00+00:00"


def test_the_sentence_that_is_asked_for_is_prose_and_tells_something() -> None:
    words = (
        "Yes. 12 | 13 | 14\nThe notice period of the contract with Halden is ninety days from the first of a month."
        " See [3] for what the other contracts of the house say about notice periods of that kind."
    )

    assert (
        golden.best(words) == "The notice period of the contract with Halden is ninety days from the first of a month."
    )
    assert golden.best("Too short. 1 | 2 | 3") == ""


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        ("pump | pressure | 4.5 bar\nvalve | open", "pump | pressure | 4.5 bar"),
        ("1. Replace the filter of the pump. 2. Then", "1. Replace the filter of the pump."),
        ("1. First thing. 2. Second thing", ""),
        ("Introduction", "Introduction"),
        (LONG_LINE, LONG_LINE),
        ("---\n| * |", ""),
    ],
)
def test_without_a_sentence_words_of_a_line_are_asked_for_and_can_be_cited(words: str, piece: str) -> None:
    assert golden.piece(words) == piece
    passage = Passage(uuid4(), 0, "Title", "", None, words)

    asked = dict.fromkeys(content_words(piece), 1.0)
    checked = cite.check(asked, f"{piece.rstrip('.')} [1].", [passage], Answering())

    assert [citation.quote in words for citation in checked.citations] == ([True] if piece else [])


def test_a_door_that_is_a_socket_is_reached_by_a_port(tmp_path: Path) -> None:
    door = tmp_path / "pool.sock"
    code = (
        "import http.server, socketserver, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        body = self.rfile.read(int(self.headers['content-length']))\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(body[::-1])\n"
        "    def address_string(self): return ''\n"
        "    def log_message(self, *_): pass\n"
        "socketserver.UnixStreamServer(sys.argv[1], H).serve_forever()\n"
    )
    server = subprocess.Popen(["python3", "-c", code, str(door)])
    port = free_port()
    try:
        while not door.exists():
            time.sleep(0.02)
        with stack.relay(str(door), port):
            body = b"x" * 300_000 + b"y"
            said = httpx.post(f"http://127.0.0.1:{port}/", content=body, trust_env=False, timeout=20)
        assert said.content == body[::-1]
    finally:
        server.kill()
        server.wait()
