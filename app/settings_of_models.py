"""What a site may set about its inference hosts and their models."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from app.table import Seconds, Table

# With the space at its end.
Prefix = Annotated[str, StringConstraints(strip_whitespace=False)]


@dataclass(frozen=True)
class Embedder:
    """An embedding model, and what it wants before a text."""

    model: str
    dimension: int
    query_prefix: str = ""
    document_prefix: str = ""

    @property
    def space(self) -> tuple[str, int]:
        """What vectors must share to be compared."""
        return self.model, self.dimension

    def __str__(self) -> str:
        return f"{self.model} ({self.dimension})"


class Inference(Table):
    url: str = Field(
        default="http://127.0.0.1:11435", description="The pool of inference hosts, as this host's HAProxy offers it."
    )
    chat_model: str = Field(min_length=1, description="Model that answers.")
    embedding_model: str = Field(min_length=1, description="Model that embeds; `rag reembed` goes to another one.")
    embedding_dimension: int = Field(ge=1, le=8192, description="Length of its vectors.")
    query_prefix: Prefix = Field(
        default="", description="Put before a question, where the model wants it (nomic: 'search_query: ')."
    )
    document_prefix: Prefix = Field(default="", description="Put before a passage, where the model wants it.")
    next_embedding_model: str = Field(default="", description="Model that `rag reembed` goes to; empty: none.")
    next_embedding_dimension: int = Field(default=0, ge=0, le=8192, description="Length of its vectors.")
    next_query_prefix: Prefix = Field(default="", description="Put before a question for the next model.")
    next_document_prefix: Prefix = Field(default="", description="Put before a passage for the next model.")
    distances: dict[str, tuple[float, float]] = Field(
        default={}, description="By an embedding model's name: how near is about the question, and how far is not."
    )
    num_ctx: int = Field(
        default=4096, ge=1024, description="Context in tokens; one value everywhere, a change reloads the model."
    )
    num_predict: int = Field(default=256, ge=16, description="Longest answer in tokens.")
    keep_alive: str = Field(default="-1s", description="How long a model stays loaded; negative is for ever.")
    deadline_seconds: Seconds = Field(default=60, description="Longest wait for one whole answer.")
    embed_deadline_seconds: Seconds = Field(default=30, description="Longest wait for one batch of embeddings.")
    max_in_flight: int = Field(
        default=4, ge=1, description="Answers in the making per API process; more wait, then 503."
    )
    queue_seconds: Seconds = Field(default=5, description="Longest wait for a turn before the 503.")

    @model_validator(mode="after")
    def room_for_passages(self) -> Self:
        if self.num_predict > self.num_ctx // 2:
            raise ValueError(f"inference.num_predict = {self.num_predict}; at most half of num_ctx ({self.num_ctx})")
        return self

    @model_validator(mode="after")
    def a_next_model_is_another(self) -> Self:
        if self.next_embedding_model == self.embedding_model:
            raise ValueError(f"inference.next_embedding_model = {self.next_embedding_model}; another model, or none")
        if bool(self.next_embedding_model) != bool(self.next_embedding_dimension):
            needed = "the length of the next model's vectors" if self.next_embedding_model else "0 without a next model"
            raise ValueError(f"inference.next_embedding_dimension = {self.next_embedding_dimension}; {needed}")
        return self

    @property
    def embedders(self) -> tuple[Embedder, ...]:
        """The embedding model, and the next one if there is one."""
        first = Embedder(self.embedding_model, self.embedding_dimension, self.query_prefix, self.document_prefix)
        if not self.next_embedding_model:
            return (first,)
        length, query, document = self.next_embedding_dimension, self.next_query_prefix, self.next_document_prefix
        return (first, Embedder(self.next_embedding_model, length, query, document))

    def embedder(self, space: tuple[str, int] | None) -> Embedder | None:
        """The one of this name and length, None where none is configured; the first while no passage is stored."""
        if space is None:
            return self.embedders[0]
        return next((one for one in self.embedders if one.space == space), None)
