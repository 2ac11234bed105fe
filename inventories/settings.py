"""Every setting a site may choose: its type, its default, its limits and the reason for it."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pyinfra.api.exceptions import PyinfraError

from inventories.public_keys import is_public_key

Role = Literal["etcd", "database", "inference", "app", "balancer", "monitoring", "backup"]
Network = IPv4Network | IPv6Network
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9._-]+$")]


class SettingsError(PyinfraError):
    """A site asks for something that cannot be deployed; the text is one line."""


class Frozen(BaseModel):
    """A group of settings: unknown names and values out of bounds are refused in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as refused:
            raise SettingsError(_one_line(type(self).__name__, refused)) from None

    def to_json(self) -> object:
        """Let ``pyinfra debug-inventory`` show the settings; secrets appear as asterisks."""
        return json.loads(self.model_dump_json())


def _one_line(model: str, refused: ValidationError) -> str:
    problem = refused.errors()[0]
    # Where a setting may be of two types pydantic names the type too, at length.
    place = [str(part) for part in problem["loc"] if str(part).replace("_", "").isalnum()]
    setting = ".".join([model.lower(), *place])
    if problem["type"] == "missing":
        return f"{setting} = (nothing); a value is needed; see docs/settings.md"
    if problem["type"] == "extra_forbidden":
        return f"{setting} = {problem['input']!r}; no setting has this name; see docs/settings.md"
    if problem["type"] in {"ip_v4_network", "ip_v6_network"}:
        return f"{setting} = {problem['input']!r}; a network is needed, as in 198.51.100.0/24; see docs/settings.md"
    need = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        # Said by a group's own rule, which names the setting itself.
        return f"{setting}.{need}; see docs/settings.md"
    shown = f" = {problem['input']!r}"
    return f"{setting}{shown}; {need[0].lower()}{need[1:]}; see docs/settings.md"


class Machine(Frozen):
    """One computer and the roles that it carries."""

    name: Name = Field(description="its host name; other machines and certificates use it")
    address: IPv4Address = Field(description="where the other machines reach it")
    roles: frozenset[Role] = Field(default=frozenset(), description="what it does; any set of roles fits one machine")
    interface: str = Field(default="eth0", description="the network interface that carries the address and the VIP")
    gpu: bool = Field(default=False, description="it has an NVIDIA GPU: the driver is installed, Ollama uses it")


class Ssh(Frozen):
    """How the controller reaches the machines."""

    key: Path | None = Field(default=None, description="private key file; none: the agent's and the user's own keys")
    known_hosts: Path = Field(
        default=Path("inventories/known_hosts"), description="the machines' real host keys; any other key is refused"
    )
    port: int = Field(default=22, ge=1, le=65535, description="where sshd listens")
    user: Name = Field(default="deploy", description="who deploys after the first contact, with sudo")
    first_user: Name = Field(default="root", description="who is asked only while the deploy user does not exist yet")
    authorized_keys: tuple[str, ...] = Field(min_length=1, description="public keys that may log in as the deploy user")

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        for key in self.authorized_keys:
            if not is_public_key(key):
                raise ValueError(f"authorized_keys = {key[:60]!r}; a public key's line is needed, as in id_ed25519.pub")
        return self


class Packages(Frozen):
    """Where Debian packages and the time come from."""

    mirror: str = Field(default="", description="Debian mirror's address; none: the sources that the machine has")
    security_mirror: str = Field(default="", description="Debian security mirror's address; goes with mirror")
    ntp_servers: tuple[str, ...] = Field(default=(), description="time servers; none: Debian's pool")

    @model_validator(mode="after")
    def _mirrors_go_together(self) -> Self:
        if bool(self.mirror) != bool(self.security_mirror):
            raise ValueError(f"security_mirror = {self.security_mirror!r}; mirror and security_mirror go together")
        return self


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
        default=Model(name="nomic-embed-text:v1.5"), description="turns passages into vectors"
    )
    embedding_dimension: int = Field(default=768, ge=64, le=4096, description="length of the embedding model's vectors")
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
        description="the documents' language, for the full text; a change makes all words anew during the deploy",
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
        """What one app host opens to PostgreSQL: eight to read and eight to write per worker, twelve for the rest."""
        return self.workers * 2 * 8 + 12


class Limits(Frozen):
    """What one person may ask for in a minute, over all hosts; 0 sets no limit."""

    questions_per_minute: int = Field(default=30, ge=0, description="questions")
    searches_per_minute: int = Field(default=120, ge=0, description="searches")
    uploads_per_minute: int = Field(default=300, ge=0, description="uploads")


class Retention(Frozen):
    """How long what people did is kept."""

    conversation_days: int = Field(
        default=0, ge=0, le=36500, description="days that questions, answers and feedback are kept; 0: until deleted"
    )


class Vip(Frozen):
    """The address that clients use; keepalived moves it between the balancers."""

    address: IPv4Address = Field(description="a free address in the balancers' network")
    router_id: int = Field(default=51, ge=1, le=255, description="VRRP's number, unique in that network")


class Site(Frozen):
    """Everything that one site wants."""

    name: Name = Field(description="names the secrets' file")
    domain: Domain = Field(description="the name that browsers open")
    machines: tuple[Machine, ...] = Field(min_length=1, description="the fleet")
    ssh: Ssh = Field(description="how the controller reaches the machines")
    operators: tuple[Network, ...] = Field(min_length=1, description="networks that may open SSH")
    users: tuple[Network, ...] = Field(min_length=1, description="networks that may open the web page and the API")
    vip: Vip | None = Field(default=None, description="the balancers' common address; none: the balancer's own")
    packages: Packages = Field(default=Packages(), description="where packages and time come from")
    etcd: Etcd = Field(default=Etcd(), description="see below")
    database: Database = Field(default=Database(), description="see below")
    inference: Inference = Field(default=Inference(), description="see below")
    application: Application = Field(default=Application(), description="see below")
    limits: Limits = Field(default=Limits(), description="see below")
    retention: Retention = Field(default=Retention(), description="see below")
    secrets: dict[str, SecretStr] = Field(default={}, description="what `make secrets` made", repr=False)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _unique("name", [machine.name for machine in self.machines])
        _unique("address", [str(machine.address) for machine in self.machines])
        for role, need in (("etcd", (1, 3, 5)), ("database", range(1, 8))):
            count = len(self.having(role))
            if count not in need:
                raise ValueError(f"machines with role {role} = {count}; one of {[*need]} is needed")
        for role in ("inference", "app", "balancer"):
            if not self.having(role):
                raise ValueError(f"machines with role {role} = 0; one at least is needed")
        if (most := self.database.max_connections) and most < self.sessions:
            raise ValueError(
                f"database.max_connections = {most}; the application needs {self.sessions}, or leave it out"
            )
        if self.database.replication == "quorum" and len(self.having("database")) == 1:
            raise ValueError("database.replication = 'quorum'; two machines with role database at least are needed")
        if self.vip is None and len(self.having("balancer")) > 1:
            raise ValueError("vip = (nothing); two balancers need an address that moves between them")
        if self.vip and self.vip.address in [machine.address for machine in self.machines]:
            raise ValueError(f"vip.address = {self.vip.address}; a free address is needed, this one is a machine's")
        return self

    def having(self, role: str) -> tuple[Machine, ...]:
        """The machines that carry ``role``, in the site's order; ``every`` is a role of all."""
        return tuple(machine for machine in self.machines if role == "every" or role in machine.roles)

    def machine(self, name: str) -> Machine:
        """The machine of that name."""
        return next(machine for machine in self.machines if machine.name == name)

    def hosts(self, role: str) -> list[tuple[str, dict[str, object]]]:
        """The machines of ``role`` as a pyinfra group."""
        return [(f"@machine/{machine.name}", self._host_data(machine)) for machine in self.having(role)]

    def _host_data(self, machine: Machine) -> dict[str, object]:
        data: dict[str, object] = {
            "site": self,
            "machine": machine,
            "ssh_hostname": str(machine.address),
            "ssh_port": self.ssh.port,
            "ssh_user": self.ssh.user,
            "ssh_known_hosts_file": str(self.ssh.known_hosts),
            "ssh_strict_host_key_checking": "yes",
        }
        return data | ({"ssh_key": str(self.ssh.key)} if self.ssh.key else {})

    def secret(self, name: str) -> str:
        """The secret's value; a missing one is refused with the command that makes it."""
        if name not in self.secrets:
            raise SettingsError(f"secret {name} = (nothing); every secret is needed; make secrets SITE={self.name}")
        return self.secrets[name].get_secret_value()

    @property
    def sessions(self) -> int:
        """What all may open when one database machine is left: the application's, and 25 for Patroni and people."""
        return len(self.having("app")) * self.application.sessions + 25

    @property
    def places(self) -> int:
        """Answers that all inference hosts together write at the same time."""
        return len(self.having("inference")) * self.inference.parallel

    @property
    def replication(self) -> str:
        """How writes reach the replicas: quorum, asynchronous, or none without a replica."""
        if len(self.having("database")) == 1:
            return "none"
        return self.database.replication or "quorum"

    @property
    def entry(self) -> IPv4Address:
        """The address that clients use."""
        return self.vip.address if self.vip else self.having("balancer")[0].address


def _unique(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"machines' {what} = {twice[0]}; each machine needs its own")
