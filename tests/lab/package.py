"""`python -m tests.lab.package NAME FOLDER`: a package of Debian 13 unpacked into a folder, not installed."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import sources
from tests.lab.host import LabError, run


def unpacked(name: str, folder: Path) -> None:
    """The machines' own version of it, checked by APT, whatever this computer's Debian or Ubuntu has."""
    with tempfile.TemporaryDirectory(prefix="rag-package-") as made:
        root = Path(made)
        for place in ("state/lists/partial", "cache/archives/partial"):
            (root / place).mkdir(parents=True)
        (root / "state/status").touch()
        (root / "debian.sources").write_text(sources.machine_sources(sources.mirror()))
        options = {
            "Dir::Etc::SourceList": root / "debian.sources",
            "Dir::Etc::SourceParts": "/nowhere",
            "Dir::State": root / "state",
            "Dir::State::status": root / "state/status",
            "Dir::Cache": root / "cache",
            # Its own user cannot come into this folder.
            "APT::Sandbox::User": "root",
        }
        words = ["apt-get", "--quiet", *(f"-o{key}={value}" for key, value in options.items())]
        run(*words, "update", seconds=600)
        subprocess.run([*words, "download", name], cwd=root, check=True, capture_output=True, timeout=600)
        (package,) = root.glob("*.deb")
        run("dpkg-deb", "--extract", package, root / "unpacked")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        shutil.move(root / "unpacked", folder)


if __name__ == "__main__":
    try:
        unpacked(sys.argv[1], Path(sys.argv[2]))
    except LabError as error:
        sys.exit(str(error))
