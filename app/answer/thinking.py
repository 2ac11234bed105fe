"""What a model thinks before it answers is not its answer: some write it between marks among the words they send."""

_OPEN, _CLOSE = "<think>", "</think>"


class Spoken:
    """Takes an answer piece by piece and gives back what is said aloud; a mark may be cut anywhere."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._begun = False

    def heard(self, piece: str) -> str:
        """What may be shown now that this piece has come."""
        self._held += piece
        said = ""
        while True:
            mark = _CLOSE if self._thinking else _OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            said += "" if self._thinking else before
            self._held, self._thinking = after, not self._thinking
        kept = _beginning(self._held, mark)
        ready = self._held[: len(self._held) - kept]
        self._held = self._held[len(ready) :]
        return self._shown(said if self._thinking else said + ready)

    def rest(self) -> str:
        """What was held back as the beginning of a mark and was none."""
        said, self._held = "" if self._thinking else self._held, ""
        return self._shown(said)

    def _shown(self, said: str) -> str:
        # Behind the thoughts come empty lines, which no answer begins with.
        said = said if self._begun else said.lstrip()
        self._begun = self._begun or bool(said)
        return said


def _beginning(text: str, mark: str) -> int:
    """How many characters at the end of the text may be the beginning of the mark."""
    return next((length for length in range(len(mark) - 1, 0, -1) if text.endswith(mark[:length])), 0)
