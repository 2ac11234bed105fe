"""A release is named by its content: another byte, another name; the same checkout, the same archive."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from inventories.settings import Machine, Site
from tasks import release
from tasks.apt import GUARD, Installed
from tasks.archives import unpacked
from tasks.packages import packages_of
from tasks.release import Release
from tests.unit.machines import Here
from tests.unit.sites import ROLES


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The tool is the real checkout's.
    monkeypatch.setenv("UV", release._uv())
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "FOLDER", tmp_path / "build")
    (tmp_path / "lock.txt").write_text("x==1\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("print(1)\n")
    return tmp_path


def made(checkout: Path) -> Release:
    """As a new run sees it: within one run the name is computed once."""
    return Release("app", checkout / "lock.txt", (checkout / "app",))


@pytest.mark.parametrize("path", ["lock.txt", "app/main.py"])
def test_a_changed_byte_gives_another_release(checkout: Path, path: str) -> None:
    before = made(checkout).id

    (checkout / path).write_text("x==2\n")

    assert made(checkout).id != before


def test_a_renamed_and_an_added_file_give_another_release(checkout: Path) -> None:
    ids = {made(checkout).id}

    (checkout / "app/main.py").rename(checkout / "app/other.py")
    ids.add(made(checkout).id)
    (checkout / "app/empty.txt").touch()
    ids.add(made(checkout).id)

    assert len(ids) == 3


def test_another_python_on_the_hosts_gives_another_release(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(checkout).id

    monkeypatch.setattr(release, "HOST_PYTHON", "3.14")

    assert made(checkout).id != before


def test_what_a_run_leaves_behind_does_not_change_the_release(checkout: Path) -> None:
    before = made(checkout).id

    for folder in release.IGNORED:
        (checkout / "app" / folder).mkdir()
        (checkout / "app" / folder / "main.pyc").write_bytes(b"1")
    (checkout / "app/main.py").touch()
    (checkout / "app/main.py").chmod(0o600)

    assert made(checkout).id == before


def test_the_same_content_packs_into_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("one", ("a", "b", "c")), ("two", ("c", "b", "a"))):
        for file in order:
            path = tmp_path / name / "lib" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
        (tmp_path / name / "lib/a").chmod(0o744 if name == "one" else 0o755)
        (tmp_path / name / "lib/b").chmod(0o600 if name == "one" else 0o664)
        release._pack(tmp_path / name, tmp_path / f"{name}.tar.zst")

    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()
    subprocess.run(["zstd", "-q", "-d", tmp_path / "one.tar.zst"], check=True)
    with tarfile.open(tmp_path / "one.tar") as tar:
        entries = {entry.name: (f"{entry.mode:o}", entry.uname, entry.mtime) for entry in tar}
    assert entries == {
        "lib": ("755", "root", 0),
        "lib/a": ("755", "root", 0),
        "lib/b": ("644", "root", 0),
        "lib/c": ("644", "root", 0),
    }
    assert not [*tmp_path.glob("*.part")]


def test_a_build_that_fails_says_so_in_one_line_and_leaves_no_archive(checkout: Path) -> None:
    (checkout / "lock.txt").write_text("this is no lock\n")

    with pytest.raises(release.PyinfraError, match=r"release app = not built; uv says: .*; make release") as refused:
        release.built(made(checkout))

    assert "\n" not in str(refused.value)
    assert not [*(checkout / "build").glob("*.tar.zst")]


def test_a_machine_gets_the_packages_of_its_roles_each_once() -> None:
    every = set(packages_of(Machine(name="a", address="192.0.2.1")))
    database = packages_of(Machine(name="a", address="192.0.2.1", roles=frozenset({"database"})))
    both = packages_of(Machine(name="a", address="192.0.2.1", roles=ROLES))

    assert {"chrony", "nftables", "unattended-upgrades"} <= every
    assert set(database) - every == {"patroni", "postgresql-17", "python3-etcd"}
    assert both == sorted(set(both))
    assert set(both) > set(database) | {"haproxy", "keepalived", "etcd-server"}


def test_packages_are_told_installed_only_when_dpkg_says_so(tmp_path: Path) -> None:
    here = Here(tmp_path)
    dpkg = tmp_path / "tools" / "dpkg-query"
    dpkg.write_text("#!/bin/sh\nprintf 'a installed\\nb half-configured\\nc not-installed\\n'; exit 1\n")
    dpkg.chmod(0o755)
    (tmp_path / "dpkg/updates").mkdir(parents=True)
    status = tmp_path / "dpkg/status"
    status.write_text("Package: a\nStatus: install ok installed\n")

    def found() -> set[str]:
        asked = Installed().command(packages=["a", "b", "c", "d"]).replace("/var/lib/dpkg", f"{tmp_path}/dpkg")
        done = here.shell(asked.replace(GUARD, f"{tmp_path}/guard"))
        assert done.returncode == 0
        return Installed().process(done.stdout.splitlines())

    assert found() == {"a"}

    # An interrupted APT run waits to be finished: nothing counts until it is.
    status.write_text("Package: b\nStatus: install ok half-configured\n")
    assert found() == set()
    status.write_text("")
    (tmp_path / "dpkg/updates/0001").touch()
    assert found() == set()
    (tmp_path / "dpkg/updates/0001").unlink()
    assert found() == {"a"}
    (tmp_path / "guard").write_text("#!/bin/sh\n# A policy of the machine's own.\n")
    assert found() == {"a"}
    (tmp_path / "guard").write_text("#!/bin/sh\n# Written by tasks/apt.py for the time of one APT run.\n")
    assert found() == set()


def test_a_release_that_is_still_on_the_machine_is_taken_into_use_without_being_built(
    tmp_path: Path, prod: Site
) -> None:
    here = Here(tmp_path)
    folder = tmp_path / "rag"
    for number, name in enumerate(("gone", "older", "before", "now")):
        made = folder / "releases" / name
        made.mkdir(parents=True)
        (made / ".whole").touch()
        os.utime(made, (number, number))
    (folder / "current").symlink_to("releases/now")

    def built() -> Path:
        raise AssertionError("built, though the machine has it")

    def deployed() -> list[str]:
        return here.deploy(
            unpacked, folder=str(folder), release="before", archive=built, ssh=prod.ssh, machine=prod.machine("app1")
        )

    assert deployed()
    assert (folder / "current").readlink() == Path("releases/before")
    # The one that is left is the way forward again, and one more is kept.
    assert {path.name for path in (folder / "releases").iterdir()} == {"before", "now", "older"}
    assert not deployed()
