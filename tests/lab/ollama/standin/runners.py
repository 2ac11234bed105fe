"""Models in memory: loaded at first use, one at a time, and let go when nobody has asked for a while."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread

from .apart import Apart
from .environment import FOREVER, Environment
from .store import Model
from .writer import Writer


class BusyError(Exception):
    """Too many requests wait for a model to be loaded."""

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    runner: Writer | Apart
    context: int
    load_seconds: float
    keep_alive: float
    users: int = 0
    idle_since: float = field(default_factory=time.time)

    @property
    def expires_at(self) -> float:
        """When it is let go, unless somebody asks before."""
        return FOREVER if self.keep_alive == FOREVER else self.idle_since + self.keep_alive


class Runners:
    """Every model in memory; a request holds the one it uses."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._loaded: dict[str, Loaded] = {}
        self._changed = Condition()
        self._waiting = 0
        self._gate = Lock()
        Thread(target=self._let_go, daemon=True).start()

    @contextmanager
    def using(self, model: Model, context: int, keep_alive: float) -> Iterator[tuple[Loaded, float]]:
        """The loaded model, and the seconds this request waited for its loading."""
        began = time.monotonic()
        with self._pending(model, context), self._changed:
            present = self._loaded.get(model.digest)
            # Another context needs another runner, and the old one finishes what it has begun.
            while present is not None and present.context != context:
                if present.users == 0:
                    self._loaded.pop(model.digest)
                else:
                    self._changed.wait()
                present = self._loaded.get(model.digest)
            if present is None:
                present = self._load(model, context, keep_alive)
            present.users += 1
            present.keep_alive = keep_alive
            self._changed.notify_all()
        try:
            yield present, time.monotonic() - began
        finally:
            with self._changed:
                present.users -= 1
                present.idle_since = time.time()
                self._changed.notify_all()

    def loaded(self) -> list[Loaded]:
        """What is in memory now."""
        with self._changed:
            return sorted(self._loaded.values(), key=lambda one: one.model.name)

    @contextmanager
    def _pending(self, model: Model, context: int) -> Iterator[None]:
        # Ollama counts only those who wait for a model to be loaded; whoever finds it loaded waits without bound.
        present = self._loaded.get(model.digest)
        ready = present is not None and present.context == context
        with self._gate:
            if not ready and self._waiting >= self._environment.queue:
                raise BusyError
            self._waiting += not ready
        try:
            yield
        finally:
            with self._gate:
                self._waiting -= not ready

    def _load(self, model: Model, context: int, keep_alive: float) -> Loaded:
        # Under the lock, so one model is loaded at a time and never twice; requests for others wait a second or two.
        began = time.monotonic()
        weights = model.weights
        places = self._environment.parallel
        runner = Apart(weights.path) if model.embeds else Writer(weights.path, context, places)
        present = Loaded(model, runner, context, time.monotonic() - began, keep_alive)
        self._loaded[model.digest] = present
        return present

    def _let_go(self) -> None:
        while True:
            with self._changed:
                now = time.time()
                idle = [key for key, one in self._loaded.items() if not one.users and one.expires_at <= now]
                for key in idle:
                    del self._loaded[key]
                waits = [one.expires_at - now for one in self._loaded.values() if not one.users]
                self._changed.wait(min([60.0, *waits]))
