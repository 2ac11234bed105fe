"""Another machine with places for a second repository, and a backup host that is told of them."""

import base64
import contextlib
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inventories import secrets
from tests.live.fleet import PYINFRA, ROOT, environment
from tests.live.test_database import Run

HERE, USER = "/run/rag-test-second", "rag-test-second"
FOLDER = "/var/lib/rag-backup/repositories"
REST, SSH, S3 = 8460, 2222, 8470
KINDS = {"wal", "base", "dump", "site", "evidence"}


@dataclass(frozen=True)
class Elsewhere:
    """A machine with a rest-server that only adds, an S3 server, both of a CA of its own, and an account for sftp."""

    run: Run
    name: str
    address: str

    def serves(self, password: str) -> None:
        """From now on the rest-server takes that password."""
        digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
        self.run(self.name, f"cat > {HERE}/users <<'END'\nrag:{{SHA}}{digest}\nEND")
        served = f"--path /var/tmp/{USER} --private-repos --append-only --htpasswd-file {HERE}/users"
        tls = f"--tls --tls-cert {HERE}/server.crt --tls-key {HERE}/server.key"
        self._unit("rest", f"{HERE}/rest-server --listen :{REST} {served} {tls}", REST)

    def lets_in(self, public: str, host_key: str = "host") -> None:
        """From now on sshd lets that key in, and shows that host key."""
        lines = [f"Port {SSH}", f"HostKey {HERE}/{host_key}", f"AuthorizedKeysFile {HERE}/authorized", "StrictModes no"]
        lines += [
            "UsePAM yes",
            "PasswordAuthentication no",
            "Subsystem sftp internal-sftp",
            "PidFile none",
            f"Banner {HERE}/banner",
        ]
        self.run(self.name, f"echo 'Whoever comes in here is watched.' > {HERE}/banner")
        self.run(self.name, f"cat > {HERE}/sshd_config <<'END'\n{chr(10).join(lines)}\nEND")
        self.run(self.name, f"cat > {HERE}/authorized <<'END'\nrestrict,command=\"internal-sftp\" {public}\nEND")
        self._unit("ssh", f"/usr/sbin/sshd -D -f {HERE}/sshd_config", SSH)

    def stores(self, password: str) -> None:
        """From now on Swift takes that password from its user rag:keeper, over S3; what it stores is in memory."""
        given = f"here={HERE} port={S3} password={password}\n"
        self.run(self.name, given + Path(__file__).with_name("swift.sh").read_text())
        self._unit("s3-cache", "memcached -u memcache -l 127.0.0.1", 11211)
        for part, port in (("object", 6200), ("container", 6201), ("account", 6202), ("proxy", S3)):
            self._unit(f"s3-{part}", f"swift-{part}-server /etc/swift/{part}-server.conf", port)

    def makes_bucket(self, password: str) -> None:
        """The bucket rag, which its owner makes by Swift's own interface."""
        self.run(
            self.name,
            f"cd {HERE}; curl -sS --fail --cacert ca.crt -D told -o /dev/null -H 'X-Auth-User: rag:keeper' "
            f"-H 'X-Auth-Key: {password}' https://{self.address}:{S3}/auth/v1.0; tr -d '\\r' < told > said\n"
            'curl -sS --fail --cacert ca.crt -X PUT -H "$(grep -i ^x-auth-token: said)" '
            "\"$(grep -i ^x-storage-url: said | cut -d' ' -f2)/rag\"; rm told said",
        )

    def forgets_swift(self) -> None:
        """Its packages and settings are gone."""
        for part in ("proxy", "object", "container", "account", "cache"):
            self.ends(f"s3-{part}")
        packages = "swift-proxy swift-account swift-container swift-object memcached"
        self.run(
            self.name,
            f"test ! -e /etc/swift || apt-get purge --yes --quiet=2 --auto-remove {packages} > /dev/null; "
            "rm -rf /etc/swift",
        )

    def ends(self, what: str) -> None:
        self.run(self.name, f"systemctl stop rag-test-{what} 2>/dev/null || true")

    def _unit(self, what: str, command: str, port: int) -> None:
        self.ends(what)
        waits = f"for _ in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && exit 0; sleep 0.1; done; exit 1"
        self.run(self.name, f"systemd-run --quiet --collect --unit=rag-test-{what} {command}; {waits}")

    @property
    def ca(self) -> str:
        return self.run(self.name, f"cat {HERE}/ca.crt") + "\n"

    @property
    def host_key(self) -> str:
        return self.run(self.name, f"cat {HERE}/host.pub")


def deployed_with(folder: Path, keeper: str, backup: str, given: dict[str, str]) -> str:
    """The lab's backup host by the lab's own file with these settings, and secrets beside its own; what was said."""
    known = (ROOT / "inventories/lab").read_text()
    changed = known.replace("import Application, ", "import Application, Backup, ").replace(
        "    application=", f"    backup=Backup({backup}),\n    application="
    )
    folder.mkdir(exist_ok=True)
    (folder / "lab").write_text(changed)
    own = secrets.file_of("lab")
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "secrets/lab.age").write_bytes(own.read_bytes())
    variables = environment() | {"RAG_SECRETS_DIR": str(folder / "secrets")}
    for name, value in given.items():
        keeps = [PYINFRA.with_name("python"), "-m", "inventories.secrets", "--keep", "lab", name]
        subprocess.run(keeps, cwd=ROOT, env=variables, input=value, text=True, check=True, capture_output=True)
    words = [str(PYINFRA), "-y", "--limit", keeper, str(folder / "lab"), "deploy.py"]
    done = subprocess.run(
        words, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr + done.stdout


def copied(run: Run, keeper: str) -> tuple[str, dict[str, float]]:
    """The last line of a copy, and its figures."""
    said = run(keeper, "systemctl start rag-copy; journalctl -u rag-copy -o cat -n 1 _COMM=python3; true")
    text = run(keeper, "cat /var/lib/prometheus/node-exporter/rag_backup_copy.prom")
    found = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return said, {re.sub(r"\{(?:kind|repository)=\"(\w+)\"\}", r" \1", name): float(value) for name, value in found}


def is_whole(figures: dict[str, float]) -> None:
    assert figures["rag_backup_last_result copy"] == 1
    # Of the others there may be no snapshot yet.
    for kind in ("wal", "base", "site"):
        assert figures[f"rag_backup_copy_newest_timestamp_seconds {kind}"] > 0
    assert all(figures[f"rag_backup_copy_read_timestamp_seconds {kind}"] > 0 for kind in KINDS)
    assert {figures[f"rag_backup_copy_keys {kind}"] for kind in KINDS} == {2}


def is_kept_out(run: Run, keeper: str, line: str, success: float) -> None:
    said, figures = copied(run, keeper)
    assert line in said
    assert figures["rag_backup_last_result copy"] == 0
    assert figures["rag_backup_last_success_timestamp_seconds copy"] == success


def ids(run: Run, keeper: str) -> set[str]:
    """Of the snapshots of the site's state, as they were first taken."""
    restic = f"restic -r {FOLDER}/site --password-file /etc/credstore/repository-password --no-cache --no-lock --json"
    return {one.get("original", one["id"]) for one in json.loads(run(keeper, f"{restic} snapshots"))}


@contextlib.contextmanager
def lost(run: Run, keeper: str) -> Iterator[None]:
    """The repository of the site's state is away; whatever comes in its place goes again."""
    run(keeper, f"systemctl stop rag-backup.timer rag-backup; mv {FOLDER}/site {FOLDER}/../run/site-of-before")
    try:
        yield
    finally:
        run(
            keeper,
            f"rm -rf {FOLDER}/site; mv {FOLDER}/../run/site-of-before {FOLDER}/site; systemctl start rag-backup.timer",
        )
