"""How near the vectors of a question and a passage are when they have to do with each other.

Every embedding model has a scale of its own, so there are bounds only for those that were measured: here, or on the
site, which sets them (``inference.distances``). With any other model refusals rest on the words alone.
"""

from dataclasses import dataclass

from app.retrieve.search import Found
from app.settings_of_models import Inference


@dataclass(frozen=True)
class Bounds:
    """Cosine distances: up to ``near`` a passage is about the question, beyond ``far`` none is."""

    near: float
    far: float


# Chosen by tests/evaluation/postgresql-manual.jsonl, and not tried on other questions: the nearest passage is within
# ``near`` for 42 of 88 questions that the manual answers and for none of the 30 others, and beyond ``far`` for 3 of the
# 88 and for 11 of the 30.
MEASURED = {"all-minilm:l6-v2": Bounds(0.36, 0.62)}


def of(settings: Inference, model: str) -> Bounds | None:
    """The model's, as the site says or as they were measured here; None for one that nobody measured."""
    said = settings.distances.get(model)
    return Bounds(*said) if said else MEASURED.get(model)


def near(settings: Inference, found: Found) -> frozenset[str]:
    """The passages that are about the question by their vectors, whatever words they use."""
    measured = of(settings, found.model)
    if measured is None:
        return frozenset()
    return frozenset(hit.passage.id for hit in found.hits if hit.vector and hit.vector.measure <= measured.near)


def is_far(settings: Inference, found: Found) -> bool:
    """Whether nothing in the collection has to do with the question, whatever words it shares."""
    measured = of(settings, found.model)
    return measured is not None and found.nearest is not None and found.nearest > measured.far
