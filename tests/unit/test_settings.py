"""A site that cannot be deployed is refused before anything is touched, in one line that says what to do."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from inventories.settings import Application, Database, Inference, Machine, Model, SettingsError, Site, Ssh, Vip
from tests.unit.sites import KEY, ROOT

PYINFRA = Path(sys.executable).parent / "pyinfra"


def changed(site: Site, **values: Any) -> Site:
    return Site(**{name: getattr(site, name) for name in Site.model_fields} | values)


def without(site: Site, *names: str) -> tuple[Machine, ...]:
    return tuple(machine for machine in site.machines if machine.name not in names)


def box(name: str, last: int, *roles: Any) -> Machine:
    return Machine(name=name, address=IPv4Address(f"198.51.100.{last}"), roles=frozenset(roles))


REFUSED: dict[str, tuple[Callable[[Site], object], str]] = {
    "unknown setting": (
        lambda site: Database(memroy_mb=1),
        "database.memroy_mb = 1; no setting has this name; see docs/settings.md",
    ),
    "too little": (
        lambda site: Database(memory_mb=1),
        "database.memory_mb = 1; input should be greater than or equal to 256; see docs/settings.md",
    ),
    "too much": (
        lambda site: Application(cores=4096),
        "application.cores = 4096; input should be less than or equal to 128; see docs/settings.md",
    ),
    "missing value": (
        lambda site: Machine(name="db1"),
        "machine.address = (nothing); a value is needed; see docs/settings.md",
    ),
    "wrong kind": (
        lambda site: Machine(name="db1", address="db1.example.org"),
        "machine.address = 'db1.example.org'; input is not a valid IPv4 address; see docs/settings.md",
    ),
    "an address that is none": (
        lambda site: Machine(name="db1", address="198.51.100.300"),
        "machine.address = '198.51.100.300'; input is not a valid IPv4 address; see docs/settings.md",
    ),
    "a network with an address in it": (
        lambda site: changed(site, operators=("198.51.100.1/24",)),
        "site.operators.0 = '198.51.100.1/24'; a network is needed, as in 198.51.100.0/24; see docs/settings.md",
    ),
    "unknown role": (lambda site: box("db1", 9, "databse"), "machine.roles.0 = 'databse'; input should be 'etcd', "),
    "unusable host name": (lambda site: box("db_1", 9), "machine.name = 'db_1'; string should match pattern"),
    "model without a tag": (lambda site: Model(name="llama3"), "model.name = 'llama3'; string should match pattern"),
    "no checksum": (
        lambda site: Inference(archive_sha256="abc"),
        "inference.archive_sha256 = 'abc'; string should match pattern",
    ),
    "a private key": (
        lambda site: Ssh(authorized_keys=("-----BEGIN OPENSSH PRIVATE KEY-----",)),
        "authorized_keys = '-----BEGIN OPENSSH PRIVATE KEY-----'; a public key's line is needed, as in id_ed25519.pub",
    ),
    "half a key": (
        lambda site: Ssh(authorized_keys=(KEY, KEY.partition("=")[0][:60])),
        "a public key's line is needed",
    ),
    "a key under another type's name": (
        lambda site: Ssh(authorized_keys=(KEY.replace("ssh-ed25519", "ssh-rsa"),)),
        "a public key's line is needed",
    ),
    "a key that is a comment": (lambda site: Ssh(authorized_keys=(f"# {KEY}",)), "a public key's line is needed"),
    "two keys in one line": (lambda site: Ssh(authorized_keys=(f"{KEY}\n{KEY}",)), "a public key's line is needed"),
    "lease shorter than its retries": (
        lambda site: Database(ttl=20, loop_wait=10, retry_timeout=10),
        "ttl = 20; at least 2 * (loop_wait + retry_timeout) + 8 = 48 is needed; see docs/settings.md",
    ),
    "a name twice": (
        lambda site: changed(site, machines=(*site.machines, box("db1", 99))),
        "machines' name = db1; each machine needs its own; see docs/settings.md",
    ),
    "an address twice": (
        lambda site: changed(site, machines=(*site.machines, box("db9", 11))),
        "machines' address = 198.51.100.11; each machine needs its own; see docs/settings.md",
    ),
    "a VIP that a machine has": (
        lambda site: changed(site, vip=Vip(address=IPv4Address("198.51.100.21"))),
        "vip.address = 198.51.100.21; a free address is needed, this one is a machine's; see docs/settings.md",
    ),
    "two members of etcd": (
        lambda site: changed(site, machines=without(site, "db3")),
        "machines with role etcd = 2; one of [1, 3, 5] is needed; see docs/settings.md",
    ),
    "two that receive the log": (
        lambda site: changed(site, machines=(*site.machines, box("ops2", 42, "backup"))),
        "machines with role backup = 2; one at most, the log has one receiver; see docs/settings.md",
    ),
    "quorum of one": (
        lambda site: changed(
            site,
            machines=without(site, "db2", "db3"),
            database=Database(replication="quorum"),
        ),
        "database.replication = 'quorum'; two machines with role database at least are needed; see docs/settings.md",
    ),
    "fewer sessions than the program opens": (
        lambda site: changed(site, database=Database(max_connections=100)),
        "database.max_connections = 100; the application needs 341, or leave it out; see docs/settings.md",
    ),
    "two balancers without a VIP": (
        lambda site: changed(site, vip=None),
        "vip = (nothing); two balancers need an address that moves between them; see docs/settings.md",
    ),
    "nobody who answers": (
        lambda site: changed(site, machines=without(site, "gpu1", "gpu2")),
        "machines with role inference = 0; one at least is needed; see docs/settings.md",
    ),
    "nobody": (lambda site: changed(site, machines=()), "site.machines = (); tuple should have at least 1 item"),
    "nobody who may open the page": (
        lambda site: changed(site, users=()),
        "site.users = (); tuple should have at least 1 item",
    ),
    "a secret that was never made": (
        lambda site: site.secret("restic-password"),
        "secret restic-password = (nothing); every secret is needed; make secrets SITE=prod",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_setting_is_refused_in_one_line_that_names_it_its_value_the_need_and_the_help(
    case: str, prod: Site
) -> None:
    wrong, line = REFUSED[case]

    with pytest.raises(SettingsError) as refused:
        wrong(prod)

    assert line in str(refused.value)
    assert re.fullmatch(r"[^\n]+ = [^\n]+; [^\n]+; [^\n]+", str(refused.value))


def test_settings_that_differ_from_refused_ones_by_a_hair_are_taken(prod: Site) -> None:
    assert Database(memory_mb=256).memory_mb == 256
    assert Ssh(authorized_keys=(f'from="198.51.100.0/24" {KEY}', KEY.rpartition(" ")[0])).port == 22
    assert Database(ttl=48, loop_wait=10, retry_timeout=10).ttl == 48
    assert len(changed(prod, machines=without(prod, "db2", "db3")).having("etcd")) == 1
    assert changed(prod, machines=without(prod, "app2"), vip=None).entry == IPv4Address("198.51.100.21")


def test_nobody_changes_a_setting_on_the_way(prod: Site) -> None:
    with pytest.raises(ValueError, match="frozen"):
        prod.database.memory_mb = 1  # type: ignore[misc]


def test_workers_fill_the_cores_but_never_the_memory() -> None:
    assert Application(cores=8, memory_mb=8192).workers == 8
    assert Application(cores=8, memory_mb=1024).workers == 3
    assert Application(cores=1, memory_mb=1024).workers == 2


def checked(site: Path, safe: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "RAG_SECRETS_DIR": str(safe),
        "RAG_AGE_KEY": str(safe / "age-key"),
        "PYINFRA_PROGRESS": "off",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [str(PYINFRA), str(site), "debug-inventory"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("right", "wrong", "refusal"),
    [
        ("memory_mb=16384", "memroy_mb=16384", "database.memroy_mb = 16384; no setting has this name; see docs/"),
        ('"198.51.100.11"', '"198.51.100.300"', "machine.address = '198.51.100.300'; input is not a valid IPv4 addr"),
        ('"198.51.100.128/27"', '"198.51.100.129/27"', "site.operators.0 = '198.51.100.129/27'; a network is needed"),
    ],
)
def test_a_typo_in_a_site_file_ends_the_command_with_one_line_and_no_traceback(
    tmp_path: Path, safe: Path, right: str, wrong: str, refusal: str
) -> None:
    text = (ROOT / "inventories" / "prod").read_text()
    assert right in text
    (tmp_path / "prod").write_text(text.replace(right, wrong))

    done = checked(tmp_path / "prod", safe)

    said = [line for line in (done.stdout + done.stderr).splitlines() if refusal in line]
    assert done.returncode != 0
    assert len(said) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_the_inventory_is_shown_without_any_of_its_secrets(safe: Path, prod: Site) -> None:
    done = checked(ROOT / "inventories" / "prod", safe)

    shown = done.stdout + done.stderr
    assert done.returncode == 0
    assert "198.51.100.11" in shown
    assert len(prod.secrets) > 5
    for name, secret in prod.secrets.items():
        assert not any(line in shown for line in secret.get_secret_value().splitlines() if "----" not in line), name
