"""What the backup host is told by the deploy: one TOML file; secrets come from systemd credentials."""

import os
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from app.settings import ConfigurationError, first_problem
from app.settings_of_models import Inference
from app.table import Language, Table

FILE = "/etc/rag/backup.toml"
Kind = Literal["wal", "base", "dump", "site", "evidence"]


class Cluster(Table):
    """The PostgreSQL cluster, as the role rag_backup reaches it."""

    hosts: tuple[str, ...] = Field(min_length=1, description="All PostgreSQL hosts; the primary is found by asking.")
    port: int = Field(default=5432, ge=1, le=65535, description="PostgreSQL's port on every host.")
    name: str = Field(default="rag", description="The application's database.")
    user: str = Field(default="rag_backup", description="The role; its password is the credential backup-password.")
    slot: str = Field(default="rag_backup", description="Permanent slot that keeps the log while nobody receives it.")
    ssl_root_cert: str = Field(min_length=1, description="CA file for verify-full.")
    ssl_cert: str = Field(min_length=1, description="Client certificate.")
    ssl_key: str = Field(min_length=1, description="Its key.")
    programs: Path = Field(default=Path("/usr/lib/postgresql/17/bin"), description="PostgreSQL's own programs.")

    def dsn(
        self,
        target: Literal["read-write", "prefer-standby", "any"] = "read-write",
        *,
        database: str = "",
        program: str = "rag-backup",
        host: str = "",
        session: str = "",
    ) -> str:
        """
        What libpq connects with, without the password: that comes from `environment`.

        + host: this one alone instead of all
        + session: a setting of PostgreSQL for this session, as in wal_sender_timeout=20s
        """
        hosts = (host,) if host else self.hosts
        words = {
            "host": ",".join(hosts),
            "port": str(self.port),
            "user": self.user,
            "target_session_attrs": target,
            "application_name": program,
            "connect_timeout": "2",
            # A machine that lost power says no goodbye.
            "tcp_user_timeout": "3000",
            "keepalives_idle": "2",
            "keepalives_interval": "1",
            "keepalives_count": "3",
            "sslmode": "verify-full",
            "sslrootcert": self.ssl_root_cert,
            "sslcert": self.ssl_cert,
            "sslkey": self.ssl_key,
        } | ({"dbname": database} if database else {})
        words |= {"options": f"-c{session}"} if session else {}
        return " ".join(f"{key}={value}" for key, value in words.items())


class Retention(Table):
    days: int = Field(default=30, ge=2, le=3650, description="Days back to any moment of which data can be brought.")


class Second(Table):
    repository: str = Field(default="", description="restic's location of the second repository; empty: none.")
    ca: str = Field(default="", description="CA file that its server is verified with; empty: the system's.")
    known_hosts: str = Field(default="", description="File with the host key that it must show over sftp.")


class Drill(Table):
    documents: int = Field(default=200, ge=1, description="Documents whose content a daily drill compares.")
    pool: str = Field(default="/run/haproxy/rag-pool.sock", description="Socket of the pool of inference hosts.")
    chroma: Path = Field(description="Folder of Chroma's packages.")
    language: Language = Field(default="english", description="Language of the full text.")
    inference: Inference = Field(description="The models, as the application has them.")


class Settings(Table):
    site: str = Field(min_length=1, description="The site's name.")
    release: str = Field(min_length=1, description="The release of the application that this host runs.")
    folder: Path = Field(default=Path("/var/lib/rag-backup"), description="Everything of the backups lies below it.")
    textfiles: Path = Field(
        default=Path("/var/lib/prometheus/node-exporter"), description="Where node_exporter reads figures from files."
    )
    wal_seconds: int = Field(default=20, ge=10, le=1800, description="Between two copies of the spool.")
    cluster: Cluster
    retention: Retention = Retention()
    second: Second = Second()
    drill: Drill

    @property
    def spool(self) -> Path:
        """What pg_receivewal writes."""
        return self.folder / "spool"

    @property
    def aside(self) -> Path:
        """What had to leave the spool; nobody deletes it but a person."""
        return self.folder / "aside"

    @property
    def staging(self) -> Path:
        """Where a base backup lies until the repository has it."""
        return self.folder / "base"

    @property
    def scratch(self) -> Path:
        """Where drills and restores work."""
        return self.folder / "scratch"

    @property
    def site_folder(self) -> Path:
        """The site's state, as the deploy put it."""
        return self.folder / "site"

    @property
    def pushed(self) -> Path:
        """Repositories that other hosts push into."""
        return self.folder / "pushed"

    @property
    def run(self) -> Path:
        """Nothing that must survive."""
        return self.folder / "run"

    @property
    def base_wanted(self) -> Path:
        """A base backup starts at once while this file is there; it says why, and whoever makes one takes it away."""
        return self.run / "base-wanted"

    @property
    def newest_base(self) -> Path:
        """Where the newest base backup begins: what `app.backup.spool.Base` reads; its maker writes it."""
        return self.run / "newest-base.json"

    @property
    def canaries(self) -> Path:
        """What primaries acknowledged, as `app.backup.canaries` has it; who takes the site back deletes it."""
        return self.run / "canaries.json"

    @property
    def second_keyed(self) -> Path:
        """The deploy's mark that the second repository has the offline key; who misses it there takes it away."""
        return self.folder / "repositories/.keyed-second"

    def repository(self, kind: Kind) -> Path:
        """A restic repository of our own."""
        return self.folder / "repositories" / kind


def load() -> Settings:
    """The settings from $RAG_BACKUP_CONFIG; raise ConfigurationError naming the first key that cannot be used."""
    path = Path(os.environ.get("RAG_BACKUP_CONFIG", FILE))
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"RAG_BACKUP_CONFIG = {path}; a readable file ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} = not TOML; {error}") from None
    except ValidationError as error:
        raise ConfigurationError(f"{first_problem(error)}; edit {path}") from None
