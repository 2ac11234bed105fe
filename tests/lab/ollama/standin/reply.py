"""Replies as Ollama gives them: errors, and text in JSON lines or in one piece."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from .writer import Written

Body = dict[str, Any]
_BROKEN = "an error was encountered while running the model"


class ReplyError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Client(Protocol):
    """Who asked."""

    def gone(self) -> bool:
        """Whether it has hung up."""

    def whole(self, status: int, body: Any) -> None:
        """A reply in one piece."""

    def begin_lines(self) -> None:
        """A reply in lines."""

    def line(self, body: Mapping[str, Any]) -> None:
        """One of them."""

    def end_lines(self) -> None:
        """The last was the last."""


class Reply:
    """Text on its way, piece by piece or in one."""

    def __init__(self, client: Client, model: str, key: str, *, streams: bool, breaks: bool) -> None:
        self._client, self._model, self._key = client, model, key
        self._streams, self._breaks = streams, breaks
        self._pieces = 0
        self._begun = False

    def piece(self, text: str) -> bool:
        """Send it on; True when nobody is there any more."""
        if self._client.gone():
            return True
        if self._breaks and self._pieces >= 2:
            return True
        self._pieces += 1
        if self._streams:
            self._line(self._part(text, done=False))
        return False

    def end(self, written: Written, total: float, load: float) -> None:
        """The last words, with what it took."""
        if self._client.gone():
            raise ConnectionError
        if self._breaks:
            return self._break()
        last = self._part("" if self._streams else written.text, done=True) | {
            "done_reason": written.reason,
            "total_duration": nanoseconds(total),
            "load_duration": nanoseconds(load),
            "prompt_eval_count": written.prompt_tokens,
            "prompt_eval_duration": nanoseconds(written.prompt_seconds),
            "eval_count": written.tokens,
            "eval_duration": nanoseconds(written.seconds),
        }
        if not self._streams:
            return self._client.whole(200, last)
        self._line(last)
        return self._client.end_lines()

    def _break(self) -> None:
        if not self._streams:
            raise ReplyError(500, _BROKEN)
        self._line({"error": _BROKEN})
        self._client.end_lines()

    def _line(self, body: Body) -> None:
        # Not before the first word, so that an error before it can still be one by its status.
        if not self._begun:
            self._begun = True
            self._client.begin_lines()
        self._client.line(body)

    def _part(self, text: str, *, done: bool) -> Body:
        content = {"role": "assistant", "content": text} if self._key == "message" else text
        return {"model": self._model, "created_at": stamp(time.time()), self._key: content, "done": done}


def nanoseconds(seconds: float) -> int:
    """As Go counts time."""
    return round(seconds * 1e9)


def stamp(moment: float) -> str:
    """As Go prints a time."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
