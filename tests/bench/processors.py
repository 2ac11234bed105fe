"""Processors for some machines of the lab alone, as computers in a rack have them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab import machine, processes
from tests.lab.fleet import Lab

# A program that starts another one while it is moved leaves that one behind: the second round finds it.
ROUNDS = 2


@contextmanager
def apart(lab: Lab, names: Sequence[str], others: Sequence[str]) -> Iterator[None]:
    """The first half of this computer's processors for these machines and whoever measures, the rest for the others.

    What their programs start stays there. On a computer with one processor nothing can be apart. At the end everybody
    may use all of them.
    """
    every = os.sched_getaffinity(0)
    half = set(sorted(every)[: len(every) // 2])
    try:
        if half:
            _keep(lab, names, half)
            _keep(lab, others, every - half)
            os.sched_setaffinity(0, half)
        yield
    finally:
        os.sched_setaffinity(0, every)
        _keep(lab, [*names, *others], every)


def _keep(lab: Lab, names: Iterable[str], processors: set[int]) -> None:
    groups = [group for name in names if (group := machine.cgroup(lab, name))]
    for _ in range(ROUNDS):
        for pid in [pid for group in groups for pid in processes.in_cgroup(group)]:
            # It may have ended meanwhile.
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), processors)
