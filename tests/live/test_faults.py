"""A machine dies while people ask: they hardly notice."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx
import pytest

from inventories.settings import Machine, Site
from tests.lab import demo
from tests.lab import fleet as lab_fleet
from tests.live.fleet import Fleet, deploy
from tests.live.test_questions import DOCUMENTS, ask, ready_everywhere, remembered
from tests.live.waiting import until

pytestmark = pytest.mark.lab
Run = Callable[[Machine | str, str], str]


@dataclass
class Asking:
    """Questions one after another, as a colleague's: when each was answered, and what went wrong."""

    answered: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def since(self, moment: float) -> int:
        return sum(answer > moment for answer in self.answered)


@contextmanager
def asking(site: Site, run: Run, platform: httpx.Client) -> Iterator[Asking]:
    """Questions all the time, through the entry, until the end of the block."""
    _, content, question, fact = DOCUMENTS[0]
    told, stop = Asking(), threading.Event()
    with remembered(platform, "lease.md", content) as collection:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        until(lambda: ask(platform, collection, question)["supported"], "an answer")

        def loop() -> None:
            http = demo.client(site)
            http.timeout = httpx.Timeout(30, connect=2)
            while not stop.is_set():
                try:
                    assert fact in str(ask(http, collection, question)["answer"])
                    told.answered.append(time.monotonic())
                except (httpx.HTTPError, AssertionError) as error:
                    told.failed.append(f"{type(error).__name__} {error}")
                    stop.wait(0.2)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            until(lambda: len(told.answered) >= 5, "the first answers", 120)
            yield told
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("role", "holds_entry", "most_failures"),
    [("balancer", True, 5), ("app", False, 0), ("inference", False, 0)],
    ids=["the balancer with the address", "another app host", "an inference host"],
)
def test_questions_go_on_when_a_machine_is_killed(
    site: Site,
    run: Run,
    platform: httpx.Client,
    measured: Callable[[str], None],
    role: str,
    holds_entry: bool,
    most_failures: int,
) -> None:
    lab = lab_fleet.load()
    victim = next(
        machine for machine in site.having(role)
        if (f"{site.entry}/" in run(machine, f"ip -4 -br address show dev {machine.interface}")) == holds_entry
    ).name  # fmt: skip

    with asking(site, run, platform) as told:
        lab_fleet.kill(lab, victim)
        killed = time.monotonic()
        try:
            until(lambda: told.since(killed) >= 10, "ten answers after the kill", 120)
        finally:
            lab_fleet.start(lab, victim)

    gap = max(after - before for before, after in pairwise(told.answered))
    measured(
        f"{victim} killed while questions are asked: {len(told.answered)} answers, {len(told.failed)} failures, "
        f"longest gap {gap:.1f} s{'; ' * bool(told.failed)}{'; '.join(told.failed)}"
    )
    assert len(told.failed) <= most_failures, told.failed
    until(lambda: ready_everywhere(site, run), "every app host ready again", 180)


def test_nothing_is_left_of_it(site: Site, run: Run, fleet: Fleet) -> None:
    failed = "systemctl --failed --no-legend --plain; systemctl is-system-running --wait"

    said = fleet.each(site.machines, lambda name: fleet.host(name).run(failed).stdout.strip())

    assert said == {machine.name: "running" for machine in site.machines}
    assert deploy(site.name).changed == {}
