"""One ranking out of both halves of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.index.vectors import Near
from app.retrieve.weights import Weights
from app.sentences import stem, vocabulary
from app.store.passages import Passage

# What each counts for, chosen by tests/evaluation/postgresql-manual.jsonl, where half or twice as much of any is no
# better: docs/bench.md has the figures, and those of reciprocal rank fusion.
OF_VECTOR = 0.3
OF_WORDS = 0.3
OF_HEADING = 0.2
# Under a heading that fits, a passage of a few words says hardly anything.
OF_SHORTNESS = 0.3
SHORT = 20


@dataclass(frozen=True)
class Halves:
    """What each half found, by passage: nearness from 0 to 1, and the share of what is asked."""

    nearness: Mapping[str, float]
    words: Mapping[str, float]


def nearness(near: Sequence[Near]) -> dict[str, float]:
    """1 for the nearest and 0 for the last of them: models differ in how far apart they put what is unrelated."""
    if not near:
        return {}
    first, last = near[0].distance, near[-1].distance
    return {one.id: (last - one.distance) / (last - first) if last > first else 1.0 for one in near}


def score(passage: Passage, halves: Halves, asked: Weights) -> float:
    """How well the passage fits, by the question's words that some passage has; comparable within one search only."""
    heading = vocabulary(passage.headings[-1:] or (passage.title,))
    whole = sum(asked.values()) or 1.0
    headed = sum(weight for word, weight in asked.items() if stem(word) in heading) / whole
    short = max(0.0, 1 - len(passage.text.split()) / SHORT)
    return (
        OF_VECTOR * halves.nearness.get(passage.id, 0.0)
        + OF_WORDS * halves.words.get(passage.id, 0.0)
        + OF_HEADING * headed
        - OF_SHORTNESS * short
    )
