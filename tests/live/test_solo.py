"""solo: every role on one machine, through the same code."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from tasks.cluster import site_of
from tests.lab import demo, fleet
from tests.live.fleet import deploy
from tests.live.test_questions import DOCUMENTS, ask, remembered
from tests.live.waiting import until

pytestmark = pytest.mark.lab


def test_one_machine_carries_every_role_and_answers(measured: Callable[[str], None]) -> None:
    subprocess.run([sys.executable, "-m", "tests.lab", "up", "solo1"], check=True)
    subprocess.run([".venv/bin/python", "-m", "inventories.secrets", "solo"], check=True)
    try:
        done = deploy("solo")
        assert done.rc == 0, done.said
        measured(f"solo, every role on one machine: {done.seconds:.1f} s, {done.totals['success']} changes")

        site = site_of("solo")
        file_name, content, question, fact = DOCUMENTS[0]
        with closing(demo.client(site)) as http, remembered(http, file_name, content) as collection:
            answer = until(lambda: (a := ask(http, collection, question))["supported"] and a, "an answer")
        assert fact in str(answer["answer"])
        assert deploy("solo").changed == {}
    finally:
        fleet.kill(fleet.load(), "solo1")
