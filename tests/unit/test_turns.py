"""Turns before the password check: an address has one place, whoever crowds it."""

import asyncio

import pytest

from app.api import turns
from app.api.problems import Problem
from app.api.turns import Turns


def test_who_crowds_the_line_from_one_address_leaves_the_other_place_to_others() -> None:
    async def story() -> tuple[list[str], int]:
        line, order, go_on = Turns(), list[str](), asyncio.Event()

        async def checked(network: str) -> None:
            async with line.turn(network):
                order.append(network)
                if network == "crowded":
                    await go_on.wait()

        crowd = [asyncio.create_task(checked("crowded")) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.wait_for(checked("colleague"), 5)
        go_on.set()
        await asyncio.gather(*crowd)
        return order, len(line.lines)

    order, left = asyncio.run(story())

    assert order == ["crowded", "colleague", *["crowded"] * 19]
    assert left == 0


def test_whose_turn_does_not_come_is_told_to_come_back_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.01)

    async def story() -> tuple[int, bool, int]:
        line = Turns()
        async with line.turn("a"), line.turn("b"):
            with pytest.raises(Problem) as refused:
                async with line.turn("c"):
                    pass
            with pytest.raises(Problem):
                async with line.turn("a"):
                    pass
        async with line.turn("a"):
            return refused.value.status, refused.value.retry, len(line.lines)

    assert asyncio.run(story()) == (429, True, 1)
