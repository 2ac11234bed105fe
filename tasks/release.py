"""What is built once on the controller and runs on the hosts: a folder of checked packages, named by its content."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gevent.lock import BoundedSemaphore
from pyinfra.api.exceptions import PyinfraError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "releases"
HOST_PYTHON = "3.13"
HOST_PLATFORM = "x86_64-manylinux_2_28"
# Only what a person may have left behind differs between two checkouts of the same commit.
IGNORED = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class Release:
    """Packages of one lock, with our own source beside them when there is any."""

    name: str
    lock: Path
    sources: tuple[Path, ...] = ()

    @cached_property
    def id(self) -> str:
        """Names the content: the same checkout gives the same id everywhere."""
        digest = hashlib.sha256(f"{HOST_PYTHON} {HOST_PLATFORM}\n".encode())
        for path in (self.lock, *_files(self.sources)):
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def archive(self) -> Path:
        """Where the built archive lies on the controller."""
        return FOLDER / f"{self.name}-{self.id}.tar.zst"


APP = Release("app", ROOT / "requirements" / "app.txt", (ROOT / "app",))
CHROMA = Release("chroma", ROOT / "requirements" / "chroma.txt")

_building = BoundedSemaphore(1)


def built(release: Release) -> Path:
    """The release's archive, built when it is not there yet; a build that fails leaves nothing behind."""
    with _building:
        if not release.archive.is_file():
            _build(release)
    return release.archive


def _files(sources: tuple[Path, ...]) -> list[Path]:
    return sorted(
        path
        for source in sources
        for path in source.rglob("*")
        if path.is_file() and not any(part in IGNORED for part in path.parts)
    )


def _build(release: Release) -> None:
    started = time.monotonic()
    work = FOLDER / f"{release.name}.building"
    shutil.rmtree(work, ignore_errors=True)
    (work / "lib").mkdir(parents=True)
    # The lock is complete, so nothing may come in beside it; every wheel is checked against its hash there.
    command = [_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--python-version", HOST_PYTHON, "--python-platform", HOST_PLATFORM]
    command += ["--target", str(work / "lib"), "--requirement", str(release.lock)]
    # A mirror of the site's own may show a certificate that only this computer's trust store knows.
    trusting = os.environ | {"UV_SYSTEM_CERTS": "true"}
    done = subprocess.run(command, env=trusting, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-300:]
        raise PyinfraError(f"release {release.name} = not built; uv says: {reason}; make release")
    for path in _files(release.sources):
        to = work / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    _pack(work, release.archive)
    shutil.rmtree(work)
    size = release.archive.stat().st_size / 1e6
    print(f"release {release.name} {release.id}: {size:.0f} MB in {time.monotonic() - started:.1f} s", file=sys.stderr)


def _uv() -> str:
    found = os.environ.get("UV") or shutil.which("uv") or str(ROOT / "build" / "uv" / "bin" / "uv")
    if not shutil.which(found):
        raise PyinfraError("uv = (nothing); it builds the release; make setup")
    return found


def _pack(folder: Path, archive: Path) -> None:
    # Sorted names and no times: the same content is the same archive.
    draft = archive.with_suffix(".part")
    with draft.open("wb") as out:
        compress = subprocess.Popen(["zstd", "-q", "-3", "-T0", "-c"], stdin=subprocess.PIPE, stdout=out)
        assert compress.stdin is not None  # noqa: S101 - it is a pipe, for the type checker
        with tarfile.open(fileobj=compress.stdin, mode="w|") as tar:
            for path in sorted(folder.rglob("*")):
                entry = tar.gettarinfo(path, str(path.relative_to(folder)))
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "root", "root"
                entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
                tar.addfile(entry, io.BytesIO(path.read_bytes()) if entry.isfile() else None)
        compress.stdin.close()
        if compress.wait():
            raise PyinfraError(f"archive {archive.name} = not written; zstd failed; df -h {archive.parent}")
    draft.replace(archive)


def main() -> int:
    """`make release`: build what is missing and say what a deploy will push."""
    for release in (APP, CHROMA):
        archive = built(release)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        size = archive.stat().st_size / 1e6
        print(f"{release.name} {release.id}  {size:.0f} MB  sha256 {digest}  {archive.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
