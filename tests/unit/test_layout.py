"""The tree is the architecture: who imports whom, which file belongs to which, what locks may hold."""

import ast
import re
from pathlib import Path

import pytest

SHARED = {"apt", "archives", "facts", "login", "operations", "release", "wants"}
SERVICES = sorted(path.stem for path in Path("tasks").glob("*.py") if path.stem not in {*SHARED, "__init__"})


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} & {
        "app",
        "deploy",
        "inventories",
        "tasks",
        "tests",
        "pyinfra",
    }


def test_imports_go_down_only() -> None:
    for folder, allowed in {
        "app": {"app"},
        "inventories": {"inventories", "pyinfra"},
        "tasks": {"inventories", "tasks", "pyinfra"},
    }.items():
        for path in Path(folder).rglob("*.py"):
            assert roots(path) <= allowed, path
    assert "pyinfra.operations" not in imports(Path("deploy.py"))


@pytest.mark.parametrize("service", SERVICES)
def test_no_task_imports_another_service_s_task(service: str) -> None:
    taken = {name.split(".")[1] for name in imports(Path(f"tasks/{service}.py")) if name.startswith("tasks.")}

    assert taken <= SHARED


@pytest.mark.parametrize("service", SERVICES)
def test_deploy_py_calls_every_service(service: str) -> None:
    assert re.search(rf"^\s*{service}\(", Path("deploy.py").read_text(), re.MULTILINE)


@pytest.mark.parametrize("template", sorted(path for path in Path("templates").rglob("*") if path.is_file()))
def test_a_template_says_who_wrote_it_and_has_no_defaults(template: Path) -> None:
    text = template.read_text()
    if template.name != "hardening.conf":
        named = re.search(r"Written by (tasks/\w+\.py)", "\n".join(text.splitlines()[:2]))
        assert named, template
        assert Path(named[1]).is_file(), template
    assert "default(" not in text


@pytest.mark.parametrize("lock", sorted(Path("requirements").glob("*.txt")))
def test_locks_hold_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()

    assert "://" not in text
    if "overrides" not in lock.name:
        pins = re.findall(r"^[a-z0-9].*==.*$", text, re.MULTILINE)
        assert pins
        assert len(re.findall(r"^[a-z0-9].*==.*\\$", text, re.MULTILINE)) == len(pins)
    assert not Path("uv.lock").exists()


def test_the_settings_reference_is_what_the_settings_are() -> None:
    from inventories.describe import reference  # noqa: PLC0415 - reads best beside its only use

    assert Path("docs/settings.md").read_text() == reference(), "make docs"


def test_the_readme_s_verbs_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE))
    for text in Path("README.md").read_text(), Path("docs/operations.md").read_text(), Path("docs/lab.md").read_text():
        assert set(re.findall(r"`make ([a-z-]+)", text)) <= verbs
