"""Certificates: signed for the site's own names, renewed in time, refused when they are not this site's."""

import grp
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inventories import certificates
from inventories.certificates import LIFE, Certificate
from inventories.settings import Site
from tasks import pki
from tasks.pki import Authority, authority_of, certified, signed, still_good
from tests.unit.machines import Here

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WANTED = Certificate("patroni", "postgres", ("db1", "db1.rag.example.org"), ("198.51.100.11", "127.0.0.1"))


def request(*names: str, subject: str = "patroni") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def authority(prod: Site) -> Authority:
    return authority_of(prod, "authority")


def made(authority: Authority, wanted: Certificate = WANTED) -> str:
    return signed(wanted, "db1", request(), authority, NOW).decode()


def test_a_certificate_says_which_service_of_which_machine_it_is(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(made(authority).encode())

    assert certificate.subject.rfc4514_string() == "CN=db1,OU=patroni"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db1", "db1.rag.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("198.51.100.11"), IPv4Address("127.0.0.1")]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc - NOW == LIFE


def test_a_certificate_is_good_for_a_machine_whose_clock_is_a_little_late(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(made(authority).encode())

    assert certificate.not_valid_before_utc <= NOW - timedelta(minutes=5)


def test_names_that_a_machine_asks_for_are_not_given(authority: Authority) -> None:
    greedy = request("db2", "rag.example.org", subject="admin")

    certificate = x509.load_pem_x509_certificate(signed(WANTED, "db1", greedy, authority, NOW))

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == set(WANTED.names)
    assert "admin" not in certificate.subject.rfc4514_string()


def test_a_fresh_certificate_is_kept(authority: Authority) -> None:
    assert still_good(WANTED, made(authority), authority, NOW)


@pytest.mark.parametrize(
    "wanted",
    [
        replace(WANTED, names=(*WANTED.names, "rag.example.org")),
        replace(WANTED, names=WANTED.names[:1]),
        replace(WANTED, addresses=(*WANTED.addresses, "198.51.100.100")),
        replace(WANTED, addresses=("198.51.100.12", "127.0.0.1")),
    ],
)
def test_a_certificate_with_other_names_than_wanted_is_replaced(authority: Authority, wanted: Certificate) -> None:
    assert not still_good(wanted, made(authority), authority, NOW)


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(authority: Authority) -> None:
    pem = made(authority)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    third = certificate.not_valid_after_utc - (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 3

    assert still_good(WANTED, pem, authority, third - timedelta(seconds=1))
    assert not still_good(WANTED, pem, authority, third)
    assert not still_good(WANTED, pem, authority, NOW + LIFE)


def test_what_another_authority_signed_is_replaced(authority: Authority, prod: Site, edge: Site) -> None:
    assert not still_good(WANTED, made(authority_of(edge, "authority")), authority, NOW)
    assert not still_good(WANTED, made(authority_of(prod, "etcd-authority")), authority, NOW)
    assert not still_good(WANTED, None, authority, NOW)
    assert not still_good(WANTED, "", authority, NOW)


def test_no_key_shows_when_an_authority_is_printed(authority: Authority) -> None:
    assert f"{authority!r} {authority}" == "Authority() Authority()"


def test_every_machine_holds_the_certificates_of_its_roles_under_the_names_that_others_use(prod: Site) -> None:
    def held(name: str) -> dict[str, Certificate]:
        return {made.service: made for made in certificates.certificates(prod, prod.machine(name))}

    assert set(held("db1")) == {"node-exporter", "etcd", "push", "patroni", "patroni-etcd", "postgresql"}
    assert set(held("app1")) == {"node-exporter", "app", "proxy", "web"}
    assert set(held("gpu1")) == {"node-exporter", "proxy"}
    assert set(held("ops1")) == {"node-exporter", "backup", "monitoring", "proxy"}
    web = held("app1")["web"]
    assert "rag.example.org" in web.names
    assert "198.51.100.100" in web.addresses
    assert {"db1", "db1.rag.example.org"} <= set(held("db1")["postgresql"].names)


def test_only_etcd_and_patroni_hold_what_opens_etcd(site: Site) -> None:
    for machine in site.machines:
        opens = {held.service for held in certificates.certificates(site, machine) if held.signer == "etcd-authority"}
        assert opens <= {"etcd", "patroni-etcd"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    folder = tmp_path / "pki"
    folder.mkdir()
    monkeypatch.setattr(certificates, "FOLDER", str(folder))
    monkeypatch.setattr(pki, "FOLDER", str(folder))
    machine = Here(tmp_path)
    # Debian 12's openssl, which a controller may have, lacks a word that Debian 13's has: it only keeps it quiet.
    real = subprocess.run(["which", "openssl"], capture_output=True, text=True, check=True).stdout.strip()
    tool = tmp_path / "tools" / "openssl"
    tool.write_text(f'#!/bin/sh\nverb=$1; shift; [ "$1" = -quiet ] && shift\nexec {real} "$verb" "$@"\n')
    tool.chmod(0o755)
    return machine


def certify(here: Here, site: Site, wanted: Certificate) -> list[str]:
    authorities = {"authority": authority_of(site, "authority")}
    return here.deploy(certified, machine=site.machine("db1"), wanted=[wanted], authorities=authorities)


def test_a_machine_gets_a_key_of_its_own_and_a_certificate_that_openssl_believes(here: Here, prod: Site) -> None:
    wanted = replace(WANTED, group=grp.getgrgid(os.getgid()).gr_name)
    authority = here.folder / "ca.crt"
    authority.write_text(prod.secret("authority-certificate"))

    commands = certify(here, prod, wanted)

    verified = here.shell(f"openssl verify -x509_strict -verify_hostname db1 -CAfile {authority} {wanted.certificate}")
    assert verified.returncode == 0, verified.stderr
    assert Path(wanted.key).stat().st_mode & 0o777 == 0o640
    assert "PRIVATE KEY" in Path(wanted.key).read_text()
    assert not [command for command in commands if "PRIVATE KEY" in command]
    assert {path.name for path in Path(certificates.FOLDER).iterdir()} == {"patroni.key", "patroni.crt"}
    assert certify(here, prod, wanted) == []


def key_of_another(wanted: Certificate) -> None:
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", wanted.key],
        check=True,
        capture_output=True,
    )
    Path(wanted.key).chmod(0o640)


def key_for_everybody(wanted: Certificate) -> None:
    Path(wanted.key).chmod(0o644)


def no_key(wanted: Certificate) -> None:
    Path(wanted.key).unlink()


def no_certificate(wanted: Certificate) -> None:
    Path(wanted.certificate).write_text("")


@pytest.mark.parametrize("harm", [key_of_another, key_for_everybody, no_key, no_certificate])
def test_a_pair_that_does_not_fit_is_made_anew(here: Here, prod: Site, harm: object) -> None:
    wanted = replace(WANTED, group=grp.getgrgid(os.getgid()).gr_name)
    certify(here, prod, wanted)
    assert callable(harm)

    harm(wanted)

    assert certify(here, prod, wanted)
    assert certify(here, prod, wanted) == []
    assert Path(wanted.key).stat().st_mode & 0o777 == 0o640


def test_a_renewal_that_is_interrupted_leaves_a_pair_that_fits(here: Here, prod: Site) -> None:
    wanted = replace(WANTED, group=grp.getgrgid(os.getgid()).gr_name)
    certify(here, prod, wanted)
    longer = replace(wanted, names=(*wanted.names, "new.example.org"))
    authorities = {"authority": authority_of(prod, "authority")}

    here.deploy(
        certified, stop_before="set -e; mv", machine=prod.machine("db1"), wanted=[longer], authorities=authorities
    )

    assert certify(here, prod, wanted) == []
    assert certify(here, prod, longer)
