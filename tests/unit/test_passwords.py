"""Who has no password cannot be told, by what a guess costs, from who has one."""

import pytest
from pwdlib import PasswordHash

from app.store import passwords


@pytest.mark.parametrize("kept", [None, passwords.NONE])
@pytest.mark.parametrize("guess", ["", "!", "a guess"])
def test_a_guess_is_hashed_also_where_no_password_is(
    monkeypatch: pytest.MonkeyPatch, kept: str | None, guess: str
) -> None:
    asked: list[str] = []
    really = PasswordHash.verify_and_update

    def counted(self: PasswordHash, password: str, against: str) -> tuple[bool, str | None]:
        asked.append(against)
        return really(self, password, against)

    monkeypatch.setattr(PasswordHash, "verify_and_update", counted)

    assert passwords.check(kept, guess) == passwords.Verdict(fits=False)
    assert [one.partition("v=")[0] for one in asked] == ["$argon2id$"]
