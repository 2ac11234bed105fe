"""What recoveries in place wrote down on this host: when the site's history became another one."""

import json
from datetime import datetime

from app.backup.choice import Recoveries
from app.backup.settings import Settings


def recoveries_of(settings: Settings) -> Recoveries:
    """All of them; what lies beside the spool is written by whoever recovers."""
    try:
        told = json.loads((settings.folder / "recovery.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Recoveries()
    breaks = [(datetime.fromisoformat(before), datetime.fromisoformat(after)) for before, after in told["breaks"]]
    return Recoveries(tuple(breaks), datetime.fromisoformat(told["at"]))
