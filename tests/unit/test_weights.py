"""What each word of a question tells."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from app.retrieve.weights import Frequencies
from app.store import matching


def test_a_word_that_no_passage_had_is_known_as_soon_as_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"": 10, "pump": 3, "valve": 0}
    asked: list[list[str]] = []

    def frequencies(_: object, __: object, words: Sequence[str]) -> dict[str, int]:
        asked.append(list(words))
        return {word: held[word] for word in words}

    monkeypatch.setattr(matching, "frequencies", frequencies)
    known, collection = Frequencies(), uuid4()
    with create_engine("sqlite://").connect() as connection:
        assert list(known.asked(connection, [collection], "pump valve").present) == ["pump"]
        held["valve"] = 1
        assert list(known.asked(connection, [collection], "pump valve").present) == ["pump", "valve"]
        known.asked(connection, [collection], "pump valve")

    assert asked == [["", "pump", "valve"], ["valve"]]
