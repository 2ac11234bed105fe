"""A machine dies while people ask: they hardly notice."""

import threading
import time
from collections.abc import Callable
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


def test_questions_go_on_when_the_balancer_with_the_address_is_killed(
    site: Site, run: Run, platform: httpx.Client, measured: Callable[[str], None]
) -> None:
    # Given: questions all the time, through the machine that holds the address.
    lab = lab_fleet.load()
    holder = next(
        machine for machine in site.having("balancer")
        if f"{site.entry}/" in run(machine, f"ip -4 -br address show dev {machine.interface}")
    )  # fmt: skip
    _, content, question, fact = DOCUMENTS[0]
    answered: list[float] = []
    failed: list[str] = []
    stop = threading.Event()

    with remembered(platform, "lease.md", content) as collection:
        until(lambda: ready_everywhere(site, run), "every app host ready")
        until(lambda: ask(platform, collection, question)["supported"], "an answer")

        def loop() -> None:
            http = demo.client(site)
            http.timeout = httpx.Timeout(30, connect=2)
            while not stop.is_set():
                try:
                    assert fact in str(ask(http, collection, question)["answer"])
                    answered.append(time.monotonic())
                except (httpx.HTTPError, AssertionError) as error:
                    failed.append(f"{type(error).__name__} {error}")
                    stop.wait(0.2)

        asking = threading.Thread(target=loop)
        asking.start()
        until(lambda: len(answered) >= 5, "the first answers", 120)

        # When
        lab_fleet.kill(lab, holder.name)
        killed = time.monotonic()
        try:
            # Then: the loop goes on with no more than a handful of failures.
            until(lambda: sum(moment > killed for moment in answered) >= 10, "ten answers after the kill", 120)
        finally:
            stop.set()
            asking.join()
            lab_fleet.start(lab, holder.name)
        gap = max(after - before for before, after in pairwise(answered))
        measured(
            f"{holder.name} with the entry's address killed: {len(answered)} answers, {len(failed)} failures, "
            f"longest gap {gap:.1f} s; {'; '.join(failed)}"
        )
        assert len(failed) <= 5
        until(lambda: ready_everywhere(site, run), "every app host ready again", 180)


def test_nothing_is_left_of_it(site: Site, run: Run, fleet: Fleet) -> None:
    failed = "systemctl --failed --no-legend --plain; systemctl is-system-running --wait"

    said = fleet.each(site.machines, lambda name: fleet.host(name).run(failed).stdout.strip())

    assert said == {machine.name: "running" for machine in site.machines}
    assert deploy(site.name).changed == {}
