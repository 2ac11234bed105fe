"""Files arrive on a machine whole, with their rights, and with no word of what is in them."""

import os
import time
from pathlib import Path

import pytest

from tasks.operations import put
from tasks.wants import File, Wants, credential
from tests.unit.machines import ME, MINE, Here, file


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_files_arrive_with_content_rights_and_the_time_of_arrival(here: Here, tmp_path: Path) -> None:
    before = time.time()
    files = [file(tmp_path / "etc/a b/one", "1\n", "600"), file(tmp_path / "two", "\0\xff", "755")]

    (command,) = put(files)
    done = here.shell(command.get_raw_value(), command.connector_arguments["_stdin"])

    assert done.returncode == 0, done.stderr
    for wanted in files:
        path = Path(wanted.path)
        assert path.read_bytes() == wanted.content
        assert f"{path.stat().st_mode & 0o7777:o} {path.owner()} {path.group()}" == f"{wanted.mode} {ME} {MINE}"
        assert path.stat().st_mtime >= before - 1
    # A folder that had to be made on the way can be entered by everybody, as Debian's can.
    assert (tmp_path / "etc/a b").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_belongs_to_its_owner_by_name(here: Here, tmp_path: Path) -> None:
    (command,) = put([File(str(tmp_path / "given"), b"", "600", "nobody", "nogroup")])

    here.shell(command.get_raw_value(), command.connector_arguments["_stdin"])

    assert (tmp_path / "given").owner() == "nobody"
    assert (tmp_path / "given").group() == "nogroup"


def test_no_secret_shows_where_a_command_or_a_wish_is_printed() -> None:
    secret = credential("password", "correct-horse")

    (command,) = put([secret])
    shown = f"{command} {command!r} {command.get_raw_value()} {secret!r} {Wants(files=(secret,))!r}"

    assert "correct-horse" not in shown
    assert "Y29ycmVjdC1ob3JzZ" not in shown
    assert (secret.mode, secret.owner) == ("600", "root")
