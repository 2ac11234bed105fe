"""Certificates: names, rights, keys that never left their machine, and renewal by a deploy."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from inventories.certificates import FOLDER, LIFE, certificate_of, certificates
from inventories.settings import Machine, Site
from tasks.pki import authority_of, signed
from tests.live.fleet import deploy

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
