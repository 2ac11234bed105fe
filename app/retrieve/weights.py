"""How much each word of a question tells: rare words tell what it is about, common ones hardly anything."""

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from sqlalchemy import Connection

from app.sentences import content_words, parts
from app.store import matching
from app.store.matching import EVERYTHING, Match, Scope

Weights = Mapping[str, float]

# A document more or less changes no weight that anyone would notice.
REMEMBERED_SECONDS = 300.0
MOST_REMEMBERED = 50_000
MOST_WORDS = 32


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
        words, pieces = _words(question)
        counts: Counter[str] = Counter()
        for collection_id in collections:
            counts.update(self._counts(connection, collection_id, list(dict.fromkeys([*words, *pieces]))))
        return _weighed(words, counts)

    def matching(self, connection: Connection, scope: Scope, question: str, limit: int) -> tuple[Asked, list[Match]]:
        """The same, and the passages that share words with the question, best first."""
        words, pieces = _words(question)
        # Limits on documents do not change what a word tells, so there both are asked apart.
        if not pieces and scope.only == EVERYTHING and len(scope.collections) == 1:
            (collection_id,) = scope.collections
            counts = self._recalled(collection_id, words)
            if len(counts) < len(words):
                counts = self._counts(connection, collection_id, []) | counts
                known = {word: counts.get(word) for word in words}
                found = matching.counting(connection, scope, known, max(counts[""], 1), limit)
                self._remember(collection_id, {word: n for word, n in found.passages.items() if word not in counts})
                return _weighed(words, Counter({"": counts[""], **found.passages})), found.matches
        asked = self.asked(connection, scope.collections, question)
        return asked, matching.matching(connection, scope, asked.present, limit)

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


def _words(question: str) -> tuple[list[str], list[str]]:
    """The question's words, and the parts of those that are compounds."""
    words = list(dict.fromkeys(content_words(question)))[:MOST_WORDS]
    return words, [part for word in words for part in _pieces(word)][:MOST_WORDS]


def _weighed(words: Sequence[str], counts: Counter[str]) -> Asked:
    total = max(counts[""], 1)
    known = {word: matching.weight(count, total) for word, count in counts.items() if word}
    found = [one for word in words for one in ([word] if counts[word] else _pieces(word))]
    return Asked(
        {word: known[word] for word in words if word in known},
        {word: known[word] for word in found if counts[word]},
    )


def _pieces(word: str) -> list[str]:
    """The parts of a compound of words; a name such as max_connections is one thing and stays whole."""
    return parts(word) if "-" in word and "_" not in word else []
