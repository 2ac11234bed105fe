"""Real repositories for the tests, by the backup hosts' own restic, with snapshots of whatever time is wanted."""

import base64
import functools
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from app.backup import process, restic
from app.backup.process import Repository
from app.backup.restic import Snapshot
from app.backup.settings import Kind, Settings
from tests.unit.backups import settings_in

RESTIC = Path(__file__).parents[2] / "build/restic/usr/bin"


def keeper_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A backup host's settings, credentials and restic in that folder."""
    if not (RESTIC / "restic").exists():
        pytest.fail(f"{RESTIC}/restic = not there; Debian 13's restic is needed; make app-test")
    credentials = folder / "credentials"
    credentials.mkdir()
    for name in ("repository-password", "drill-password"):
        (credentials / name).write_text(f"{name} {name}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("PATH", f"{RESTIC}:{os.environ['PATH']}")
    settings = settings_in(folder)
    for made in (settings.site_folder, settings.aside):
        made.mkdir()
    return settings


def made(settings: Settings, *kinds: Kind) -> None:
    """Empty repositories of these kinds."""
    for kind in kinds:
        empty(settings, settings.repository(kind))


def empty(settings: Settings, place: Path) -> None:
    """One there, made once for all tests: the same chunks in each, as where one is the copy of another."""
    template = Path(_template().name) / "repository"
    if not template.exists():
        repository = replace(of(settings, "any"), location=str(template))
        restic.init(repository)
        _opened_at_once(repository)
    shutil.copytree(template, place)


@functools.cache
def _template() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rag-repository-")


def _opened_at_once(repository: Repository) -> None:
    """
    Its only key as one that costs no half second of computing, as restic makes them on purpose: tests open it often.

    The master key stays; the file is as restic's own, with another N for scrypt.
    """
    (path,) = (Path(repository.location) / "keys").iterdir()
    told, password = json.loads(path.read_text()), repository.password_file.read_bytes()

    def cipher(cost: int, vector: bytes) -> tuple[CipherContext, Poly1305]:
        salt = base64.b64decode(told["salt"])
        made = hashlib.scrypt(password, salt=salt, n=cost, r=told["r"], p=told["p"], dklen=64, maxmem=1 << 30)
        # One block, as Poly1305-AES is defined.
        nonce = Cipher(algorithms.AES(made[32:48]), modes.ECB()).encryptor().update(vector)  # noqa: S305
        return Cipher(algorithms.AES(made[:32]), modes.CTR(vector)).encryptor(), Poly1305(made[48:] + nonce)

    sealed, vector = base64.b64decode(told["data"]), os.urandom(16)
    master = cipher(told["N"], sealed[:16])[0].update(sealed[16:-16])
    encrypt, seal = cipher(1024, vector)
    text = encrypt.update(master)
    seal.update(text)
    data = base64.b64encode(vector + text + seal.finalize()).decode()
    # Copies ask that one of the keys is the offline one.
    written = json.dumps(told | {"N": 1024, "data": data, "username": "offline"}).encode()
    path.unlink()
    path.with_name(hashlib.sha256(written).hexdigest()).write_bytes(written)


def of(settings: Settings, kind: str) -> Repository:
    """That repository, opened as the backup host does."""
    return Repository(str(settings.folder / "repositories" / kind), settings.folder / "credentials/repository-password")


def taken(repository: Repository, folder: Path, tag: str, at: datetime | None = None) -> Snapshot:
    """A snapshot that claims to be of that time."""
    words = ["backup", "--host", restic.HOST, "--group-by", "host,tags", "--tag", tag]
    words += ["--time", f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"] if at else []
    process.run(repository, [*words, "."], cwd=folder)
    known = restic.snapshots(repository)
    return next(one for one in known if one.at == at.replace(microsecond=0)) if at else known[-1]
