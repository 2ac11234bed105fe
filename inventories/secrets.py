"""A site's secrets: made once, kept in one age-encrypted file, readable with the `age` command too."""

import getpass
import json
import os
import re
import secrets as random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from inventories.settings import SettingsError

FOLDER = Path(__file__).parent / "secrets"
CA_YEARS = 10


@dataclass(frozen=True)
class Kind:
    """A secret's name, what it is for, and how it is made."""

    name: str
    why: str
    make: Callable[[], str]


def _password() -> str:
    return random.token_urlsafe(32)


def _authority_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


KINDS = (
    Kind("authority-key", "signs the site's certificates", _authority_key),
    Kind("etcd-authority-key", "signs the certificates that open etcd, and no others", _authority_key),
    Kind("postgres-password", "PostgreSQL's superuser, for Patroni alone", _password),
    Kind("replication-password", "replicas fetch the write-ahead log with it", _password),
    Kind("rewind-password", "pg_rewind reads the new primary with it", _password),
    Kind("database-owner-password", "owns the application's database and changes its schema", _password),
    Kind("database-password", "the application's role in PostgreSQL", _password),
    Kind("database-read-password", "the application's role that only reads", _password),
    Kind("monitor-password", "reads PostgreSQL's figures", _password),
    Kind("backup-password", "the backup host fetches the write-ahead log and base backups with it", _password),
    Kind("repository-password", "the backup host's own key of its repositories", _password),
    Kind("drill-password", "the key of the same repositories that restore drills use", _password),
    Kind("push-password", "encrypts what other hosts push into their repositories", _password),
    Kind("token-key", "signs the tokens of signed-in users", _password),
    Kind("admin-password", "the first administrator's password", _password),
)


GIVEN = {
    "oidc-client-secret": "what the provider of oidc made for this platform",
    "second-repository-environment": "KEY=VALUE lines that open the server of backup.second_repository",
    "second-repository-key": "private key that the server of an sftp: second repository lets in",
}
"""Secrets that somebody else makes: they are kept when a site has them."""

AUTHORITIES = ("authority", "etcd-authority")


def file_of(site: str) -> Path:
    """Where a site's secrets lie; RAG_SECRETS_DIR moves the folder."""
    return Path(os.environ.get("RAG_SECRETS_DIR", FOLDER)) / f"{site}.age"


def key_file_of(site: str) -> Path:
    """Where the age key that opens them lies; RAG_AGE_KEY names another file."""
    default = Path.home() / ".config" / "onprem-rag" / f"{site}.age-key"
    return Path(os.environ.get("RAG_AGE_KEY", default))


def secrets_of(site: str) -> dict[str, SecretStr]:
    """Every secret of the site; a missing file and a key that does not fit are refused in one line."""
    path = file_of(site)
    if not path.is_file():
        raise SettingsError(f"secrets of {site} = (no file {path}); they are made once; make secrets SITE={site}")
    try:
        opened = pyrage.decrypt(path.read_bytes(), [_identity(site)])
    except pyrage.DecryptError:
        raise SettingsError(
            f"age key = {key_file_of(site)}; it does not open {path}; set RAG_AGE_KEY to the key file that made it"
        ) from None
    return {name: SecretStr(value) for name, value in json.loads(opened).items()}


def age_key_of(site: str) -> str:
    """The line AGE-SECRET-KEY-1… that opens them; also what the backups' offline password is made of."""
    path = key_file_of(site)
    if not path.is_file():
        raise SettingsError(f"age key = (no file {path}); it opens the secrets; copy it there or set RAG_AGE_KEY")
    return next((line for line in path.read_text().splitlines() if line.startswith("AGE-SECRET-KEY-")), "")


def _identity(site: str) -> pyrage.x25519.Identity:
    path, key = key_file_of(site), age_key_of(site)
    try:
        return pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise SettingsError(
            f"age key = {path}; a line AGE-SECRET-KEY-1… is needed; copy the key file again or set RAG_AGE_KEY"
        ) from None


def create(site: str) -> list[str]:
    """
    Make every secret that the site lacks and keep those it has; return the names of the new ones.

    The file is replaced in one step, so an interrupted run leaves the old one whole.
    """
    path, known = file_of(site), {}
    if path.is_file():
        known = {name: value.get_secret_value() for name, value in secrets_of(site).items()}
    new = [kind for kind in KINDS if kind.name not in known]
    values = known | {kind.name: kind.make() for kind in new}
    for authority in AUTHORITIES:
        if f"{authority}-certificate" not in values:
            values[f"{authority}-certificate"] = _authority_certificate(site, authority, values[f"{authority}-key"])
    if values != known:
        _write(site, values)
    return [name for name in values if name not in known]


def keep(site: str, name: str, value: str) -> None:
    """Put a secret that somebody else made beside the others, or in its old one's place."""
    if name not in GIVEN:
        raise SettingsError(f"secret {name} = made here; one of {', '.join(GIVEN)} is needed; make secrets SITE={site}")
    lines = value.splitlines()
    if name.endswith("-environment"):
        if not lines or not all(re.fullmatch(r"[A-Z][A-Z0-9_]*=\S.*", line) for line in lines):
            raise SettingsError(f"secret {name} = {len(lines)} lines; KEY=VALUE in each of them is needed")
    elif name == "second-repository-key":
        try:
            serialization.load_ssh_private_key(f"{value}\n".encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SettingsError(
                f"secret {name} = {len(lines)} lines; an OpenSSH private key without a passphrase is needed; "
                f"ssh-keygen -t ed25519 -N '' -f KEYFILE; make keep-secret SITE={site} NAME={name} < KEYFILE"
            ) from None
    elif not value or not value.isprintable():
        raise SettingsError(f"secret {name} = {len(value)} characters; one line that can be printed is needed")
    known = {known: value.get_secret_value() for known, value in secrets_of(site).items()}
    _write(site, known | {name: value})


def _write(site: str, values: dict[str, str]) -> None:
    key_file, path = key_file_of(site), file_of(site)
    if not key_file.is_file():
        identity = pyrage.x25519.Identity.generate()
        key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put_private(key_file, f"# public key: {identity.to_public()}\n{identity}\n".encode())
    locked = pyrage.encrypt(json.dumps(values).encode(), [_identity(site).to_public()], armored=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    _put_private(path, locked)


def _put_private(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    draft.replace(path)


def _authority_certificate(site: str, authority: str, key_pem: str) -> str:
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made above, for the type checker
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{site} {authority}")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_signs_only(), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signs_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def main(arguments: list[str]) -> int:
    """`make secrets SITE=…` says what was made and where, never a value; `make secret SITE=… NAME=…` says one value.

    `make keep-secret SITE=… NAME=…` takes one from standard input.
    """
    keeps = arguments[:1] == ["--keep"]
    site, *names = arguments[keeps:] or [""]
    if len(names) != 1 if keeps else len(names) > 1 or not site:
        print("site = (nothing); the name of a file in inventories/ is needed; make secrets SITE=prod", file=sys.stderr)
        return 2
    if not re.fullmatch("[a-z][a-z0-9-]{0,30}", site) or not (Path(__file__).parent / site).is_file():
        print(f"site = {site}; a file inventories/{site} is needed; ls inventories", file=sys.stderr)
        return 2
    try:
        for line in _kept(site, names[0]) if keeps else _told(site, names[0]) if names else _made(site):
            print(line)
    except SettingsError as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


def _kept(site: str, name: str) -> list[str]:
    # Neither an argument list nor a shell's history nor a screen may hold it.
    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read()
    keep(site, name, value.strip())
    return [f"{file_of(site)}: {name} is kept; deploy {site} for its machines to have it"]


def _told(site: str, name: str) -> list[str]:
    known = secrets_of(site)
    if name not in known:
        raise SettingsError(f"secret {name} = (nothing); one of {', '.join(sorted(known))} is needed; make secrets")
    return [known[name].get_secret_value()]


def _made(site: str) -> list[str]:
    had_key = key_file_of(site).is_file()
    made = create(site)
    return [
        *([] if had_key else _escrow(site)),
        f"{file_of(site)}: {len(made)} secrets made{': ' + ', '.join(made) if made else ', nothing was missing'}",
        f"{key_file_of(site)} opens it: keep a copy of this key somewhere safe, without it the secrets are lost",
    ]


def _escrow(site: str) -> list[str]:
    # A log keeps what it is shown; a person in front of a screen writes it down.
    key = age_key_of(site) if sys.stdout.isatty() else f"the line AGE-SECRET-KEY-1… of {key_file_of(site)}"
    return [
        f"Write this line down on paper and lock it away: {key}",
        f"  It opens the secrets of {site} and, by `make offline-password`, every backup repository: with it and a",
        "  repository alone the site can be rebuilt, without it no backup of a site that burnt down can be read.",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
