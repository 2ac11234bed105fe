"""The moment that a person goes back to, as typed and as shown."""

from datetime import UTC, datetime

from tasks.members import RefusedError

EXAMPLE = 'TO="2026-11-22 08:00"'


def moment_of(text: str, now: datetime) -> datetime | None:
    """What TO says, in this computer's time where it names no zone; none: the newest moment that there is."""
    if text == "latest":
        return None
    try:
        typed = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(f"TO = {text or '(nothing)'}; a moment or latest is needed; {EXAMPLE}") from None
    moment = typed if typed.tzinfo else typed.astimezone()
    if moment > now:
        raise RefusedError(f"TO = {text}; a moment that is over is needed, it is {shown(now)}; {EXAMPLE}")
    return moment


def shown(moment: datetime | None) -> str:
    """In UTC, and in this computer's own time where that is another."""
    if moment is None:
        return "the newest moment"
    own, everywhere = moment.astimezone(), moment.astimezone(UTC)
    utc = f"{everywhere:%Y-%m-%d %H:%M:%S} UTC"
    return utc if own.utcoffset() == everywhere.utcoffset() else f"{own:%Y-%m-%d %H:%M:%S %Z} ({utc})"


def stamp(now: datetime) -> str:
    """Part of the name under which something is moved aside."""
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
