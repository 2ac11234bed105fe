"""Ollama's model store: a manifest for each name, and blobs named by their checksum."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from . import gguf

REGISTRY = "registry.ollama.ai"
_KIND = "application/vnd.ollama.image."


# A blob's name tells its content, and a vocabulary takes longer to read than a question to embed.
_read = lru_cache(maxsize=8)(gguf.read)


@dataclass(frozen=True)
class Model:
    """A model as its manifest tells."""

    name: str
    manifest: Path
    root: Path

    @cached_property
    def _bytes(self) -> bytes:
        return self.manifest.read_bytes()

    @cached_property
    def described(self) -> dict[str, Any]:
        """The manifest's content."""
        content: dict[str, Any] = json.loads(self._bytes)
        return content

    @property
    def digest(self) -> str:
        """The manifest's sha256, which `ollama list` shows as the model's ID."""
        return hashlib.sha256(self._bytes).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of everything the manifest names."""
        return sum(part["size"] for part in (self.described["config"], *self.described["layers"]))

    @property
    def modified_at(self) -> str:
        """When the manifest was written, as Go prints a time."""
        return datetime.fromtimestamp(self.manifest.stat().st_mtime, UTC).isoformat().replace("+00:00", "Z")

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the model is."""
        content: dict[str, Any] = json.loads(self._blob(self.described["config"]["digest"]).read_text())
        return content

    @cached_property
    def weights(self) -> gguf.Gguf:
        """The model's GGUF file."""
        return _read(self._blob(self._layer("model")["digest"]))

    @property
    def embeds(self) -> bool:
        """True of a model that turns text into vectors and cannot write."""
        return bool(self.config["model_family"] == "bert")

    def text(self, kind: str) -> str:
        """A layer of text, such as template or license; empty when there is none."""
        named = [one for one in self.described["layers"] if one["mediaType"] == _KIND + kind]
        return self._blob(named[0]["digest"]).read_text() if named else ""

    @property
    def parameters(self) -> dict[str, Any]:
        """Options the model brings along."""
        content: dict[str, Any] = json.loads(self.text("params") or "{}")
        return content

    def _layer(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.described["layers"] if one["mediaType"] == _KIND + kind)
        return found

    def _blob(self, digest: str) -> Path:
        return self.root / "blobs" / digest.replace(":", "-")


def models(root: Path) -> list[Model]:
    """Every model of the store, newest first as Ollama lists them."""
    manifests = root / "manifests"
    found = [
        Model(_short(path.relative_to(manifests)), path, root) for path in manifests.glob("*/*/*/*") if path.is_file()
    ]
    return sorted(found, key=lambda one: (-one.manifest.stat().st_mtime, one.name))


def find(root: Path, name: str) -> Model | None:
    """The model of that name; without a tag it is the one tagged latest."""
    model, _, tag = name.partition(":")
    parts = model.split("/")
    host, space, last = [*[REGISTRY, "library"][: 3 - len(parts)], *parts][-3:]
    path = root / "manifests" / host / space / last / (tag or "latest")
    # A name is a path of this store and of nothing else.
    if len(parts) > 3 or ".." in (*parts, tag) or not path.is_file():
        return None
    return Model(_short(path.relative_to(root / "manifests")), path, root)


def _short(path: Path) -> str:
    host, space, model, tag = path.parts
    prefix = "" if host == REGISTRY else f"{host}/"
    return f"{prefix}{'' if space == 'library' else space + '/'}{model}:{tag}"
