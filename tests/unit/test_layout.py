"""The tree is the architecture: who imports whom, one service one file, locks without an address."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sites import ROOT

TASKS = sorted((ROOT / "tasks").glob("[a-z]*.py"))
INVENTORIES = sorted((ROOT / "inventories").glob("[a-z]*.py"))
APP = sorted((ROOT / "app").rglob("*.py"))

# What several services are made of; everything else in tasks/ is one service, or the machinery of one.
SHARED = {
    "tasks.apt",
    "tasks.archives",
    "tasks.dcs",
    "tasks.drill_page",
    "tasks.facts",
    "tasks.documents",
    "tasks.in_place",
    "tasks.last_backup",
    "tasks.lock",
    "tasks.login",
    "tasks.losses",
    "tasks.members",
    "tasks.moments",
    "tasks.operations",
    "tasks.outage",
    "tasks.patroni",
    "tasks.provider",
    "tasks.rebuild",
    "tasks.release",
    "tasks.repair",
    "tasks.restored",
    "tasks.roles",
    "tasks.ssh",
    "tasks.swap",
    "tasks.turns",
    "tasks.upgrade",
    "tasks.wants",
}
# What a person types; no service uses it.
COMMANDS = {"tasks.cluster", "tasks.drills", "tasks.recovery"}
PURE = {"pydantic", "pyinfra.api.exceptions"}
MAY_IMPORT = {
    "inventories/frozen.py": PURE,
    "inventories/embeddings.py": set(),
    "inventories/services.py": PURE | {"inventories.embeddings", "inventories.frozen"},
    "inventories/backup.py": PURE | {"inventories.frozen", "inventories.public_keys"},
    "inventories/oidc.py": PURE | {"inventories.frozen"},
    "inventories/settings.py": PURE
    | {
        "inventories.backup",
        "inventories.frozen",
        "inventories.oidc",
        "inventories.public_keys",
        "inventories.services",
    },
    "inventories/public_keys.py": set(),
    "inventories/network.py": PURE | {"inventories.settings"},
    "inventories/sizing.py": PURE | {"inventories.settings"},
    "inventories/certificates.py": PURE | {"inventories.settings"},
    "inventories/escrow.py": {"pyrage"},
    "inventories/secrets.py": PURE | {"inventories.settings", "cryptography", "pyrage"},
    "inventories/lab_state.py": PURE | {"inventories.settings"},
    "inventories/describe.py": PURE | {"inventories.settings", "inventories.sizing"},
    # How pyinfra reaches a machine is a part of pyinfra's, not of the site's.
    "inventories/connection.py": {"pyinfra", "paramiko", "typing_extensions"},
}


def imported(path: Path) -> set[str]:
    """Every module that the file imports, whole names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from inventories import network` names a module of the package.
            packages = {"inventories", "tasks", "app"}
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module in packages else {node.module}
            )
    return found


def outside(path: Path, *allowed: str) -> set[str]:
    """What the file imports beyond the standard library and the allowed packages."""
    return {
        name
        for name in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not any(name == ok or name.startswith(f"{ok}.") for ok in allowed)
    }


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.name)
def test_what_a_site_wants_knows_nothing_of_how_it_is_done(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert name in MAY_IMPORT, f"{name} is new: say here what it may import"

    assert not outside(path, *MAY_IMPORT[name])


@pytest.mark.parametrize("name", ["prod", "lab", "solo"])
def test_a_site_file_is_data(name: str) -> None:
    path = ROOT / "inventories" / name

    assert not outside(path, "inventories", "pyinfra")
    decisions = (ast.If, ast.For, ast.While, ast.FunctionDef, ast.ClassDef, ast.ListComp, ast.IfExp)
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, decisions)]


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_no_service_asks_another_service(path: Path) -> None:
    own = {name for name in imported(path) if name.startswith("tasks.")}
    # A command reads a site's file as the first of them does.
    first = {"tasks.cluster"} if f"tasks.{path.stem}" in COMMANDS else set()

    assert own <= SHARED | first
    # What goes in again goes through the API, as a person's own upload does.
    speaks = {"httpx"} if path.stem == "documents" else set()
    assert not outside(path, "tasks", "inventories", "pyinfra", "cryptography", "gevent", "jinja2", *speaks)


@pytest.mark.parametrize("name", sorted(SHARED | COMMANDS))
def test_what_services_share_is_no_service(name: str) -> None:
    path = ROOT / f"{name.replace('.', '/')}.py"

    assert path.is_file()
    assert not deploys(path)


def test_the_program_and_the_deploy_share_nothing_but_files() -> None:
    wrong = {
        path.name: names
        for path in APP
        if (names := {name for name in imported(path) if name.partition(".")[0] in {"inventories", "tasks", "pyinfra"}})
    }

    assert wrong == {}


CLIENT = [*sorted((ROOT / "app/client").glob("*.py")), ROOT / "app/distances.py", ROOT / "app/evaluate.py"]


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: path.name)
def test_the_client_needs_nothing_of_the_platform_it_talks_to(path: Path) -> None:
    # What measures a platform comes with the client, and is as far from the platform's own code.
    assert not outside(path, "app.client", "app.distances", "app.evaluate", "httpx", "pydantic", "rich")


def test_the_table_of_contents_only_calls_tasks() -> None:
    path = ROOT / "deploy.py"

    assert not outside(path, "pyinfra", "tasks", "inventories.settings")
    assert "pyinfra.operations" not in path.read_text()
    nodes = (ast.Expr, ast.If, ast.Import, ast.ImportFrom, ast.AnnAssign)
    assert not [node for node in ast.parse(path.read_text()).body if not isinstance(node, nodes)]


def deploys(path: Path) -> list[str]:
    """Names of the file's @deploy functions."""
    return [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "deploy" for mark in node.decorator_list)
    ]


def test_every_service_has_one_function_of_its_files_name_and_deploy_calls_it() -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse((ROOT / "deploy.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    services = {path.stem: deploys(path) for path in TASKS if f"tasks.{path.stem}" not in SHARED | COMMANDS}

    assert {name: found for name, found in services.items() if found != [name]} == {}
    assert set(services) <= called


def test_a_service_uses_the_templates_of_its_own_folder() -> None:
    folders = {path.name for path in (ROOT / "templates").iterdir() if path.is_dir()}
    used = {
        path.stem: set(re.findall(r'(?:rendered|verbatim)\(\s*f?"([^/"]+)/', path.read_text()))
        for path in TASKS
        if path.stem != "wants"
    }

    # The package reads it while it is being installed, so before its service's own task.
    assert {name: found for name, found in used.items() if not found <= {name}} == {
        "packages": {"database", "packages"}
    }
    assert folders == {name for name, found in used.items() if found}


def test_there_is_one_kind_of_lock() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    assert not {"uv.lock", "poetry.lock", "Pipfile.lock"} & {Path(name).name for name in tracked}


LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if "overrides" not in path.name)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_every_package_by_hash_and_names_no_index(path: Path) -> None:
    text = path.read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", ""))

    assert len(entries) >= 3
    assert not [entry for entry in entries if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry)]
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").iterdir()), ids=lambda path: path.name)
def test_no_list_of_packages_names_an_index(path: Path) -> None:
    assert not re.search(r"index-url|find-links|trusted-host|://", path.read_text())


@pytest.mark.parametrize("path", [*TASKS, *INVENTORIES], ids=lambda path: path.name)
def test_every_module_and_every_public_function_says_what_it_promises(path: Path) -> None:
    tree = ast.parse(path.read_text())

    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert ast.get_docstring(tree)
    assert silent == []
