"""What a site may set: one TOML file, read once; secrets come from systemd credentials and never from this file."""

import ipaddress
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import Field, ValidationError, model_validator

from app.ingest.limits import Limits
from app.oidc.settings import Oidc
from app.settings_of_models import Inference
from app.table import Language, Seconds, Table

Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigurationError(Exception):
    """The configuration cannot be used; the message is one line for the operator."""


class Listen(Table):
    address: str = Field(default="127.0.0.1", description="Where every process listens; HAProxy is the door.")
    api: Port = Field(default=8080, description="Port of the API.")
    worker_metrics: Port = Field(default=8081, description="Port of rag-worker's metrics.")
    index_metrics: Port = Field(default=8082, description="Port of rag-index's metrics.")
    processes: int = Field(default=2, ge=1, le=64, description="API processes on this host.")


class Database(Table):
    hosts: tuple[str, ...] = Field(min_length=1, description="All PostgreSQL hosts; the primary is found by asking.")
    port: Port = Field(default=5432, description="PostgreSQL's port on every host.")
    name: str = Field(default="rag", description="Database.")
    user: str = Field(default="rag", description="Role of the application; credential database-password.")
    owner: str = Field(
        default="",
        description="Role that owns the schema, for migrations; credential database-owner-password. Empty: user.",
    )
    reader: str = Field(default="", description="Role that only reads; credential database-read-password. Empty: user.")
    ssl_root_cert: str = Field(default="", description="CA file for verify-full; may be empty on loopback only.")
    ssl_cert: str = Field(default="", description="Client certificate, where the servers ask for one.")
    ssl_key: str = Field(default="", description="Key of the client certificate.")
    connect_timeout_seconds: int = Field(default=2, ge=2, le=30, description="Wait for one host before the next.")
    statement_seconds: Seconds = Field(default=20, description="Longest statement of the API.")
    stale_seconds: Seconds = Field(
        default=30,
        description="A replica that lacks what is older than this serves nobody while another server is there.",
    )
    write_seconds: Seconds = Field(
        default=30, description="How long a write waits for a primary; a lost machine costs 22 to 26 of them."
    )
    pool_size: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Connections per process to the replicas, and as many to the primary; a worker takes no fewer than"
        " six for each document that it embeds at a time.",
    )

    @model_validator(mode="after")
    def encrypted_beyond_this_host(self) -> Self:
        if not self.ssl_root_cert and not all(_is_loopback(host) for host in self.hosts):
            raise ValueError("database.ssl_root_cert = ''; a CA file, since the database is on other hosts")
        return self

    def login(self, role: Literal["user", "owner", "reader"]) -> tuple[str, str]:
        """The role's name and that of its credential; one that is not set apart is the application's."""
        if role == "owner" and self.owner:
            return self.owner, "database-owner-password"
        if role == "reader" and self.reader:
            return self.reader, "database-read-password"
        return self.user, "database-password"


class Chroma(Table):
    host: str = Field(default="127.0.0.1", description="The Chroma server of this host.")
    port: Port = Field(default=8000, description="Its port.")
    deadline_seconds: Seconds = Field(
        default=5, description="Longest wait for one call; the client itself would wait for ever."
    )


class Answering(Table):
    passages: int = Field(default=6, ge=1, le=50, description="Passages put before the model.")
    candidates: int = Field(default=50, ge=5, le=200, description="Passages taken from each search before fusion.")
    language: Language = Field(
        default="english", description="Language of the full text, by its name in PostgreSQL; simple: none."
    )
    rerank: str = Field(
        default="", description="Model of the inference hosts that puts what was found in order; empty: none."
    )
    rerank_seconds: Seconds = Field(default=3, description="Longest wait for that order; then it stays as it was.")
    memory_tokens: int = Field(
        default=600,
        ge=0,
        le=32768,
        description="Most tokens of a conversation put before the next question's passages, a quarter of num_ctx at"
        " most; 0 remembers nothing.",
    )
    min_support: float = Field(
        default=0.6, gt=0, le=1, description="Share of a sentence's words its quote must contain."
    )
    min_relevance: float = Field(
        default=0.5, gt=0, le=1, description="Share of the question's words, weighed by rarity, in a cited passage."
    )


class Index(Table):
    forget_seconds: Seconds = Field(
        default=60, description="How long vectors of a model stay in this host's index when nobody is served from them."
    )
    max_lag: int = Field(default=1000, ge=0, description="Changes this host may be behind and still be ready.")
    poll_seconds: Seconds = Field(default=2, description="Longest wait between two looks at the change feed.")
    reconcile_minutes: float = Field(
        default=60, ge=0.01, le=10080, description="Between two comparisons of this host's index with PostgreSQL."
    )


class Upload(Table):
    max_bytes: int = Field(default=50 * 1024 * 1024, ge=1, description="Largest document.")


class Ingest(Table):
    threads: int = Field(
        default=2, ge=1, le=32, description="Documents embedded at a time; as many more are read meanwhile."
    )
    lease_seconds: Seconds = Field(default=60, description="How long a silent worker keeps its document.")
    max_attempts: int = Field(default=3, ge=1, description="Crashes after which a document is failed.")
    retry_seconds: Seconds = Field(default=5, description="Pause before a document is tried again.")
    poll_seconds: Seconds = Field(default=2, description="Longest wait between two looks at the queue.")
    passage_tokens: int = Field(default=200, ge=40, le=2000, description="Longest passage, 1.3 tokens a word.")
    passage_overlap_tokens: int = Field(
        default=30, ge=0, le=500, description="How much of a passage, in whole sentences, the next one repeats."
    )
    embed_batch: int = Field(default=16, ge=1, le=512, description="Passages per embedding call.")
    parse_seconds: int = Field(default=120, ge=1, description="Longest parse of one document.")
    parse_memory_mb: int = Field(default=1024, ge=128, description="Most memory for one parse.")
    max_pages: int = Field(default=5000, ge=1, description="Most pages of one PDF, or slides of one presentation.")
    max_members: int = Field(default=10_000, ge=1, description="Most files in one Office file, or attachments.")
    max_unpacked_mb: int = Field(default=256, ge=1, description="Most XML of one Office file when unpacked.")
    max_sheets: int = Field(default=200, ge=1, description="Most sheets of one workbook.")
    max_rows: int = Field(default=100_000, ge=1, description="Most rows of one table, of all sheets together.")

    @model_validator(mode="after")
    def passages_move_on(self) -> Self:
        if self.passage_overlap_tokens > self.passage_tokens // 2:
            most = self.passage_tokens // 2
            raise ValueError(f"ingest.passage_overlap_tokens = {self.passage_overlap_tokens}; at most {most}")
        return self

    @property
    def limits(self) -> Limits:
        """What one document may cost."""
        return Limits(
            seconds=self.parse_seconds,
            memory_mb=self.parse_memory_mb,
            pages=self.max_pages,
            members=self.max_members,
            unpacked_mb=self.max_unpacked_mb,
            sheets=self.max_sheets,
            rows=self.max_rows,
        )


class Logging(Table):
    questions: bool = Field(
        default=False, description="Whether the journal shows what people ask and search for, with their user ids."
    )


class Rates(Table):
    """For each person or address, over all hosts; 0 sets no limit."""

    questions_per_minute: int = Field(default=30, ge=0, description="Questions that one person may ask in a minute.")
    searches_per_minute: int = Field(default=120, ge=0, description="Searches of one person in a minute.")
    uploads_per_minute: int = Field(default=300, ge=0, description="Uploads of one person in a minute.")
    sign_ins_per_minute: int = Field(default=60, ge=0, description="Passwords shown from one address in a minute.")
    wrong_keys_per_minute: int = Field(
        default=30, ge=0, description="API keys from one address in a minute that are looked up and are nobody's."
    )


class Quota(Table):
    """What one person may keep here; 0 sets no bound."""

    bytes_per_person: int = Field(default=0, ge=0, description="Bytes of all documents that one person uploaded.")
    documents_per_person: int = Field(default=0, ge=0, description="Documents that one person uploaded.")


class Retention(Table):
    conversation_days: int = Field(
        default=0, ge=0, le=36500, description="Days that questions, answers and feedback are kept; 0: until deleted."
    )


class Settings(Table):
    domain: str = Field(min_length=1, description="Name under which people reach the platform.")
    admin_user: str = Field(
        default="admin", min_length=1, description="First administrator; the first migration adds it."
    )
    token_seconds: int = Field(default=3600, ge=60, le=86400, description="Life of an access token.")
    refresh_seconds: int = Field(
        default=12 * 3600,
        ge=300,
        le=30 * 86400,
        description="Life of a sign-in: a working day, so that a token stolen unnoticed is worth nothing by the next.",
    )
    audit_days: int = Field(default=400, ge=30, le=36500, description="How long an entry of the audit is kept.")
    listen: Listen = Listen()
    database: Database
    chroma: Chroma = Chroma()
    inference: Inference
    answering: Answering = Answering()
    index: Index = Index()
    upload: Upload = Upload()
    ingest: Ingest = Ingest()
    logging: Logging = Logging()
    limits: Rates = Rates()
    quota: Quota = Quota()
    retention: Retention = Retention()
    oidc: Oidc | None = Field(
        default=None, description="Sign-in at a provider of the site's own; none: passwords alone."
    )


def load() -> Settings:
    """The site's settings from $RAG_CONFIG; raise ConfigurationError naming the first key that cannot be used."""
    path = Path(os.environ.get("RAG_CONFIG", "/etc/rag/rag.toml"))
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"RAG_CONFIG = {path}; a readable file ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} = not TOML; {error}") from None
    except ValidationError as error:
        raise ConfigurationError(f"{first_problem(error)}; edit {path}") from None


def credential(name: str) -> str:
    """The secret that systemd put into $CREDENTIALS_DIRECTORY under this name."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials")) / name
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"credential {name} = {path}; a readable file ({error.strerror})") from None
    if not secret:
        raise ConfigurationError(f"credential {name} = ''; a secret in {path}")
    return secret


def refuse(error: ConfigurationError) -> NoReturn:
    """End the process as every program here refuses a configuration: one line on stderr, exit code 2."""
    sys.stderr.write(f"{error}\n")
    sys.exit(2)


def load_or_refuse() -> Settings:
    """The settings, or the end of the process."""
    try:
        return load()
    except ConfigurationError as error:
        refuse(error)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def first_problem(error: ValidationError) -> str:
    """The first key that cannot be used, and why."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} = unset; a value"
    if problem["type"] == "extra_forbidden":
        return f"{key} = {problem['input']!r}; no such setting"
    return f"{key} = {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
