"""Certificates: names, rights, keys that never left their machine, and renewal by a deploy."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from inventories.certificates import FOLDER, LIFE, certificate_of, certificates
from inventories.settings import Machine, Site
from tasks.pki import authority_of, signed
from tests.live.fleet import Fleet, deploy
from tests.live.test_database import PSQL, WRITE, WRITERS, leader
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]


def test_every_service_has_its_certificate_and_a_key_of_its_own(site: Site, run: Run) -> None:
    keys: list[str] = []
    for machine in site.machines:
        for wanted in certificates(site, machine):
            pem = run(machine, f"cat {wanted.certificate}; stat -c '%a %U %G' {wanted.key}; sha256sum < {wanted.key}")
            certificate = x509.load_pem_x509_certificate(pem.encode())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == list(dict.fromkeys(wanted.names))
            addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
            assert addresses == list(dict.fromkeys(wanted.addresses))
            certificate.verify_directly_issued_by(authority_of(site, wanted.signer).certificate)
            assert certificate.not_valid_after_utc > datetime.now(UTC) + LIFE / 3
            rights, key = pem.splitlines()[-2:]
            assert rights == f"640 root {wanted.group}"
            keys.append(key)
        # Nothing is left over: no request, no draft, no key of a role that the machine lost.
        files = {Path(path).name for wanted in certificates(site, machine) for path in (wanted.key, wanted.certificate)}
        assert set(run(machine, f"ls -A {FOLDER}").split()) == files | {"ca.crt", "etcd-ca.crt"}
    assert len(keys) == len(set(keys))


@pytest.mark.lab
def test_a_deploy_renews_what_has_a_third_of_its_life_left_and_its_reader_takes_it(site: Site, run: Run) -> None:
    # Given: a certificate that was signed two thirds of its life ago.
    machine = site.having("inference")[1]
    wanted = certificate_of(site, machine, "node-exporter")
    request = run(machine, f"openssl req -new -key {wanted.key} -subj /CN=x")
    then = datetime.now(UTC) - LIFE * 2 / 3 - timedelta(hours=1)
    old = signed(wanted, machine.name, request, authority_of(site, wanted.signer), then).decode()
    run(machine, f"cat > {wanted.certificate} <<'PEM'\n{old}PEM")
    others = run(machine, "sha256sum /etc/rag/pki/proxy.crt")
    process = run(machine, "systemctl show -P MainPID prometheus-node-exporter")

    # When
    done = deploy(site.name, "--limit", machine.name)

    # Then
    assert done.rc == 0, done.said
    assert set(done.changed) == {"PKI | Certify every service", "node_exporter | Serve the machine's figures"}
    now = x509.load_pem_x509_certificate(run(machine, f"cat {wanted.certificate}").encode())
    assert now.not_valid_before_utc > datetime.now(UTC) - timedelta(hours=1)
    assert run(machine, "sha256sum /etc/rag/pki/proxy.crt") == others
    assert run(machine, "systemctl show -P MainPID prometheus-node-exporter") != process


@pytest.mark.lab
def test_a_deploy_renews_the_databases_certificates_while_they_take_writes(
    site: Site, run: Run, fleet: Fleet, measured: Callable[[str], None]
) -> None:
    # Given: certificates on every database machine that were signed two thirds of their life ago, and a writer.
    members = site.having("database")
    then = datetime.now(UTC) - LIFE * 2 / 3 - timedelta(hours=1)
    for machine in members:
        for service in ("etcd", "patroni", "patroni-etcd", "postgresql"):
            wanted = certificate_of(site, machine, service)
            request = run(machine, f"openssl req -new -key {wanted.key} -subj /CN=x")
            old = signed(wanted, machine.name, request, authority_of(site, wanted.signer), then).decode()
            run(machine, f"cat > {wanted.certificate} <<'PEM'\n{old}PEM")
    processes = "systemctl show -P MainPID patroni etcd; head -1 /var/lib/postgresql/*/rag/postmaster.pid"
    before = {machine.name: run(machine, processes) for machine in members}

    # When
    with ThreadPoolExecutor(1) as pool:
        hosts = ",".join(machine.name for machine in members)
        writing = pool.submit(fleet.python, site.having("app")[0].name, WRITE, hosts=hosts, after=0, most=40)
        until(lambda: "1" in run(leader(site, run), f'{PSQL}"{WRITERS}"'), "the writer")
        done = deploy(site.name, "--limit", "database")
        said = writing.result()

    # Then
    assert done.rc == 0, done.said
    assert set(done.changed) == {"PKI | Certify every service", "Database | Run PostgreSQL under Patroni"}
    assert {machine.name: run(machine, processes) for machine in members} == before
    assert said["failed"] == 0
    measured(f"certificates of the databases renewed: {said['gap']:.2f} s at most without an accepted write")
    for machine in members:
        for port, start in ((5432, "-starttls postgres"), (8008, ""), (2379, "")):
            shown = run(
                machine,
                f"openssl s_client -connect {machine.name}:{port} {start} </dev/null 2>/dev/null | openssl x509; true",
            )
            served = x509.load_pem_x509_certificate(shown.encode())
            assert served.not_valid_before_utc > datetime.now(UTC) - timedelta(hours=1), f"{machine.name}:{port}"
