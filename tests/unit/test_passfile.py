"""PostgreSQL's programs get the password by a file that nobody else reads."""

import stat
from pathlib import Path

import pytest

from app.backup.passfile import passfile


def test_the_password_lies_in_a_file_of_this_user_alone_while_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backup-password").write_text("a:b\\c")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with passfile() as environment:
        file = Path(environment["PGPASSFILE"])
        assert file.read_text() == "*:*:*:*:a\\:b\\\\c\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not [value for value in environment.values() if "a:b" in value]

    assert not file.exists()
