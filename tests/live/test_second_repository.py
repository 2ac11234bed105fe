"""A second repository on another machine, by the deploy's own settings and units: copied to, fetched from, kept out."""

import base64
import contextlib
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inventories import secrets
from inventories.escrow import offline_password
from inventories.settings import Site
from tasks import rebuild
from tasks.firewall import RULES
from tests.live.fleet import PYINFRA, ROOT, Fleet, deploy, environment
from tests.live.test_database import Run
from tests.live.test_recovery import well

pytestmark = [pytest.mark.lab, pytest.mark.recovery]

HERE, USER = "/run/rag-test-second", "rag-test-second"
FOLDER = "/var/lib/rag-backup/repositories"
REST, SSH = 8460, 2222
KINDS = {"wal", "base", "dump", "site", "evidence"}


@dataclass(frozen=True)
class Elsewhere:
    """A machine with a rest-server that only adds, behind a certificate of its own CA, and with an account for sftp."""

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


@pytest.fixture(scope="module")
def elsewhere(site: Site, run: Run, fleet: Fleet) -> Iterator[Elsewhere]:
    if not site.having("backup"):
        pytest.skip("the site has no backup host")
    keeper, machine = site.having("backup")[0], site.having("inference")[-1]
    made = Elsewhere(run, machine.name, str(machine.address))
    key = "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    run(
        machine,
        f"set -e; umask 077; mkdir -p {HERE}; chmod 755 {HERE}; cd {HERE}\n"
        f"useradd --home-dir /var/tmp/{USER} --create-home {USER}\n"
        f"{key} -out ca.key; openssl req -x509 -key ca.key -out ca.crt -days 2 -subj /CN=elsewhere\n"
        f"{key} -out server.key\n"
        f"openssl req -new -key server.key -subj /CN=nas -addext subjectAltName=IP:{machine.address}"
        " | openssl x509 -req -CA ca.crt -CAkey ca.key -days 2 -copy_extensions copy -out server.crt\n"
        "for name in host other; do ssh-keygen -q -t ed25519 -N '' -f $name; done\n"
        # The controller reads the site's state there, as a rebuild does.
        f"nft insert rule inet rag input ip saddr {{ {keeper.address}, {site.operators[0]} }} "
        f"tcp dport {{ {REST}, {SSH} }} accept",
    )
    ssh = f"ssh -F {fleet.ssh_config}"
    program = (
        f"{ssh} {keeper.name} cat /usr/bin/restic-rest-server | {ssh} {machine.name} 'sudo tee {HERE}/rest-server'"
    )
    subprocess.run(["bash", "-c", f"set -o pipefail; {program} > /dev/null"], check=True)
    run(machine, f"chmod 755 {HERE}/rest-server")
    try:
        yield made
    finally:
        for what in ("rest", "ssh"):
            made.ends(what)
        run(machine, f"nft -f {RULES}; userdel --remove {USER} 2>/dev/null; rm -rf {HERE} /var/tmp/{USER}")
        put_back = deploy(site.name)
        run(keeper, f"rm -f {FOLDER}/.keyed-second")
        assert put_back.rc == 0, put_back.said
        assert run(keeper, "ls /etc/rag /etc/credstore /etc/systemd/system | grep -c 'second-\\|rag-copy'; true") == "0"
        # Nothing of it is left to fail each night.
        assert "rag-copy" not in run(keeper, "systemctl list-units --all --no-legend 'rag-*'")
        assert run(keeper, "ls /var/lib/prometheus/node-exporter | grep -c copy; true") == "0"
        assert deploy(site.name).changed == {}


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
    assert {figures[f"rag_backup_copy_lag_seconds {kind}"] for kind in KINDS} == {0}
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


def test_a_rest_server_behind_a_ca_of_its_own(elsewhere: Elsewhere, site: Site, run: Run, tmp_path: Path) -> None:
    keeper, password = site.having("backup")[0].name, "a password: 50% & more"
    place = f"rest:https://{elsewhere.address}:{REST}/rag"
    elsewhere.serves(password)
    opens = f"RESTIC_REST_USERNAME=rag\nRESTIC_REST_PASSWORD={password}\n"
    settings = f"second_repository={place!r}, second_repository_ca={elsewhere.ca!r}"
    deployed_with(tmp_path / "site", keeper, settings, {"second-repository-environment": opens})

    said, figures = copied(run, keeper)
    is_whole(figures)
    assert f"copied to {place}" in said
    success = figures["rag_backup_last_success_timestamp_seconds copy"]
    # Whoever rebuilds has the line on paper, the server's CA and password, and no file of the site.
    (tmp_path / "ca.crt").write_text(elsewhere.ca)
    with pytest.MonkeyPatch.context() as exported:
        for name, value in (("USERNAME", "rag"), ("PASSWORD", password)):
            exported.setenv(f"RESTIC_REST_{name}", value)
        key = offline_password(secrets.age_key_of("lab"))
        exported.setattr(rebuild, "STATE_SECONDS", 5)
        with pytest.raises(rebuild.RefusedError, match="export RESTIC_CACERT=file"):
            rebuild.state_of("lab", f"{place}/site", key, tmp_path / "state")
        exported.setattr(rebuild, "STATE_SECONDS", 120)
        exported.setenv("RESTIC_CACERT", str(tmp_path / "ca.crt"))
        rebuild.state_of("lab", f"{place}/site", key, tmp_path / "state")
    assert json.loads((tmp_path / "state/state.json").read_text())["site"] == "lab"

    before = ids(run, keeper)
    with lost(run, keeper):
        told = well(site, "fetch", "--from", place)
        assert f"site: {len(before)} of {len(before)} snapshots came" in told
        assert ids(run, keeper) == before

    elsewhere.serves("another one")
    is_kept_out(run, keeper, "401 Unauthorized; a user and a password that it knows; make keep-secret", success)
    elsewhere.ends("rest")
    is_kept_out(run, keeper, "connection refused; a repository that answers", success)


def test_an_account_for_sftp(elsewhere: Elsewhere, site: Site, run: Run, tmp_path: Path) -> None:
    keeper = site.having("backup")[0].name
    place = f"sftp://{USER}@{elsewhere.address}:{SSH}//var/tmp/{USER}/sftp"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text()
    settings = f"second_repository={place!r}, second_repository_host_key={elsewhere.host_key!r}"
    given = {"second-repository-key": (tmp_path / "key").read_text()}

    # The server is away, and is no reason to stop a deploy.
    elsewhere.ends("ssh")
    said = deployed_with(tmp_path / "site", keeper, settings, given)
    assert "Connection refused" in said
    elsewhere.lets_in(public)
    deployed_with(tmp_path / "site", keeper, settings, given)
    said, figures = copied(run, keeper)
    is_whole(figures)
    success = figures["rag_backup_last_success_timestamp_seconds copy"]

    before = ids(run, keeper)
    with lost(run, keeper):
        assert f"site: {len(before)} of {len(before)} snapshots came" in well(site, "fetch", "--from", place)
        assert ids(run, keeper) == before

    elsewhere.lets_in("# nobody's")
    is_kept_out(run, keeper, "); a user and a key that it lets in; make keep-secret", success)
    elsewhere.lets_in(public, host_key="other")
    is_kept_out(run, keeper, "Host key verification failed; the key of backup.second_repository_host_key", success)
    elsewhere.ends("ssh")
    is_kept_out(run, keeper, "Connection refused; a repository that answers", success)
