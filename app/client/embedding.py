"""Going over to another embedding model, for administrators."""

from app.client.results import Reembedding
from app.client.transport import Transport

PATH = "/api/v1/reembedding"


class Embedding:
    """The part of a client that changes the embedding model."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def status(self) -> Reembedding:
        """How far a change is, and what comes next."""
        return self._transport.one(Reembedding, "GET", PATH)

    def start(self) -> Reembedding:
        """Embed every passage with the site's next model, while the old one is served."""
        return self._transport.one(Reembedding, "POST", PATH)

    def back(self) -> Reembedding:
        """Serve the old model again; both are kept."""
        return self._transport.one(Reembedding, "POST", f"{PATH}/back")

    def finish(self) -> Reembedding:
        """Take the old model's vectors away."""
        return self._transport.one(Reembedding, "POST", f"{PATH}/finish")

    def cancel(self) -> Reembedding:
        """Take the new model's vectors away."""
        return self._transport.one(Reembedding, "DELETE", PATH)
