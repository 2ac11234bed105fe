"""BERT's tokens: lower case, no accents, the longest known pieces first."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

CLS, SEP, UNKNOWN = 101, 102, 100
_WORD_START = "▁"
_LONGEST_WORD = 100


class WordPiece:
    """Texts to token numbers, with GGUF's spelling of the vocabulary: a mark at word starts, nothing at their rest."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._pieces = lru_cache(maxsize=50_000)(self._split)

    def encode(self, text: str, longest: int) -> tuple[list[int], bool]:
        """The tokens with their frame, and whether the text had to be cut to fit."""
        tokens = [piece for word in words(text) for piece in self._pieces(word)]
        room = longest - 2
        return [CLS, *tokens[:room], SEP], len(tokens) > room

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > _LONGEST_WORD:
            return (UNKNOWN,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            end, mark = len(word), "" if start else _WORD_START
            while end > start and mark + word[start:end] not in self._numbers:
                end -= 1
            if end == start:
                return (UNKNOWN,)
            pieces.append(self._numbers[mark + word[start:end]])
            start = end
        return tuple(pieces)


def words(text: str) -> list[str]:
    """Lower case words without accents; every punctuation mark and every Chinese character is one of its own."""
    found: list[str] = []
    current: list[str] = []
    for character in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(character)
        if kind == "Mn" or (kind.startswith("C") and not character.isspace()):
            continue
        alone = _punctuation(character, kind) or _chinese(character)
        if (alone or character.isspace()) and current:
            found.append("".join(current))
            current.clear()
        if alone:
            found.append(character)
        elif not character.isspace():
            current.append(character)
    if current:
        found.append("".join(current))
    return found


def _punctuation(character: str, kind: str) -> bool:
    # BERT counts all of ASCII's signs as punctuation, also those that Unicode calls symbols.
    return kind.startswith("P") or (
        character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    )


def _chinese(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf" or "\uf900" <= character <= "\ufaff"
