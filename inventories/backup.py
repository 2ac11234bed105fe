"""What a site may want of its backups: how long they are kept, when each is made, where the second repository lies."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from inventories.frozen import Frozen

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
        pattern=r"^[^\s@]*$",
        description="restic's location of a second repository, as in s3:https://s3.example.org/rag; users and keys"
        " come with `make keep-secret`; empty: none",
    )

    @model_validator(mode="after")
    def _second_is_elsewhere(self) -> Self:
        if self.second_repository.startswith("/var/lib/rag-backup"):
            raise ValueError(
                f"second_repository = {self.second_repository}; a place that survives the backup host is needed"
            )
        return self
