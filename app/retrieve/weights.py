"""How much each word of a question tells: rare words tell what it is about, common ones hardly anything."""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from sqlalchemy import Connection

from app.sentences import content_words, parts
from app.store import matching

Weights = Mapping[str, float]

# A document more or less changes no weight that anyone would notice.
REMEMBERED_SECONDS = 300.0
MOST_REMEMBERED = 50_000
MOST_WORDS = 32

# In a handful of passages one count more or less is chance; this keeps it from deciding.
SMOOTHING = 2


@dataclass(frozen=True)
class Asked:
    """What each word of a question tells, and the same of those that some passage has.

    A word of another language or of no document tells that nothing may answer; which passage is best it cannot tell.
    """

    weights: Weights
    present: Weights


class Frequencies:
    """Counts words in collections, and remembers what it counted for a while."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UUID, str], tuple[float, int]] = OrderedDict()
        self._lock = Lock()

    def asked(self, connection: Connection, collections: Sequence[UUID], question: str) -> Asked:
        """Inverse document frequency of the question's words; a word that occurs nowhere weighs most.

        Of a compound such as wal-sender that occurs nowhere, the parts that do are present.
        """
        words = list(dict.fromkeys(content_words(question)))[:MOST_WORDS]
        pieces = [part for word in words for part in _pieces(word)][:MOST_WORDS]
        counts: Counter[str] = Counter()
        for collection_id in collections:
            counts.update(self._counts(connection, collection_id, list(dict.fromkeys([*words, *pieces]))))
        total = max(counts[""], 1)
        known = {word: math.log1p((total + SMOOTHING) / (count + SMOOTHING)) for word, count in counts.items() if word}
        found = [one for word in words for one in ([word] if counts[word] else _pieces(word))]
        return Asked(
            {word: known[word] for word in words if word in known},
            {word: known[word] for word in found if counts[word]},
        )

    def _counts(self, connection: Connection, collection_id: UUID, words: list[str]) -> dict[str, int]:
        counts = self._recalled(collection_id, ["", *words])
        missing = [word for word in ("", *words) if word not in counts]
        if missing:
            counted = matching.frequencies(connection, collection_id, missing)
            self._remember(collection_id, counted)
            counts |= counted
        return counts

    def _recalled(self, collection_id: UUID, words: list[str]) -> dict[str, int]:
        now = time.monotonic()
        with self._lock:
            found = {word: self._known.get((collection_id, word), (0.0, 0)) for word in words}
        return {word: count for word, (until, count) in found.items() if until > now}

    def _remember(self, collection_id: UUID, counted: Mapping[str, int]) -> None:
        until = time.monotonic() + REMEMBERED_SECONDS
        with self._lock:
            for word, count in counted.items():
                # The document that brings a new word shall be found by it at once.
                if count:
                    self._known[collection_id, word] = (until, count)
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)


def _pieces(word: str) -> list[str]:
    """The parts of a compound of words; a name such as max_connections is one thing and stays whole."""
    return parts(word) if "-" in word and "_" not in word else []
