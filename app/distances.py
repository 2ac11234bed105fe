"""How near is near for an embedding model: two distances, proposed from questions that a site knows the answers of."""

import math
from collections.abc import Iterable, Sequence


def proposed(nearest: Iterable[tuple[bool, float | None]]) -> str:
    """What ``inference.distances`` may be, by questions that have an answer or none, each with its nearest passage.

    Near enough is what no question that has no answer reaches; too far is what lies behind every one that has.
    """
    known = [(has_answer, distance) for has_answer, distance in nearest if distance is not None]
    answerable, others = ([distance for has_answer, distance in known if has_answer is kind] for kind in (True, False))
    if not answerable or not others:
        return "inference.distances = not proposed; questions that are answerable and questions that are not"
    near = math.floor(min(others) * 100 - 1e-9) / 100
    far = math.ceil(max(answerable) * 100 + 1e-9) / 100
    if not 0 < near < far:
        return f"inference.distances = not proposed; questions nearer than {min(others):.2f}, which none is"
    about = f"{_within(answerable, near)} of {len(answerable)} answerable, {_within(others, near)} others"
    out = f"beyond {far:.2f}: {len(others) - _within(others, far)} of {len(others)} others"
    return f"inference.distances = ({near:.2f}, {far:.2f}); within {near:.2f}: {about}; {out}"


def _within(distances: Sequence[float], bound: float) -> int:
    return sum(one <= bound for one in distances)
