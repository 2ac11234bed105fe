"""Who may talk to whom: declared once; the firewall, HAProxy's doors and the network test derive from it."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from inventories.settings import Machine, Site

OPERATORS = "operators"
USERS = "users"
PROVIDER = "provider"
"""Where people sign in besides, none of the site's machines; what goes out of those is not filtered."""


@dataclass(frozen=True)
class Share:
    """Requests of a door that stand in a line of their own, so many of them at a time as the service has places."""

    name: str
    paths: tuple[str, ...]
    patience: int
    """Seconds that one waits for its turn before it is told to try elsewhere."""
    why: str


@dataclass(frozen=True)
class Door:
    """A loopback service that HAProxy opens to other machines, certificate against certificate."""

    name: str
    backend: int
    paths: tuple[str, ...]
    """Allowed requests as ``METHOD /path``; a path that ends in ``/`` allows all below it."""
    shown: str = "proxy"
    """Whose certificate a client shows: a machine's others, in reach of other services there, open nothing."""
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Flow:
    """One permission: machines of ``source`` may reach ``port`` on machines of ``target``."""

    source: str
    target: str
    port: int
    why: str
    door: Door | None = None
    seldom: bool = False
    """Somebody listens there only while something is being repaired."""


API = Door(
    name="api",
    backend=8080,
    paths=("GET /", "HEAD /", "POST /", "PUT /", "PATCH /", "DELETE /"),
)
METRICS = Door(name="metrics", backend=8080, paths=("GET /metrics",), shown="monitoring")
WORKER_METRICS = Door(name="worker_metrics", backend=8081, paths=("GET /metrics",), shown="monitoring")
INDEX_METRICS = Door(name="index_metrics", backend=8082, paths=("GET /metrics",), shown="monitoring")
OLLAMA = Door(
    name="ollama",
    backend=11434,
    paths=(
        "GET /api/version",
        "GET /api/tags",
        "GET /api/ps",
        "POST /api/show",
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/embed",
    ),
    # Ollama itself lets wait without bound and in the order of coming.
    shares=(
        Share("answers", ("/api/chat", "/api/generate"), 5, "more would only make all of them slower."),
        Share("embeddings", ("/api/embed",), 10, "a line of their own, since an answer takes far longer."),
    ),
)

HTTP = 80
HTTPS = 443
POSTGRESQL = 5432
PATRONI = 8008
ETCD = 2379
ETCD_PEER = 2380
NODE_EXPORTER = 9100
API_DOOR = 8443
METRICS_DOOR = 8444
WORKER_METRICS_DOOR = 8445
INDEX_METRICS_DOOR = 8446
OLLAMA_DOOR = 11443
RESTORED = 5433
REST_DOOR = 8448
INFERENCE_POOL = 11435
CHROMA = 8000
VRRP = "vrrp"


def flows(site: Site) -> tuple[Flow, ...]:
    """Every permission of the site, in the order of a document's way through it."""
    provider = [Flow("app", PROVIDER, site.oidc.port, "who signed in there, and its keys")] if site.oidc else []
    return (
        Flow(OPERATORS, "every", site.ssh.port, "deploys and repairs"),
        Flow(USERS, "balancer", HTTP, "browsers that forget the s are sent to HTTPS"),
        Flow(USERS, "balancer", HTTPS, "the web page and the API"),
        Flow("balancer", "app", API_DOOR, "requests go to any app host that is ready", API),
        *provider,
        Flow("app", "database", POSTGRESQL, "documents, passages, users"),
        Flow("database", "database", POSTGRESQL, "streaming replication"),
        Flow("backup", "database", POSTGRESQL, "the write-ahead log and base backups"),
        Flow("database", "backup", RESTORED, "a restored database is fetched from where it was restored", seldom=True),
        Flow("etcd", "backup", REST_DOOR, "etcd's own backups are pushed, and cannot be taken back"),
        Flow("database", "database", PATRONI, "Patroni asks its peers before a failover"),
        Flow("database", "etcd", ETCD, "the primary's lease"),
        Flow("etcd", "etcd", ETCD, "health of the whole cluster from any member"),
        Flow("etcd", "etcd", ETCD_PEER, "etcd's own replication"),
        Flow("app", "inference", OLLAMA_DOOR, "embeddings and answers", OLLAMA),
        Flow("backup", "inference", OLLAMA_DOOR, "a restore drill asks a question", OLLAMA),
        Flow("monitoring", "every", NODE_EXPORTER, "the machine's figures"),
        Flow("monitoring", "app", METRICS_DOOR, "the API's figures", METRICS),
        Flow("monitoring", "app", WORKER_METRICS_DOOR, "the worker's figures", WORKER_METRICS),
        Flow("monitoring", "app", INDEX_METRICS_DOOR, "the index follower's figures", INDEX_METRICS),
    )


@dataclass(frozen=True)
class Opening:
    """One line of a machine's firewall: these addresses may reach that port."""

    port: int
    sources: tuple[IPv4Address | IPv4Network | IPv6Network, ...]
    why: str

    @property
    def ipv4(self) -> list[str]:
        """The sources for an ``ip saddr`` rule."""
        return [str(source) for source in self.sources if source.version == 4]

    @property
    def ipv6(self) -> list[str]:
        """The sources for an ``ip6 saddr`` rule."""
        return [str(source) for source in self.sources if source.version == 6]


def openings(site: Site, machine: Machine) -> list[Opening]:
    """What the firewall of ``machine`` lets in, besides its own loopback."""
    return [
        Opening(flow.port, sources, flow.why)
        for flow in flows(site)
        if machine in site.having(flow.target) and (sources := _sources(site, flow, machine))
    ]


def _sources(site: Site, flow: Flow, target: Machine) -> tuple[IPv4Address | IPv4Network | IPv6Network, ...]:
    if flow.source == OPERATORS:
        return site.operators
    if flow.source == USERS:
        return site.users
    return tuple(peer.address for peer in site.having(flow.source) if peer != target)


@dataclass(frozen=True)
class OpenDoor:
    """A door on one machine, with the machines whose certificates open it."""

    port: int
    door: Door
    clients: tuple[str, ...]


def doors(site: Site, machine: Machine) -> list[OpenDoor]:
    """The doors that HAProxy holds on ``machine``; its own certificate opens them too."""
    clients: dict[tuple[int, Door], list[str]] = {}
    for flow in flows(site):
        if flow.door and machine in site.having(flow.target):
            clients.setdefault((flow.port, flow.door), []).extend(peer.name for peer in site.having(flow.source))
    return [OpenDoor(port, door, tuple(dict.fromkeys(names))) for (port, door), names in clients.items()]


def vrrp_peers(site: Site, machine: Machine) -> list[IPv4Address]:
    """The other balancers, which hear this one's VRRP advertisements."""
    if site.vip is None or "balancer" not in machine.roles:
        return []
    return [peer.address for peer in site.having("balancer") if peer != machine]


def reachable(site: Site, source: Machine, target: Machine) -> set[int]:
    """The TCP ports of ``target`` that must answer ``source``; every other port must not."""
    return {
        opening.port
        for opening in openings(site, target)
        if any(
            source.address == allowed if isinstance(allowed, IPv4Address) else source.address in allowed
            for allowed in opening.sources
        )
    }
