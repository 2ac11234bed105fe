"""Downloaded packages, kept between fleets: a read-only layer between the base and a machine's own disk."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from functools import cmp_to_key
from pathlib import Path

from tests.lab import base
from tests.lab.host import LabError, locked
from tests.lab.mounts import lower_layers_in_use

ARCHIVES = Path("var/cache/apt/archives")
LISTS = Path("var/lib/apt/lists")
LIMIT = 4_000_000_000


def folder(layer: str) -> Path:
    return base.cache() / layer


def _numbered() -> list[tuple[int, str]]:
    """All whole layers, oldest first."""
    found = (re.fullmatch(r"layer-(\d+)", path.name) for path in base.cache().glob("layer-*"))
    return sorted((int(match.group(1)), match.group()) for match in found if match)


def newest() -> str | None:
    layers = _numbered()
    return layers[-1][1] if layers else None


def harvest(disks: Iterable[Path]) -> int:
    """Make a new layer of the present one and what these machines downloaded since; count the new packages."""
    with locked("debs", wait=True):
        fresh = _fresh_files([disk / "upper" for disk in disks])
        if not fresh:
            return 0
        number, layer = (_numbered() or [(0, "")])[-1]
        building = base.cache() / "layer.new"
        if building.exists():
            shutil.rmtree(building)
        if layer:
            shutil.copytree(folder(layer), building, copy_function=link_or_copy, symlinks=True)
        (building / ARCHIVES).mkdir(parents=True, exist_ok=True)
        for name, file in fresh.items():
            target = building / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                link_or_copy(str(file), str(target))
        for old in superseded([path.name for path in (building / ARCHIVES).glob("*.deb")], version_order):
            (building / ARCHIVES / old).unlink()
        files = {path: path.stat() for path in (building / ARCHIVES).glob("*.deb")}
        for old_file in beyond(LIMIT, {path.name: (stat.st_mtime, stat.st_size) for path, stat in files.items()}):
            (building / ARCHIVES / old_file).unlink()
        # A harvest that dies before this line leaves nothing that anybody uses.
        building.rename(base.cache() / f"layer-{number + 1}")
    return sum(name.suffix == ".deb" for name in fresh)


def _fresh_files(uppers: list[Path]) -> dict[Path, Path]:
    """Packages that the newest layer lacks, and package lists that are newer than its own."""
    layer = newest()
    have = folder(layer) if layer else None
    fresh: dict[Path, Path] = {}
    for upper in uppers:
        for file in [*(upper / ARCHIVES).glob("*.deb"), *(upper / LISTS).glob("*_dists_*")]:
            name = file.relative_to(upper)
            with contextlib.suppress(FileNotFoundError):
                # An overlay marks what was deleted by a device node of this name.
                if not file.is_file() or file.stat().st_size == 0:
                    continue
                known = fresh.get(name) or (have / name if have else None)
                if known is None or not known.exists() or (file.suffix != ".deb" and _newer(file, known)):
                    fresh[name] = file
    return fresh


def _newer(file: Path, than: Path) -> bool:
    return file.stat().st_mtime > than.stat().st_mtime


def link_or_copy(source: str, target: str) -> None:
    """Share the bytes where both lie on one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def superseded(names: Iterable[str], order: Callable[[str, str], int]) -> list[str]:
    """The files of packages of which a newer version is there too."""
    versions: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name in names:
        package, version, architecture = [*name.removesuffix(".deb").split("_"), "", ""][:3]
        versions.setdefault((package, architecture), []).append((version.replace("%3a", ":"), name))
    old: list[str] = []
    for found in versions.values():
        newest_version = max((version for version, _ in found), key=cmp_to_key(order))
        old += [name for version, name in found if version != newest_version]
    return sorted(old)


def beyond(limit: int, files: dict[str, tuple[float, int]]) -> list[str]:
    """The oldest files, given with time and size, that do not fit into the limit beside the newer ones."""
    total, dropped = 0, []
    for name, (_, size) in sorted(files.items(), key=lambda item: item[1], reverse=True):
        total += size
        if total > limit:
            dropped.append(name)
    return dropped


def version_order(one: str, other: str) -> int:
    """Order two Debian versions as dpkg does."""
    if one == other:
        return 0
    done = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], capture_output=True, check=False)
    if done.returncode > 1:
        raise LabError(
            f"dpkg --compare-versions {one} lt {other} = exit {done.returncode}; remove {base.cache()}/layer-*"
        )
    return -1 if done.returncode == 0 else 1


def forget_unused(used: set[str]) -> None:
    """Remove the layers that are neither the newest nor under any machine's disk."""
    with locked("debs", wait=True):
        mounted = lower_layers_in_use()
        for _, layer in _numbered()[:-1]:
            if layer not in used and folder(layer) not in mounted:
                shutil.rmtree(folder(layer))
