"""One line on paper opens everything: the same password from it for ever, told once, kept on no machine."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from inventories import escrow, secrets
from inventories.settings import SettingsError, Site
from tests.unit.plans import plan
from tests.unit.sites import ROOT
from tests.unit.test_secrets import folder

__all__ = ["folder"]

# Made for this test, opens nothing. In two parts, so that no search for real ones stops here.
KEY = "AGE-SECRET-KEY-1" + "GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
PASSWORD = "2mNA9KgZx46sGVhfnyRlp01kxMsZd44315FSC5cWlas="


def test_a_backup_of_years_ago_opens_with_the_password_of_today() -> None:
    # Another derivation would lock everybody out of what is there.
    assert escrow.offline_password(KEY) == PASSWORD
    assert escrow.offline_password(f" {KEY.lower()}\n") == PASSWORD


@pytest.mark.parametrize("typed", ["", "AGE-SECRET-KEY-1", KEY[:-1], KEY.replace("GFPY", "GFPZ", 1), "hunter2"])
def test_a_line_with_a_slip_of_the_pen_is_refused_in_one_line_that_does_not_repeat_it(typed: str) -> None:
    with pytest.raises(
        ValueError, match=r"^age key = \d+ characters; the whole line AGE-SECRET-KEY-1… is needed"
    ) as no:
        escrow.offline_password(typed)

    assert len(typed) < 20 or typed not in str(no.value)


def test_it_needs_no_file_of_the_site(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inventories.escrow"],
        input=f"# public key: age1…\n{KEY}\n",
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{PASSWORD}\n", "")


def test_the_key_is_shown_to_a_person_once_and_to_no_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.main(["lab"])
    logged = capsys.readouterr().out
    assert "Write this line down" in logged
    assert secrets.age_key_of("lab") not in logged
    secrets.main(["lab"])
    assert "Write this line down" not in capsys.readouterr().out

    for path in (secrets.key_file_of("lab"), secrets.file_of("lab")):
        path.unlink()
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    secrets.main(["lab"])

    assert screen.getvalue().count(secrets.age_key_of("lab")) == 1


def test_no_machine_keeps_the_key_or_the_password(site: Site) -> None:
    key = secrets.age_key_of(site.name)
    for machine in site.machines:
        made = plan(site, machine)
        for path, file in made.files.items():
            assert key.encode() not in file.content, path
            assert escrow.offline_password(key).encode() not in file.content, path


def test_a_machine_cannot_tell_another_one_s_password_from_its_own() -> None:
    one, other = (escrow.push_password("secret", name) for name in ("db1", "db2"))

    assert one != other
    assert len(one) == 44


def test_the_second_repository_s_environment_is_lines_of_names_and_values(folder: Path) -> None:
    secrets.create("prod")
    name = "second-repository-environment"

    secrets.keep("prod", name, "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b c")
    assert secrets.secrets_of("prod")[name].get_secret_value().count("\n") == 1

    for wrong in ("", "AWS_ACCESS_KEY_ID", "export A=b", "A=b\n\nB=c"):
        with pytest.raises(SettingsError, match="KEY=VALUE"):
            secrets.keep("prod", name, wrong)


def test_the_key_for_the_second_repositorys_server_is_one_that_asks_for_nothing(folder: Path, tmp_path: Path) -> None:
    secrets.create("prod")
    name, words = "second-repository-key", ["ssh-keygen", "-q", "-t", "ed25519", "-f", str(tmp_path / "open")]
    subprocess.run([*words, "-N", ""], check=True)
    key = (tmp_path / "open").read_text()
    subprocess.run([*words[:-1], str(tmp_path / "locked"), "-N", "a phrase"], check=True)

    secrets.keep("prod", name, key.strip())
    assert secrets.secrets_of("prod")[name].get_secret_value() == key.strip()

    public = (tmp_path / "open.pub").read_text()
    for wrong in ("", key[:200], public, (tmp_path / "locked").read_text()):
        with pytest.raises(
            SettingsError, match="an OpenSSH private key without a passphrase is needed; ssh-keygen"
        ) as no:
            secrets.keep("prod", name, wrong)
        assert len(str(no.value).splitlines()) == 1
