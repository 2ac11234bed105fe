"""A wrong configuration ends every program with one line and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.servers import ROOT

GOOD = """
domain = "rag.test"
[database]
hosts = ["127.0.0.1"]
[inference]
chat_model = "chat"
embedding_model = "embed"
embedding_dimension = 8
"""


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (GOOD + "num_ctxx = 1", "inference.num_ctxx = 1; no such setting"),
        (GOOD + "num_ctx = 5", "inference.num_ctx = 5; input should be greater than or equal to 1024"),
        (GOOD.replace('domain = "rag.test"', ""), "domain = unset; a value"),
        (GOOD.replace("127.0.0.1", "db1.rag.test"), "database.ssl_root_cert = ''; a CA file"),
        ("domain =", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, configuration: str, says: str) -> None:
    result = run(tmp_path, configuration, "app.store.migrate")

    assert result.returncode == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["app.ingest", "app.index", "app.store.migrate"])
def test_a_missing_secret_is_named_in_one_line(tmp_path: Path, module: str) -> None:
    result = run(tmp_path, GOOD, module)

    assert result.returncode == 2
    assert "credential " in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_api_refuses_a_wrong_setting_the_same_way(tmp_path: Path) -> None:
    result = run(
        tmp_path, GOOD + "num_ctxx = 1", "gunicorn", "-c", "python:app.api.gunicorn", "app.api.main:application()"
    )

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def run(folder: Path, configuration: str, *command: str) -> subprocess.CompletedProcess[str]:
    (folder / "rag.toml").write_text(configuration)
    environment = {
        "RAG_CONFIG": str(folder / "rag.toml"),
        "CREDENTIALS_DIRECTORY": str(folder),
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
