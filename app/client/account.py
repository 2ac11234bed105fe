"""Who `rag` is on this computer: one platform and one secret, in a file that only its owner reads."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.client.client import Client


class NotSignedInError(Exception):
    """There is no secret to ask with."""


class Account(BaseModel):
    """What a sign-in left behind: whose API key it is, and its id."""

    model_config = ConfigDict(frozen=True)
    url: str
    secret: str
    ca: Path | None = None
    name: str | None = None
    key: str | None = None

    def client(self) -> Client:
        """The platform as this person."""
        return Client(self.url, self.secret, ca=self.ca)


def stored() -> Account:
    """Who the environment names (RAG_URL, RAG_KEY, RAG_CA), else who signed in last."""
    named = os.environ.get("RAG_URL"), os.environ.get("RAG_KEY")
    if named[0] and named[1]:
        ca = os.environ.get("RAG_CA")
        return Account(url=named[0], secret=named[1], ca=Path(ca) if ca else None)
    try:
        return Account.model_validate_json(_file().read_text())
    except (OSError, ValidationError):
        raise NotSignedInError(f"{_file()} = no sign-in; one; rag sign-in https://…") from None


def store(account: Account) -> Path:
    """Keep the account until the next sign-in; the file it is in."""
    file = _file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    # Closed to others before the secret is in it.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(account.model_dump_json(indent=1))
    draft.replace(file)
    return file


def forget() -> None:
    """Keep nothing."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "rag" / "account.json"
