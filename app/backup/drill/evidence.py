"""What a drill proved: one JSON file, in a repository of its own and on this host, and figures for the alerts."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from app.backup import restic
from app.backup.drill.checks import Check
from app.backup.metrics import Figures
from app.backup.process import Repository
from app.backup.restic import Snapshot
from app.backup.settings import Settings

Kind = Literal["drill", "drill-weekly"]
KEPT = 400
FORMAT = 1


@dataclass
class Evidence:
    """Filled in as the drill goes on; what was not reached stays empty."""

    kind: Kind
    site: str
    began: datetime
    versions: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    recovered: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds from the beginning to the end of each."""
    rto_seconds: float | None = None
    """From the beginning to a write that was taken."""
    answer_seconds: float | None = None
    """From the beginning to the first answer of the application."""
    rpo_seconds: float | None = None
    """Age of the newest canary at the beginning: no older write can be lost."""
    canary: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    moment: str = ""
    checks: tuple[Check, ...] = ()
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        return bool(self.checks) and all(check.verdict == "pass" for check in self.checks)

    @property
    def wrong(self) -> list[Check]:
        """What did not pass, the first one first."""
        return [check for check in self.checks if check.verdict != "pass"]

    def note(self, name: str, snapshot: Snapshot) -> None:
        """Which snapshot was used."""
        age = (self.began - snapshot.at).total_seconds()
        self.snapshots[name] = {
            "id": snapshot.id,
            "at": snapshot.at.isoformat(),
            "age_seconds": round(age, 1),
            "bytes": snapshot.bytes,
        }

    def as_json(self) -> str:
        known = asdict(self) | {"began": self.began.isoformat(), "verdict": "pass" if self.well else "fail"}
        return json.dumps({"format": FORMAT, **known}, indent=1, default=str)


def kept(settings: Settings, repository: Repository, evidence: Evidence) -> Path:
    """Write the file and put all that are here into the repository; raise RepositoryError when it takes them not."""
    folder = settings.folder / "drills"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{evidence.began:%Y%m%dT%H%M%SZ}-{evidence.kind}.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(evidence.as_json())
    draft.replace(path)
    # The repository has the older ones.
    for old in sorted(folder.glob("*.json"))[:-KEPT]:
        old.unlink()
    restic.backup(repository, folder, tags=["evidence"])
    return path


def figures(evidence: Evidence) -> Figures:
    """For Prometheus; what was not reached has no figure, and its check says 0."""
    kind = ("kind", str(evidence.kind))
    times: Sequence[tuple[str, str, float | None]] = (
        ("rto", "From a drill's beginning to a write that was taken.", evidence.rto_seconds),
        ("rpo", "Age of the newest restored canary when the drill began.", evidence.rpo_seconds),
        ("answer", "From a drill's beginning to the restored application's first answer.", evidence.answer_seconds),
    )
    known = {
        f"rag_backup_drill_{name}_seconds": (says, {(kind,): value}) for name, says, value in times if value is not None
    }
    verdicts: Mapping[Any, float] = {
        (kind, ("check", check.name)): float(check.verdict == "pass") for check in evidence.checks
    }
    return {
        **known,
        "rag_backup_drill_check": ("1: the check of the last drill passed, 0: failed or not run.", verdicts),
    }
