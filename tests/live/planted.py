"""Backups with something wrong in them, made on a backup host out of its own, in a folder beside them."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from inventories.settings import Machine
from tests.live.fleet import Fleet

FOLDER = "/var/lib/rag-backup"
CONFIG = "/etc/rag/backup.toml"

# Both run as rag-backup, with the release's own code.
COMMON = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from app.backup import continuity, recovered, restic
from app.backup.drill import backups, database
from app.backup.drill.place import free_port
from app.backup.process import Repository, run
from app.backup.settings import load

def opened(settings, kind):
    return Repository(str(settings.repository(kind)), Path(os.environ["CREDENTIALS_DIRECTORY"]) / "drill-password")

settings = load()
folder = Path(values["folder"])
shutil.rmtree(folder, ignore_errors=True)
(folder / "repositories").mkdir(parents=True, mode=0o700)
(folder / "textfiles").mkdir()
(folder / "scratch").mkdir(mode=0o700)
(folder / "run").mkdir()
shutil.copy(settings.canaries, folder / "run")
text = Path(os.environ["RAG_BACKUP_CONFIG"]).read_text()
(folder / "backup.toml").write_text(f'folder = "{folder}"\\ntextfiles = "{folder}/textfiles"\\n{text}')
"""

FLIPPED = """
base = restic.snapshots(opened(settings, "base"), tag="base")[-1]
for kind in ("base", "wal", "evidence"):
    shutil.copytree(settings.repository(kind), folder / "repositories" / kind)
copy = Repository(str(folder / "repositories/base"), opened(settings, "base").password_file)
pack, place = backups.stored(copy, base)
path = folder / "repositories/base/data" / pack[:2] / pack
print(json.dumps({"pack": str(path)}))
if values["flip"]:
    backups.flip(path, place)

"""

CHANGED = """
from app.backup.metrics import say
work = folder / "work"
sources = {kind: opened(settings, kind) for kind in ("base", "wal")}
bases, wals = (restic.snapshots(sources[kind], tag=kind) for kind in ("base", "wal"))
chosen = backups.Chosen(bases[-1], wals[-1])
backups.fetched(sources, chosen, wals, work / "base", work / "wal", print)
server = recovered.prepared(work / "base", work / "wal", port=free_port())
with recovered.running(server, 120):
    with database.connected(server) as cursor:
        for statement in values["statements"]:
            cursor.execute(statement)
    made = folder / "base/data"
    words = [str(server.programs / "pg_basebackup"), "-h", str(server.folder), "-p", str(server.port), "-U", "postgres"]
    words += ["-D", str(made), "-X", "stream", "-c", "fast", "--no-sync"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
spool = folder / "spool"
spool.mkdir()
for path in [path for path in (made / "pg_wal").iterdir() if path.is_file()]:
    path.rename(spool / path.name)
shutil.copy(work / "base/rag-manifest.json", folder / "base/rag-manifest.json")
shutil.rmtree(work)
for kind, what in (("base", folder / "base"), ("wal", spool), ("evidence", None)):
    target = Repository(str(folder / "repositories" / kind), sources["base"].password_file)
    restic.init(target)
    if what:
        restic.backup(target, what, tags=[kind])
shutil.rmtree(folder / "base")
print(json.dumps({}))
"""


@dataclass(frozen=True)
class Planted:
    """Where it lies, and what its maker told."""

    folder: str
    told: dict[str, Any]

    @property
    def config(self) -> str:
        return f"{self.folder}/backup.toml"


@dataclass(frozen=True)
class Keeper:
    """A backup host, and what runs there as its units do."""

    fleet: Fleet
    machine: Machine

    def run(self, words: str, *, config: str = CONFIG, stdin: str = "", options: str = "") -> tuple[int, str]:
        """Exit code and output of Python words run as the drill's unit runs them, without network."""
        release = self.fleet.ask(self.machine.name, "readlink -f /opt/rag/current")
        script = (
            "sudo systemd-run --quiet --pipe --wait --collect --uid=rag-backup -p PrivateNetwork=yes"
            f" -p LoadCredential=drill-password -p UMask=0077 -E PYTHONPATH={release}/lib:{release}"
            f" -E RAG_BACKUP_CONFIG={config} -E PYTHONDONTWRITEBYTECODE=1 -E LANG=C.UTF-8"
            f" {options} python3 {words} 2>&1"
        )
        done = subprocess.run(
            ["ssh", "-F", str(self.fleet.ssh_config), self.machine.name, script],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def plant(self, name: str, program: str, **values: object) -> Planted:
        """A backup with something wrong in it."""
        folder = f"{FOLDER}/scratch/{name}"
        values |= {"folder": folder}
        source = f"import json\nvalues = json.loads({json.dumps(values)!r})\n{COMMON}{program}"
        code, said = self.run("-", stdin=source)
        assert code == 0, said[-2000:]
        return Planted(folder, json.loads(said.strip().splitlines()[-1]))

    def drill(self, config: str = CONFIG, words: str = "") -> tuple[int, str]:
        """A drill with this configuration."""
        return self.run(f"-m app.backup drill {words}", config=config)

    def evidence(self, folder: str = FOLDER) -> dict[str, Any]:
        """The newest."""
        found: dict[str, Any] = json.loads(
            self.fleet.ask(self.machine.name, f'cat "$(ls -1 {folder}/drills/*.json | tail -n 1)"')
        )
        return found

    def remove(self, name: str) -> None:
        """A planted backup."""
        self.fleet.ask(self.machine.name, f"rm -rf {FOLDER}/scratch/{name}")
