"""Certificates: keys are made on the machine and stay there, the controller signs with the site's CA."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from inventories.certificates import AUTHORITY, ETCD_AUTHORITY, FOLDER, LIFE, Certificate, certificates
from inventories.settings import Machine, Site
from tasks.operations import Commands, ensure, put
from tasks.wants import Directory, File, User


@dataclass(frozen=True)
class Authority:
    """The site's CA; the key never shows in a log."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Authority()"


def authority_of(site: Site, signer: str) -> Authority:
    """One of the CAs from the site's secrets."""
    key = serialization.load_pem_private_key(site.secret(f"{signer}-key").encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `make secrets` makes no other, for the type checker
    return Authority(x509.load_pem_x509_certificate(site.secret(f"{signer}-certificate").encode()), key)


class PemFiles(FactBase[dict[str, str]]):
    """PEM files that the machine holds, by path."""

    @staticmethod
    def default() -> dict[str, str]:
        """None."""
        return {}

    def command(self, paths: list[str]) -> str:
        """Each file after a line with its path."""
        return "\n".join([*(f"test -s {path} && echo path {path} && cat {path}" for path in paths), "true"])

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Split at the paths."""
        found: dict[str, str] = {}
        path = ""
        for line in output:
            if line.startswith("path "):
                path = line.removeprefix("path ")
                found[path] = ""
            else:
                found[path] += f"{line}\n"
        return found


class Held(PemFiles):
    """Certificates whose key is there, is older than they are, and is its group's; any other counts as none."""

    def command(self, wanted: list[Certificate]) -> str:  # type: ignore[override]
        """Of each good pair, the certificate after a line with its path."""
        ask = (
            'pair() { test "$(stat -c "%a %G" "$1" 2>/dev/null)" = "640 $2" && test -s "$3" '
            # The key is made first: one that is newer than its certificate came without it.
            '&& ! test "$1" -nt "$3" && echo "path $3" && cat "$3"; }'
        )
        return "\n".join([ask, *(f"pair {want.key} {want.group} {want.certificate}" for want in wanted), "true"])


def still_good(wanted: Certificate, pem: str | None, authority: Authority, now: datetime) -> bool:
    """The certificate is this CA's, has the wanted names, and more than a third of its life is left."""
    if not pem:
        return False
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return list(names) == _names(wanted) and certificate.not_valid_after_utc - now > life / 3


def signed(wanted: Certificate, machine: str, request_pem: str, authority: Authority, now: datetime) -> bytes:
    """The certificate for the key in the request; names come from the site, never from the request."""
    request = x509.load_pem_x509_csr(request_pem.encode())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, wanted.service),
            x509.NameAttribute(NameOID.COMMON_NAME, machine),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(wanted)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _names(wanted: Certificate) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(name) for name in dict.fromkeys(wanted.names)),
        *(x509.IPAddress(ip_address(address)) for address in dict.fromkeys(wanted.addresses)),
    ]


@operation()
def certified(machine: Machine, wanted: list[Certificate], authorities: dict[str, Authority]) -> Commands:
    """
    Give every service its certificate; renew those with less than a third of their life left.

    + machine: whose services they are
    + wanted: one for each service
    + authorities: the CAs that sign them, by name
    """
    now = datetime.now(UTC)
    held = host.get_fact(Held, wanted=wanted)
    lacking = [
        want for want in wanted if not still_good(want, held.get(want.certificate), authorities[want.signer], now)
    ]
    if not lacking:
        host.noop(f"{len(wanted)} certificates are good")
        return
    yield StringCommand("; ".join(["set -e; umask 077", *map(_make_request, lacking)]))
    requests = host.get_fact(PemFiles, paths=[_request(want) for want in lacking])
    yield from put(
        [
            File(
                f"{want.certificate}.new",
                signed(want, machine.name, requests[_request(want)], authorities[want.signer], now),
            )
            for want in lacking
            if _request(want) in requests  # absent only while a dry run looks ahead
        ]
    )
    yield StringCommand("; ".join(["set -e", *map(_take_into_use, lacking)]))


def _request(want: Certificate) -> str:
    return f"{FOLDER}/{want.service}.csr"


def _make_request(want: Certificate) -> str:
    # A renewal takes a new key: one that leaked unseen is worth nothing after a renewal.
    return (
        f"openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {want.key}.new; "
        f"openssl req -new -key {want.key}.new -subj /CN={want.service} -out {_request(want)}; "
        f"chgrp {want.group} {want.key}.new; chmod 640 {want.key}.new"
    )


def _take_into_use(want: Certificate) -> str:
    return f"mv {want.key}.new {want.key}; mv {want.certificate}.new {want.certificate}; rm -f {_request(want)}"


@deploy("PKI")
def pki(site: Site, machine: Machine) -> None:
    """The site's CA as the only one that services trust, and a certificate for each service."""
    wanted = certificates(site, machine)
    ensure(
        name="Trust the site's CA",
        # Every other group that reads a key comes with its package.
        users=[
            *([User("rag")] if "app" in machine.roles else []),
            *([User("rag-backup", home="/var/lib/rag-backup")] if "backup" in machine.roles else []),
        ],
        directories=[Directory("/etc/rag"), Directory(FOLDER)],
        files=[
            File(AUTHORITY, site.secret("authority-certificate").encode()),
            File(ETCD_AUTHORITY, site.secret("etcd-authority-certificate").encode()),
        ],
    )

    certified(
        name="Certify every service",
        machine=machine,
        wanted=wanted,
        authorities={signer: authority_of(site, signer) for signer in {want.signer for want in wanted}},
    )
