"""Certificates as the deploy signs them, and a backup host that shows one."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.backup.settings import Cluster, Settings
from inventories import secrets
from inventories.certificates import Certificate
from tasks.pki import Authority, signed
from tests.unit.backups import settings_in


def certified(folder: Path, authority: Authority, service: str, machine: str, at: datetime | None = None) -> Path:
    """A service's certificate on a machine, as the deploy signs it, now or at that time; the key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    wanted = Certificate(service, "postgres", (machine, "localhost"), ("127.0.0.1",))
    text = asked.public_bytes(serialization.Encoding.PEM).decode()
    path = folder / f"{service}-{machine}"
    path.with_suffix(".crt").write_bytes(signed(wanted, machine, text, authority, at or datetime.now(UTC)))
    private = path.with_suffix(".key")
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    private.chmod(0o600)
    return path


def authority_in(folder: Path) -> Authority:
    """A site's authority, whose certificate lies there as ca.crt."""
    pem = secrets._authority_key()
    root = folder / "ca.crt"
    root.write_text(secrets._authority_certificate("lab", "authority", pem))
    signer = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(root.read_bytes()), signer)


def shown_by(folder: Path, certificate: Path, port: int = 5432) -> Settings:
    """A backup host's settings, with this certificate."""
    made = settings_in(folder)
    cluster = {
        "hosts": ["127.0.0.1"], "port": port, "name": "postgres", "user": "replicator",
        "ssl_root_cert": str(folder / "ca.crt"), "ssl_cert": f"{certificate}.crt", "ssl_key": f"{certificate}.key",
    }  # fmt: skip
    return made.model_copy(update={"cluster": Cluster.model_validate(cluster)})


def shown_as(settings: Settings, certificate: Path) -> Cluster:
    return settings.cluster.model_copy(update={"ssl_cert": f"{certificate}.crt", "ssl_key": f"{certificate}.key"})
