"""The bench's verdict on made-up ledgers: each thing that must never happen is seen, and nothing else is."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.bench import failover, programs, report
from tests.bench.__main__ import measured, missed
from tests.bench.clients import Told
from tests.bench.colleagues import share, slope
from tests.bench.failover import Sample
from tests.bench.faults import FAULTS
from tests.bench.ledger import Verdict, Write, judge, judge_collections, longest_gap, second_primary, spread
from tests.bench.pgbench import Pace, pace_of
from tests.lab import network
from tests.lab.host import RefusalError

CALM = (
    Write("a", 1.0, 1.1, "db1", 4),
    Write("b", 2.0, 2.1, "db1", 4),
    Write("c", 7.0, 7.1, "db2", 5),
    Write("d", 8.0, 8.1, "db2", 5),
)


def test_a_failover_that_lost_nothing_is_clean() -> None:
    assert judge(CALM, ["d", "c", "b", "a"]).clean


def test_rows_that_nobody_was_told_of_are_no_loss() -> None:
    assert judge(CALM, ["a", "b", "c", "d", "unacknowledged"]).clean


def test_an_acknowledged_id_that_is_not_there_is_lost() -> None:
    assert judge(CALM, ["a", "c", "d"]).lost == ("b",)


def test_an_id_that_is_there_twice_is_doubled_even_when_nobody_was_told_of_it() -> None:
    assert judge(CALM, ["a", "b", "b", "c", "d", "x", "x"]).doubled == ("b", "x")


def test_a_write_that_began_on_the_old_timeline_after_the_new_one_acknowledged_is_a_second_primary() -> None:
    late = Write("e", 9.0, 9.2, "db1", 4)

    found = second_primary([*CALM, late])

    assert len(found) == 1
    assert "db1 acknowledged on timeline 4" in found[0]
    assert "1.90 s after db2 had acknowledged on 5" in found[0]


def test_a_late_acknowledgement_of_a_write_that_began_before_the_promotion_is_none() -> None:
    # Its answer travelled slowly; it began while nobody else led.
    slow = Write("e", 6.9, 9.2, "db1", 4)

    assert second_primary([*CALM, slow]) == ()


def test_two_members_on_one_timeline_are_two_primaries() -> None:
    both = [Write("a", 1.0, 1.1, "db1", 5), Write("b", 1.2, 1.3, "db2", 5), Write("c", 1.4, 1.5, "db1", 5)]

    assert second_primary(both) == ("db1 and db2 both acknowledged on timeline 5",)


def test_a_second_primary_is_seen_whatever_order_its_writes_are_told_in() -> None:
    late = Write("e", 7.5, 7.6, "db1", 4)

    for ledger in ([late, *CALM], [*reversed(CALM), late], [*CALM[:3], late, CALM[3]]):
        assert len(second_primary(ledger)) == 1


def test_a_lead_that_goes_and_comes_back_is_no_second_primary() -> None:
    assert second_primary([*CALM, Write("e", 9.0, 9.1, "db1", 6)]) == ()


def test_the_longest_gap_is_between_two_acknowledgements_of_anybody() -> None:
    assert longest_gap([4.0, 1.0, 9.5, 2.0], 0.5, 10.0) == 5.5


def test_silence_until_the_end_counts_as_a_gap() -> None:
    assert longest_gap([1.0, 2.0], 0.0, 30.0) == 28.0
    assert longest_gap([], 5.0, 9.0) == 4.0


def test_spread_is_least_middle_most() -> None:
    assert spread([3.0, 1.0, 2.0, 9.0]) == (1.0, 2.5, 9.0)


def test_collections_of_the_api_are_judged_by_what_it_lists() -> None:
    found = judge_collections(["a", "b", "c"], ["d"], ["a", "c", "c", "d", "foreign", "foreign"])

    assert found.missing == ("b",)
    assert found.doubled == ("c",)
    assert found.refused == ("d",)


def test_what_the_programs_say_becomes_a_ledger_and_half_a_line_nothing() -> None:
    told = Told()

    for line in (
        '{"kind": "ready"}',
        json.dumps({"kind": "write", **asdict(CALM[0])}),
        json.dumps({"kind": "probe", **asdict(CALM[1])}),
        '{"kind": "read", "at": 3.5}',
        '{"kind": "failed", "at": 4.5, "why": ["gone"]}',
        '{"kind": "write", "id": "half',
    ):
        told.hear(line)

    assert told.acknowledged == [CALM[0], CALM[1]]
    assert (told.reads, told.refused_writes, told.ready) == ([3.5], [4.5], 1)


def test_a_program_and_its_password_travel_as_two_lines_of_standard_input() -> None:
    program, values = programs.spoken(programs.ON_AN_APP_HOST, password="secret").splitlines()

    compile(json.loads(program), "bench", "exec")
    compile(programs.ON_A_DATABASE_MACHINE, "bench", "exec")
    assert json.loads(values) == {"password": "secret"}
    assert "secret" not in programs.STARTER


SAMPLE = Sample(
    write_gap=1.5,
    read_gap=0.2,
    answered=9,
    failed_questions=(),
    acknowledged=400,
    verdict=Verdict((), (), ()),
    collections=20,
    collections_wrong=(),
    failed_calls=1,
    whole_after=12.0,
)
POSTMASTER = next(fault for fault in FAULTS if fault.name == "postmaster")


def test_a_fault_within_its_promises_holds() -> None:
    assert missed(failover.figures_of(POSTMASTER, [SAMPLE, SAMPLE], "here")) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (replace(SAMPLE, write_gap=5.2), "without an accepted write, max = 5.2 s; ≤ 5 is promised"),
        (replace(SAMPLE, failed_questions=("503",)), "failed questions = 1; ≤ 0 is promised"),
        (replace(SAMPLE, verdict=Verdict(("a",), (), ())), "acknowledged writes lost = 1; ≤ 0 is promised"),
        (replace(SAMPLE, verdict=Verdict((), ("a",), ())), "writes doubled = 1; ≤ 0 is promised"),
        (replace(SAMPLE, verdict=Verdict((), (), ("db1",))), "second primaries = 1; ≤ 0 is promised"),
        (replace(SAMPLE, collections_wrong=("a",)), "collections lost, doubled or refused = 1; ≤ 0 is promised"),
        (replace(SAMPLE, whole_after=None), "whole again after, max = not measured; ≤ 60 is promised"),
        (replace(SAMPLE, problem="late"), "repeats that went wrong = 1; ≤ 0 is promised"),
    ],
)
def test_each_broken_promise_is_told_in_words(wrong: Sample, words: str) -> None:
    said = missed(failover.figures_of(POSTMASTER, [SAMPLE, SAMPLE, wrong], "here"))

    assert said == [f"postmaster killed: {words}"]


def test_the_table_says_which_fault_does_not_hold() -> None:
    wrong = replace(SAMPLE, verdict=Verdict((), (), ("db1",)))

    lines = failover.shown(FAULTS[:2], {FAULTS[0].name: [SAMPLE], FAULTS[1].name: [wrong]}).splitlines()

    assert len({line.index(" ", 30) for line in lines if "yes" in line or "NO" in line}) >= 1
    assert lines[2].endswith("yes")
    assert lines[3].endswith("NO")


def test_figures_are_merged_by_area_and_name(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps([{"area": "search", "what": "p95", "value": 9}]))
    figure = report.at_most("failover", "lost", 3, "", 0, 5, "here")

    report.write([figure], file)
    report.write([replace(figure, value=0, holds=True)], file)

    found = json.loads(file.read_text())
    assert [entry["what"] for entry in found] == ["p95", "lost"]
    assert found[1] == {
        "area": "failover", "what": "lost", "value": 0, "unit": "", "must": "≤ 0", "holds": True, "peer": None,
        "ratio": None, "repeats": 5, "machine": "here",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "fault", "repeats", "words"),
    [
        (
            "nonsense",
            "",
            "",
            "PART = nonsense; one of failover, pgbench, application, start, evaluation, recovery, backups,"
            " evaluation-here",
        ),
        ("failover", "nonsense", "", "FAULT = nonsense; one of postmaster, patroni"),
        ("failover", "", "many", "REPEATS = many; a number from 1 is needed"),
        ("failover", "", "0", "REPEATS = 0; a number from 1 is needed"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(part: str, fault: str, repeats: str, words: str) -> None:
    with pytest.raises(RefusalError) as refused:
        measured(part, fault, repeats)

    assert str(refused.value).startswith(words)
    assert "\n" not in str(refused.value)


def test_faults_are_chosen_by_name_in_the_order_that_was_typed() -> None:
    assert [fault.name for fault in failover.chosen("switchover, postmaster")] == ["switchover", "postmaster"]
    assert failover.chosen("") == list(FAULTS)
    assert len({fault.name for fault in FAULTS}) == len({fault.what for fault in FAULTS}) == len(FAULTS)


def test_pgbench_is_read_in_its_own_words() -> None:
    said = "latency average = 12.345 ms\ninitial connection time = 9.1 ms\ntps = 648.03 (without initial connection)\n"

    assert pace_of(said) == Pace(648.03, 12.345)


def test_a_cut_of_one_direction_drops_only_what_the_machine_sends() -> None:
    out = network.cut_rules("abcde", "db1", ["db2"], (), "out")

    assert out == ['iifname "vb-abcde-db1" oifname "vb-abcde-db2" drop comment "db1"']
    assert network.cut_rules("abcde", "db1", ["db2"], (), "in") == [
        'iifname "vb-abcde-db2" oifname "vb-abcde-db1" drop comment "db1"'
    ]


def test_a_cut_of_a_port_drops_requests_and_answers_both_ways() -> None:
    rules = network.cut_rules("abcde", "db1", ["db2"], (2379, 2380), "both")

    assert len(rules) == 4
    assert all("{2379,2380}" in rule for rule in rules)
    assert sum("dport" in rule for rule in rules) == 2


def test_a_share_is_the_value_that_so_many_do_not_exceed() -> None:
    values = [float(value) for value in range(1, 101)]

    assert (share(values, 0.95), share(values, 0.5), share([7.0], 0.95), share([], 0.95)) == (95, 50, 7, None)


def test_a_slope_is_told_from_noise_around_a_level() -> None:
    assert slope([(0.0, 10.0), (1.0, 12.0), (2.0, 14.0)]) == pytest.approx(2)
    assert slope([(0.0, 10.0), (1.0, 12.0), (2.0, 10.0)]) == pytest.approx(0)
    assert slope([(5.0, 10.0)]) == 0
