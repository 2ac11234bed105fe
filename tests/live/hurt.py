"""A scratch place on the backup host with repositories of its own, to be hurt, and programs that run there."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.live.fleet import Fleet

RELEASE = "/opt/rag/current"
SCRATCH = "/var/lib/rag-backup/scratch/repositories-hurt"
PRELUDE = f"""
import json, os, signal, subprocess, time
from datetime import date, timedelta
from pathlib import Path
HERE = Path("{SCRATCH}")
os.environ["CREDENTIALS_DIRECTORY"] = str(HERE / "credentials")
from app.backup import copying, keys, maintain, process, restic, retention, settings as known
from app.backup.restic import Repository, RepositoryError
PASSWORD = HERE / "credentials" / "repository-password"
SOURCE = HERE / "source"
settings = known.load().model_copy(update={{"folder": HERE, "textfiles": HERE / "figures"}})
def at(name, password=PASSWORD):
    return Repository(str(HERE / name), password)
def said(work):
    "Kind and line of what went wrong."
    try:
        return ["", repr(work())]
    except RepositoryError as error:
        return [error.kind, str(error)]
def pack_of(repository):
    packs = [path for path in (repository.local / "data").rglob("*") if path.is_file()]
    return max(packs, key=lambda one: one.stat().st_size)
def copy_of(name):
    subprocess.run(["rm", "-rf", HERE / name], check=True)
    subprocess.run(["cp", "-a", HERE / "whole", HERE / name], check=True)
    return at(name)
def figures(kind):
    lines = (HERE / "figures" / f"rag_backup_{{kind}}.prom").read_text().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
def served(*arguments):
    server = subprocess.Popen(
        ["restic-rest-server", "--listen", "127.0.0.1:8451", "--path", HERE / "served",
         "--append-only", "--no-auth", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        if subprocess.run(["bash", "-c", "</dev/tcp/127.0.0.1/8451"], stderr=subprocess.DEVNULL).returncode == 0:
            return server
        time.sleep(0.05)
    raise SystemExit("the server does not answer")
PUSHED = Repository("rest:http://127.0.0.1:8451/db1/etcd", PASSWORD)
"""
MADE = """
import secrets
for name in ("credentials", "figures", "source"):
    (HERE / name).mkdir(parents=True)
for name in ("repository-password", "drill-password", "wrong"):
    (HERE / "credentials" / name).write_text(secrets.token_urlsafe(32))
(SOURCE / "large").write_bytes(os.urandom(3_000_000))
(SOURCE / "small").write_text("small")
restic.init(at("whole"))
restic.backup(at("whole"), SOURCE, tags=["wal"])
print("null")
"""


class Place:
    """The scratch place on the backup host, and programs that run there as the backups do."""

    def __init__(self, fleet: Fleet, machine: str) -> None:
        self._words = ["ssh", "-F", str(fleet.ssh_config), machine]

    def run(self, program: str) -> Any:
        """What the program prints as JSON; its standard output before the last line is the journal's."""
        command = (
            f"cd {RELEASE} && sudo -u rag-backup env HOME=/var/lib/rag-backup PYTHONDONTWRITEBYTECODE=1 "
            f"PYTHONPATH={RELEASE}/lib:{RELEASE} python3 -"
        )
        done = subprocess.run(
            [*self._words, command],
            input=f"{PRELUDE}\n{program}",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1500:]
        return json.loads(done.stdout.splitlines()[-1])

    def clear(self) -> None:
        """Nothing is left of it."""
        subprocess.run([*self._words, f"sudo rm -rf {SCRATCH}"], check=True, timeout=60)


def placed(fleet: Fleet) -> Iterator[Place]:
    """With one whole repository; nothing is left of it afterwards."""
    made = Place(fleet, fleet.site.having("backup")[0].name)
    made.clear()
    made.run(MADE)
    yield made
    made.clear()
