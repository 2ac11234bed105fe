"""Every setting a site may choose; those of single services are in inventories/services.py."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from inventories.backup import SECOND_KEY, Backup
from inventories.frozen import Frozen, SettingsError
from inventories.oidc import SECRET, Oidc
from inventories.public_keys import is_public_key
from inventories.services import Application, Database, Etcd, Inference, Limits, Model, Name, Quota, Retention

# A site file needs no other module.
__all__ = [
    "Application",
    "Backup",
    "Database",
    "Etcd",
    "Frozen",
    "Inference",
    "Limits",
    "Machine",
    "Model",
    "Network",
    "Oidc",
    "Packages",
    "Quota",
    "Retention",
    "Role",
    "SettingsError",
    "Site",
    "Ssh",
    "Vip",
]

Role = Literal["etcd", "database", "inference", "app", "balancer", "monitoring", "backup"]
Network = IPv4Network | IPv6Network
Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


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
    quota: Quota = Field(default=Quota(), description="see below")
    retention: Retention = Field(default=Retention(), description="see below")
    backup: Backup = Field(default=Backup(), description="see below")
    oidc: Oidc | None = Field(default=None, description="where people sign in besides; none: with passwords alone")
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
        if (keepers := len(self.having("backup"))) > 1:
            raise ValueError(f"machines with role backup = {keepers}; one at most, the log has one receiver")
        if self.database.replication == "quorum" and len(self.having("database")) == 1:
            raise ValueError("database.replication = 'quorum'; two machines with role database at least are needed")
        if self.vip is None and len(self.having("balancer")) > 1:
            raise ValueError("vip = (nothing); two balancers need an address that moves between them")
        if self.vip and self.vip.address in [machine.address for machine in self.machines]:
            raise ValueError(f"vip.address = {self.vip.address}; a free address is needed, this one is a machine's")
        if self.oidc and SECRET not in self.secrets:
            raise ValueError(
                f"secrets = no {SECRET}; the provider's for client {self.oidc.client_id} is needed;"
                f" make keep-secret SITE={self.name} NAME={SECRET}"
            )
        if self.backup.over_sftp and SECOND_KEY not in self.secrets:
            raise ValueError(
                f"secrets = no {SECOND_KEY}; the private key that {self.backup.second_repository} lets in is needed;"
                f" make keep-secret SITE={self.name} NAME={SECOND_KEY} < KEYFILE"
            )
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
