"""Certificates: signed for the site's names alone, and good until a third of their life is left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inventories.certificates import LIFE, certificate_of
from inventories.secrets import _authority_certificate, _authority_key
from inventories.settings import Site
from tasks.pki import Authority, signed, still_good

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def authority() -> Authority:
    key = _authority_key()
    loaded = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(_authority_certificate("x", "authority", key).encode()), loaded)


def request(name: str = "anything") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    names = x509.SubjectAlternativeName([x509.DNSName("evil.example.org")])
    signed_request = made.add_extension(names, critical=False).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return signed_request.public_bytes(serialization.Encoding.PEM).decode()


def test_names_come_from_the_site_and_never_from_the_request(prod: Site) -> None:
    site = prod
    wanted = certificate_of(site, site.machine("app1"), "web")

    certificate = x509.load_pem_x509_certificate(signed(wanted, "app1", request("evil"), authority(), NOW))

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(wanted.names)
    assert site.domain in wanted.names
    assert certificate.subject.rfc4514_string() == "CN=app1,OU=web"


@pytest.mark.parametrize(
    ("left", "good"), [(LIFE / 3 + timedelta(hours=1), True), (LIFE / 3 - timedelta(hours=1), False)]
)
def test_a_certificate_is_good_until_a_third_of_its_life_is_left(left: timedelta, good: bool, prod: Site) -> None:
    site, ca = prod, authority()
    wanted = certificate_of(site, site.machine("db1"), "postgresql")
    pem = signed(wanted, "db1", request(), ca, NOW).decode()

    assert still_good(wanted, pem, ca, NOW + LIFE - left) is good


def test_another_ca_s_certificate_and_a_missing_name_are_not_good(prod: Site) -> None:
    site, ca = prod, authority()
    wanted = certificate_of(site, site.machine("db1"), "postgresql")
    pem = signed(wanted, "db1", request(), ca, NOW).decode()

    assert not still_good(wanted, pem, authority(), NOW)
    assert not still_good(replace(wanted, names=(*wanted.names, "new.example.org")), pem, ca, NOW)
    assert not still_good(wanted, None, ca, NOW)
