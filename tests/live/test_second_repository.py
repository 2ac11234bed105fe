"""A second repository on another machine, by the deploy's own settings and units: copied to, fetched from, kept out."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventories import secrets
from inventories.escrow import offline_password
from inventories.settings import Site
from tasks import rebuild
from tasks.firewall import RULES
from tests.live.elsewhere import (
    FOLDER,
    HERE,
    REST,
    S3,
    SSH,
    USER,
    Elsewhere,
    copied,
    deployed_with,
    ids,
    is_kept_out,
    is_whole,
    lost,
)  # fmt: skip
from tests.live.fleet import Fleet, deploy
from tests.live.test_database import Run
from tests.live.test_recovery import well

pytestmark = [pytest.mark.lab, pytest.mark.recovery]


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
        f"tcp dport {{ {REST}, {SSH}, {S3} }} accept",
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
        made.forgets_swift()
        run(machine, f"nft -f {RULES}; userdel --remove {USER} 2>/dev/null; rm -rf {HERE} /var/tmp/{USER}")
        put_back = deploy(site.name)
        run(keeper, f"rm -f {FOLDER}/.keyed-second")
        assert put_back.rc == 0, put_back.said
        assert run(keeper, "ls /etc/rag /etc/credstore /etc/systemd/system | grep -c 'second-\\|rag-copy'; true") == "0"
        # Nothing of it is left to fail each night.
        assert "rag-copy" not in run(keeper, "systemctl list-units --all --no-legend 'rag-*'")
        assert run(keeper, "ls /var/lib/prometheus/node-exporter | grep -c copy; true") == "0"
        assert deploy(site.name).changed == {}


def comes_back(site: Site, run: Run, place: str) -> None:
    """What the backup host had of the site's state, fetched from there after its own repository is gone."""
    keeper = site.having("backup")[0].name
    before = ids(run, keeper)
    with lost(run, keeper):
        assert f"site: {len(before)} of {len(before)} snapshots came" in well(site, "fetch", "--from", place)
        assert ids(run, keeper) == before


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

    comes_back(site, run, place)

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

    comes_back(site, run, place)

    elsewhere.lets_in("# nobody's")
    is_kept_out(run, keeper, "); a user and a key that it lets in; make keep-secret", success)
    elsewhere.lets_in(public, host_key="other")
    is_kept_out(run, keeper, "Host key verification failed; the key of backup.second_repository_host_key", success)
    elsewhere.ends("ssh")
    is_kept_out(run, keeper, "Connection refused; a repository that answers", success)


def test_an_s3_server_behind_a_ca_of_its_own(elsewhere: Elsewhere, site: Site, run: Run, tmp_path: Path) -> None:
    keeper, password = site.having("backup")[0].name, "a-secret-of-the-tests"
    place = f"s3:https://{elsewhere.address}:{S3}/rag"
    elsewhere.stores(password)
    opens = {"AWS_ACCESS_KEY_ID": "rag:keeper", "AWS_SECRET_ACCESS_KEY": password}
    lines = "".join(f"{name}={value}\n" for name, value in opens.items())
    settings = f"second_repository={place!r}, second_repository_ca={elsewhere.ca!r}"
    given = {"second-repository-environment": lines}
    deployed_with(tmp_path / "site", keeper, settings, given)

    # Making it is its owner's.
    assert "; a bucket that is there; make it at that server" in copied(run, keeper)[0]
    elsewhere.makes_bucket(password)
    deployed_with(tmp_path / "site", keeper, settings, given)
    said, figures = copied(run, keeper)
    is_whole(figures)
    assert f"copied to {place}" in said
    success = figures["rag_backup_last_success_timestamp_seconds copy"]
    (tmp_path / "ca.crt").write_text(elsewhere.ca)
    with pytest.MonkeyPatch.context() as exported:
        key = offline_password(secrets.age_key_of("lab"))
        for name, value in (opens | {"RESTIC_CACERT": str(tmp_path / "ca.crt")}).items():
            exported.setenv(name, value)
        exported.setenv("AWS_SECRET_ACCESS_KEY", "no-secret-of-the-tests")
        exported.setattr(rebuild, "STATE_SECONDS", 15)
        with pytest.raises(rebuild.RefusedError, match="export AWS_ACCESS_KEY_ID"):
            rebuild.state_of("lab", f"{place}/site", key, tmp_path / "state")
        exported.setattr(rebuild, "STATE_SECONDS", 120)
        exported.setenv("AWS_SECRET_ACCESS_KEY", password)
        rebuild.state_of("lab", f"{place}/site", key, tmp_path / "state")
    assert json.loads((tmp_path / "state/state.json").read_text())["site"] == "lab"

    comes_back(site, run, place)

    elsewhere.stores("another-one")
    is_kept_out(run, keeper, "; a user and a password that it knows; make keep-secret", success)
    elsewhere.ends("s3-proxy")
    is_kept_out(run, keeper, "connection refused; a repository that answers", success)
