"""`make drills` tells what the drills proved, and what they did not."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from tasks import drills
from tasks.drill_page import chart, page

CHECKS = [
    {"name": "restore", "verdict": "pass", "found": "93 MB restored", "seconds": 2.5},
    {"name": "documents", "verdict": "fail", "found": "documents = 1 of 60 changed <script>", "seconds": 0.5},
]


def drill(day: int, **other: Any) -> dict[str, Any]:
    known = {
        "began": f"2026-11-{day}T05:00:00+00:00",
        "kind": "drill",
        "verdict": "pass",
        "rto_seconds": 7.5,
        "answer_seconds": 40.0,
        "rpo_seconds": 3.0,
        "seconds": 60.0,
        "answers": {"asked": 2, "cited": 1, "model": "m"},
        "versions": {"release": "abc"},
        "checks": CHECKS[:1],
    }
    return known | other


FAILED = drill(21, verdict="fail", rto_seconds=None, answer_seconds=None, answers={}, checks=CHECKS)


def test_a_line_for_each_drill_and_the_checks_of_the_last() -> None:
    shown = drills.as_table([drill(20), FAILED])

    lines = shown.splitlines()
    assert " ".join(lines[1].split()) == "2026-11-20 05:00 daily pass 7.5 s 40.0 s 3.0 s 1/2 60.0 s -"
    assert "documents: documents = 1 of 60 changed" in lines[2]
    assert lines[-1].split()[:2] == ["fail", "documents"]


def test_the_files_of_a_host_are_read_one_after_the_other() -> None:
    text = "\n".join(json.dumps(one, indent=1) for one in (drill(20), FAILED))

    assert drills.parsed(text) == [drill(20), FAILED]
    assert drills.parsed("") == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href"}, "nothing is fetched"
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_needs_nothing_else_and_lets_no_text_become_markup() -> None:
    text = page("lab: drills", [drill(20), FAILED])

    read = _Page()
    read.feed(text)
    assert read.open == []
    assert read.seen.count("svg") == 3
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text


def test_the_page_says_what_failed_and_what_is_usual_without_being_opened() -> None:
    text = page("lab: drills", [drill(19, rto_seconds=20.0), drill(20), FAILED])

    assert '<p class="fail">The last drill, 2026-11-21 05:00 UTC: fail, documents: documents = 1 of 60 changed' in text
    assert "1 of these 3 did not pass" in text
    assert "last 7.5 s; half of 2 up to 13.8 s, the longest 20.0 s" in text
    # One that did not come so far is not left out of the trend.
    assert chart([drill(20), FAILED], "rto_seconds").count("not reached, documents: ") == 1
    assert '<summary>1 of 2 <span class="fail">documents: documents = 1 of 60' in text


@pytest.mark.parametrize("known", [[], [FAILED], [drill(20)], [drill(20), drill(21, rto_seconds=0.0)]])
def test_a_trend_of_few_drills_is_drawn_too(known: list[dict[str, Any]]) -> None:
    assert chart(known, "rto_seconds").count("<circle") == sum(one["rto_seconds"] is not None for one in known)
