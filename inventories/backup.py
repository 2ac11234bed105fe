"""What a site may want of its backups: how long they are kept, when each is made, where the second repository lies."""

import re
import ssl
from typing import Annotated, Self

from pydantic import Field, model_validator

from inventories.frozen import Frozen
from inventories.public_keys import KEY_TYPES, is_public_key

SECOND_KEY = "second-repository-key"
Schedule = Annotated[str, Field(pattern=r"^[A-Za-z0-9*:.,/~ -]{4,60}$")]
"""As systemd's OnCalendar= takes it; `systemd-analyze calendar` says what it means."""


class Backup(Frozen):
    """What the backup host keeps, and when it works."""

    retention_days: int = Field(
        default=30, ge=2, le=3650, description="days back to any moment of which the data can be brought"
    )
    wal_seconds: int = Field(
        default=20,
        ge=10,
        le=1800,
        description="between two copies of the received log into the repository; what is lost when the repository alone"
        " is left",
    )
    base_at: Schedule = Field(default="*-*-* 01:00", description="base backups, as systemd's OnCalendar= takes it")
    dump_at: Schedule = Field(default="Sun *-*-* 02:00", description="the logical copy, which another failure spares")
    maintain_at: Schedule = Field(
        default="*-*-* 03:00", description="what is too old goes, a seventh of the repositories is read through"
    )
    copy_at: Schedule = Field(default="*-*-* 04:00", description="the copy into the second repository")
    drill_at: Schedule = Field(default="*-*-* 05:00", description="the restore drill")
    weekly_drill_at: Schedule = Field(
        default="Sat *-*-* 06:00",
        description="the drill to a moment of the past, with every document and a planted fault",
    )
    drill_documents: int = Field(
        default=200, ge=1, description="documents whose content a daily drill compares; the weekly one compares all"
    )
    pushed_mb: int = Field(
        default=4096, ge=64, description="the most that other hosts may push into their repositories on a backup host"
    )
    second_repository: str = Field(
        default="",
        pattern=r"^\S*$",
        description="restic's location of a second repository, as in rest:https://nas.example.org/rag,"
        " sftp:rag@nas.example.org:/srv/rag or s3:https://s3.example.org/rag; users and keys come with"
        " `make keep-secret`; empty: none",
    )
    second_repository_ca: str = Field(
        default="",
        description="certificates of the CA that signed its server's, as PEM text; restic alone trusts it, and no"
        " other; empty: Debian's CAs",
    )
    second_repository_host_key: str = Field(
        default="", description="for sftp: the server's host key, the line of its /etc/ssh/ssh_host_ed25519_key.pub"
    )

    @model_validator(mode="after")
    def _second_is_elsewhere(self) -> Self:
        place = self.second_repository
        if re.search(r"//[^/@]*:[^/@]*@", place):
            shown = re.sub(r"//[^/@]*@", "//", place)
            raise ValueError(
                f"second_repository = {shown} with a password; an address alone; make keep-secret keeps it"
            )
        if place and not re.match(r"[a-z0-9]+:", place):
            raise ValueError(f"second_repository = {place}; an address that survives this host, as rest:https://… is")
        return self

    @model_validator(mode="after")
    def _server_is_known(self) -> Self:
        if self.second_repository_ca:
            if ":https://" not in self.second_repository:
                raise ValueError(
                    f"second_repository_ca = given; a second_repository with https:// is needed,"
                    f" not {self.second_repository!r}"
                )
            try:
                ssl.create_default_context(cadata=self.second_repository_ca)
            except (ValueError, ssl.SSLError):
                raise ValueError(
                    "second_repository_ca = no certificate; -----BEGIN CERTIFICATE----- … is needed"
                ) from None
            if "PRIVATE KEY" in self.second_repository_ca:
                raise ValueError("second_repository_ca = with a private key; certificates alone are needed")
        if self.over_sftp != bool(self.second_repository_host_key):
            raise ValueError(
                f"second_repository_host_key = {self.second_repository_host_key[:40]!r}; a second_repository that"
                f" begins with sftp: and this go together, not {self.second_repository!r}; ssh-keyscan shows the key"
            )
        key = self.second_repository_host_key
        if key and not (key.split(" ")[0] in KEY_TYPES and is_public_key(key)):
            raise ValueError(f"second_repository_host_key = {key[:40]!r}; a line ssh-ed25519 AAAA… is needed")
        return self

    @property
    def over_sftp(self) -> bool:
        """Whether ssh opens it, with a key of the site's own."""
        return self.second_repository.startswith("sftp:")
