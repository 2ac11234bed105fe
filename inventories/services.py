"""What a site may want of each service: type, default, limits and the reason for it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from inventories.embeddings import Prefixes, prefixes
from inventories.frozen import Frozen

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9._-]+$")]


class Etcd(Frozen):
    """The store that elects the PostgreSQL primary."""

    heartbeat_ms: int = Field(default=100, ge=50, le=1000, description="raise to the round trip between the machines")
    election_ms: int = Field(default=1000, ge=500, le=50000, description="ten heartbeats, as etcd's tuning page asks")

    @model_validator(mode="after")
    def _election_outlasts_heartbeats(self) -> Self:
        if self.election_ms < 5 * self.heartbeat_ms:
            raise ValueError(f"election_ms = {self.election_ms}; at least 5 * heartbeat_ms is needed")
        return self


class Database(Frozen):
    """PostgreSQL under Patroni."""

    version: Literal[17] = Field(default=17, description="PostgreSQL's major version, as Debian 13 ships it")
    memory_mb: int | None = Field(
        default=None,
        ge=256,
        description="memory that PostgreSQL plans with; none: half of a machine with databases alone, else a quarter",
    )
    max_connections: int | None = Field(
        default=None, ge=50, le=2000, description="upper bound of sessions; none: what the application can open"
    )
    replication: Literal["quorum", "asynchronous"] | None = Field(
        default=None,
        description="quorum: a write is acknowledged when a replica has it too; none: quorum with two machines or more",
    )
    stale_seconds: int = Field(
        default=30,
        ge=5,
        le=3600,
        description="a replica that lacks what is older serves no question while another server is there; so long what"
        " was withdrawn may still count, and so long a replica may take to replay",
    )
    slot_wal_mb: int = Field(
        default=4096, ge=256, description="write-ahead log kept for a replica or a backup host that is away"
    )
    ttl: int = Field(default=20, ge=20, le=300, description="seconds until a silent primary loses its lease")
    loop_wait: int = Field(default=1, ge=1, le=60, description="seconds between two looks of Patroni")
    retry_timeout: int = Field(default=3, ge=3, le=60, description="seconds that etcd may be unreachable")

    watchdog: Literal["off", "automatic", "required"] = Field(
        default="automatic",
        description="required: Patroni leads only where a watchdog can end a hanging machine; otherwise a guard does",
    )

    @model_validator(mode="after")
    def _lease_outlives_retries(self) -> Self:
        # Patroni's own rule is loop_wait + 2 * retry_timeout; the guard must outlast such a round before it acts.
        need = 2 * (self.loop_wait + self.retry_timeout) + 8
        if need > self.ttl:
            raise ValueError(f"ttl = {self.ttl}; at least 2 * (loop_wait + retry_timeout) + 8 = {need} is needed")
        return self

    @property
    def guard_seconds(self) -> int:
        """
        Silence of Patroni after which the guard ends a primary.

        The lease was renewed one loop before the last answer at the earliest, and is taken by another machine ttl after
        that; five seconds, Patroni's own safety margin of a watchdog, are left to notice and to end.
        """
        return self.ttl - self.loop_wait - 5


class Model(Frozen):
    """A model that inference hosts must hold, named and pinned as Ollama lists it."""

    name: ModelName = Field(description="name and tag, as in nomic-embed-text:v1.5")
    digest: Sha256 | None = Field(default=None, description="sha256 of its manifest; none: any content of that name")

    @property
    def manifest(self) -> Path:
        """Where Ollama keeps the manifest of a model of its own library, below its folder."""
        name, tag = self.name.split(":")
        return Path("manifests/registry.ollama.ai") / (name if "/" in name else f"library/{name}") / tag


class Inference(Frozen):
    """Ollama and its models."""

    archive: Path = Field(
        default=Path("build/cache/ollama-linux-amd64.tar.zst"),
        description="Ollama's archive on the controller; fetched there once when a url is named",
    )
    archive_url: str = Field(
        default="https://github.com/ollama/ollama/releases/download/v0.32.7/ollama-linux-amd64.tar.zst",
        description="where the controller fetches the archive when it is not there; empty: nowhere",
    )
    archive_sha256: Sha256 = Field(
        default="ed1e39fe8fea90bd7f4c723bd949a2cea3153e111220ec0a183ea5b8dc8b2cae",
        description="the archive is refused when its checksum differs",
    )
    version: str = Field(default="0.32.7", description="what `ollama --version` must answer")
    model_store: Path | None = Field(
        default=None,
        description="folder with manifests/ and blobs/ on the controller, pushed to hosts that lack a model",
    )
    chat_model: Model = Field(default=Model(name="llama3.1:8b"), description="writes the answers")
    embedding_model: Model = Field(
        default=Model(name="nomic-embed-text:v1.5"),
        description="turns passages into vectors; a multilingual one, such as bge-m3 (1024), where people ask in"
        " another language than their documents'",
    )
    embedding_dimension: int = Field(default=768, ge=64, le=4096, description="length of the embedding model's vectors")
    query_prefix: str | None = Field(
        default=None,
        description="put before a question that is embedded; none: what the model's family is known to want",
    )
    document_prefix: str | None = Field(
        default=None,
        description="the same before a passage; a change needs every document embedded anew, as another model does",
    )
    next_embedding_model: Model | None = Field(
        default=None, description="the model that `rag reembed` goes to; held by the hosts beside the present one"
    )
    next_embedding_dimension: int | None = Field(
        default=None, ge=64, le=4096, description="length of the next model's vectors"
    )
    next_query_prefix: str | None = Field(
        default=None, description="what stands before a question for the next model; none: as its family wants it"
    )
    next_document_prefix: str | None = Field(default=None, description="the same before a passage")
    distances: dict[str, tuple[float, float]] = Field(
        default={},
        description="by an embedding model's name the two distances that `rag eval` proposes: up to the first a passage"
        " is about the question, beyond the second nothing is; a model without them refuses by the words alone",
    )
    context_tokens: int = Field(
        default=8192,
        ge=1024,
        le=131072,
        description="one constant: a change makes Ollama reload, an excess is cut in silence",
    )
    parallel: int = Field(
        default=2,
        ge=1,
        le=64,
        description="answers that one host writes at the same time, over all app hosts; its door lets others wait 5 s",
    )
    keep_alive: str = Field(
        default="24h", pattern=r"^(-1s|\d+[smh])$", description="how long an idle model stays loaded; -1s: for ever"
    )
    stand_in: bool = Field(default=False, description="the archive is the lab's stand-in; every report says so")

    @model_validator(mode="after")
    def _next_model_is_another(self) -> Self:
        following = self.next_embedding_model
        if following and following.name == self.embedding_model.name:
            raise ValueError(f"next_embedding_model = {following.name}; another model is needed, or none")
        if (following is None) != (self.next_embedding_dimension is None):
            need = "the length of its vectors is needed" if following else "none is needed without a next model"
            raise ValueError(f"next_embedding_dimension = {self.next_embedding_dimension}; {need}")
        return self

    @model_validator(mode="after")
    def _distances_are_in_order(self) -> Self:
        for model, (near, far) in self.distances.items():
            if not 0 < near < far <= 2:
                raise ValueError(f"distances of {model} = {near}, {far}; two that grow, above 0 and up to 2; rag eval")
        return self

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that inference hosts hold."""
        following = (self.next_embedding_model,) if self.next_embedding_model else ()
        return (self.chat_model, self.embedding_model, *following)

    @property
    def prefixes(self) -> Prefixes:
        """What stands before a question and a passage when they are embedded."""
        return _chosen(self.embedding_model, self.query_prefix, self.document_prefix)

    @property
    def next_prefixes(self) -> Prefixes:
        """The same for the next model."""
        following = self.next_embedding_model or self.embedding_model
        return _chosen(following, self.next_query_prefix, self.next_document_prefix)


def _chosen(model: Model, query: str | None, document: str | None) -> Prefixes:
    known = prefixes(model.name)
    return Prefixes(known.query if query is None else query, known.document if document is None else document)


# The text search configurations that PostgreSQL brings along.
# fmt: off
Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
    "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]
# fmt: on


class Application(Frozen):
    """The RAG program on app hosts."""

    memory_mb: int = Field(default=4096, ge=1024, description="memory for the API's workers on each app host")
    cores: int = Field(default=4, ge=1, le=128, description="cores for the API's workers on each app host")
    upload_mb: int = Field(default=200, ge=1, le=2048, description="largest document")
    index_lag: int = Field(default=1000, ge=1, description="changes a host's index may be behind and still serve")
    admin_user: Name = Field(default="admin", description="the first administrator's name")
    session_hours: int = Field(
        default=12, ge=1, le=720, description="hours after which people sign in again; a working day by default"
    )
    audit_days: int = Field(default=400, ge=30, le=36500, description="days for which the audit keeps an entry")
    log_questions: bool = Field(default=False, description="whether app hosts' journals show what people ask")
    language: Language = Field(
        default="english",
        description="the documents' language, for the full text; another one is a step of the deploy",
    )
    rerank: bool = Field(
        default=False, description="the chat model puts what was found in order first, for 3 seconds at most"
    )

    @property
    def workers(self) -> int:
        """One per core, and no more than fit at 300 MB each (a worker takes 150-250 MB)."""
        return max(2, min(self.cores, self.memory_mb // 300))

    @property
    def sessions(self) -> int:
        """What one app host opens to PostgreSQL: 8 to read, 8 to write and 1 to watch per worker, 22 for the rest."""
        return self.workers * (2 * 8 + 1) + 22


class Limits(Frozen):
    """What one person, or one address, may ask for in a minute, over all hosts; 0 sets no limit."""

    questions_per_minute: int = Field(default=30, ge=0, description="questions")
    searches_per_minute: int = Field(default=120, ge=0, description="searches")
    uploads_per_minute: int = Field(default=300, ge=0, description="uploads")
    sign_ins_per_minute: int = Field(
        default=60,
        ge=0,
        description="passwords shown from one address, right or wrong; more where many people share one",
    )
    wrong_keys_per_minute: int = Field(
        default=30, ge=0, description="API keys from one address that are looked up and are nobody's"
    )


class Quota(Frozen):
    """What one person may keep; 0 sets no bound."""

    person_mb: int = Field(default=0, ge=0, description="MiB of all documents that one person uploaded")
    person_documents: int = Field(default=0, ge=0, description="documents that one person uploaded")


class Retention(Frozen):
    """How long what people did is kept."""

    conversation_days: int = Field(
        default=0, ge=0, le=36500, description="days that questions, answers and feedback are kept; 0: until deleted"
    )
