"""Reciprocal rank fusion."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

# The value of the paper's experiments; it keeps one list's first place from outweighing agreement between lists.
K = 60


def fuse(rankings: Iterable[Sequence[str]]) -> dict[str, float]:
    """One ranking out of several, best first, each with its score: the sum over the lists of 1 / (60 + rank).

    Cormack, Clarke, Buettcher: Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods,
    SIGIR 2009. Ranks only are compared, since a cosine distance and a full-text rank have no common scale.
    """
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, identifier in enumerate(ranking, start=1):
            scores[identifier] += 1 / (K + rank)
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))
