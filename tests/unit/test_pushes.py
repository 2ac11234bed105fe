"""What etcd hosts push: looked into before, read after, said in one line and in figures that survive a failure."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.backup import metrics
from inventories.escrow import push_password
from inventories.settings import Site
from tests.unit.backups import settings_in
from tests.unit.plans import plan
from tests.unit.sites import ROOT

PROGRAM = ROOT / "templates/pushes/etcd_snapshot.py"
STATUS = {"hash": 1, "revision": 7, "totalKey": 3, "totalSize": 4096}
SUMMARY = {"message_type": "summary", "total_files_processed": 1, "snapshot_id": "9f4eb943aa"}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with an etcdctl and a restic that say what they are told to, and a certificate."""
    for name in ("bin", "run"):
        (tmp_path / name).mkdir()
    for name in ("push.crt", "push.key", "password"):
        (tmp_path / name).write_text(f"{name}\n")
    return tmp_path


def pushed(machine: Path, *, status: object = STATUS, summary: object = SUMMARY, code: int = 0) -> tuple[int, str]:
    """Exit code and last line."""
    programs = {
        "etcdctl": f"case \"$*\" in *status*) echo '{json.dumps(status)}';; esac",
        "restic": f"echo \"$@\" > {machine}/asked; echo '{json.dumps(summary)}'; echo 507 full >&2; exit {code}",
    }
    for name, does in programs.items():
        (machine / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (machine / "bin" / name).chmod(0o755)
    words = {
        "machine": "db1",
        "endpoint": "https://db1:2379",
        "authority": "ca",
        "textfile": str(machine / "rag_backup_etcd.prom"),
        "certificate": str(machine / "push.crt"),
        "key": str(machine / "push.key"),
        "password": str(machine / "password"),
        "etcd-authority": "ca",
        "etcd-certificate": "crt",
        "etcd-key": "key",
    }
    arguments = [part for name, value in words.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments, "rest:https://ops1:8448/db1/etcd"],
        env={"PATH": f"{machine}/bin:{os.environ['PATH']}", "RUNTIME_DIRECTORY": str(machine / "run")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout


def figures(machine: Path) -> dict[str, str]:
    return dict(
        re.findall(r'^(\w+)\{kind="etcd"\} (\S+)$', (machine / "rag_backup_etcd.prom").read_text(), re.MULTILINE)
    )


def test_a_push_says_what_it_pushed_and_shows_its_certificate_and_no_password(machine: Path) -> None:
    code, said = pushed(machine)

    assert code == 0
    assert "3 keys, 4096 bytes at revision 7, snapshot 9f4eb943" in said
    assert figures(machine)["rag_backup_last_result"] == "1.0"
    asked = (machine / "asked").read_text()
    assert f"--password-file {machine}/password" in asked
    assert (machine / "run/push.pem").read_text() == "push.crt\npush.key\n"
    assert (machine / "run/push.pem").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    ("says", "needed"),
    [
        ({"status": {"totalKey": 0, "totalSize": 0, "revision": 1}}, "snapshot = no keys"),
        ({"code": 1}, "exit 1, 507 full"),
        ({"summary": {"message_type": "summary", "total_files_processed": 0}}, "no snapshot taken"),
        ({"summary": {"message_type": "status"}}, "no snapshot taken"),
    ],
)
def test_what_pushed_nothing_is_a_failure_and_the_last_success_stays(
    machine: Path, says: dict[str, Any], needed: str
) -> None:
    pushed(machine)
    success = figures(machine)[metrics.SUCCESS]

    code, said = pushed(machine, **says)

    assert code == 1
    assert needed in said
    assert said.count("\n") == 1
    assert (figures(machine)["rag_backup_last_result"], figures(machine)[metrics.SUCCESS]) == ("0.0", success)


def test_a_machine_that_is_both_explains_its_figures_in_the_same_words(machine: Path) -> None:
    pushed(machine)
    (machine / "backup-host").mkdir()
    metrics.publish(settings_in(machine / "backup-host"), "base", well=True, seconds=1)

    def explained(path: Path) -> set[str]:
        return set(re.findall(r"^# HELP (.*)$", path.read_text(), re.MULTILINE))

    assert explained(machine / "rag_backup_etcd.prom") == explained(machine / "backup-host/rag_backup_base.prom")


def test_each_etcd_host_pushes_into_its_own_folder_with_a_key_that_opens_no_other(prod: Site) -> None:
    one, two = (plan(prod, machine).files for machine in prod.having("etcd")[:2])

    unit = one["/etc/systemd/system/rag-etcd-snapshot.service"].content.decode()
    assert "TimeoutStartSec=15min" in unit.splitlines()
    name = prod.having("etcd")[0].name
    targets = re.findall(r"rest:https://(\w+):8448/(\w+)/etcd", unit)
    assert targets == [(target.name, name) for target in prod.having("backup")]
    held = [files["/etc/credstore/push-password"] for files in (one, two)]
    assert held[0].content != held[1].content
    assert held[0].content.decode() == push_password(prod.secret("push-password"), name)
    assert (held[0].mode, held[0].owner) == ("600", "root")
