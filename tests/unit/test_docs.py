"""The pages are true: every setting, verb, path, unit and command in them exists."""

import re
import subprocess
from pathlib import Path

import pytest

from inventories import describe
from inventories.settings import Frozen, Site
from tests.unit.plans import plan
from tests.unit.sites import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
VERBS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
# Debian's, and the timer that takes unconfirmed firewall rules back.
DEBIANS = {
    "rag-firewall-undo",
    "postgresql",
    "etcd",
    "haproxy",
    "keepalived",
    "patroni",
    "nftables",
    "chrony",
    "prometheus-node-exporter",
}


def test_the_settings_reference_is_what_the_settings_are() -> None:
    assert (ROOT / "docs/settings.md").read_text() == describe.reference(), "make docs"


def test_every_setting_of_every_group_is_in_the_reference() -> None:
    groups = Frozen.__subclasses__()
    assert len(groups) == 15

    sections = re.split(r"^## ", describe.reference(), flags=re.MULTILINE)
    described = {text.splitlines()[0]: text for text in sections[1:]}

    after = {"What each size survives", "What PostgreSQL gets of a machine"}
    assert set(described) == {group.__name__ for group in groups} | after
    for group in groups:
        assert set(re.findall(r"^\| (\w+) \|", described[group.__name__], re.MULTILINE)) - {"setting"} == set(
            group.model_fields
        )


def test_every_setting_says_why_it_is_there_and_shows_no_inside_of_a_library() -> None:
    rows = [line for line in describe.reference().splitlines() if line.startswith("| ")]

    assert not [row for row in rows if re.search(r"pydantic|FieldInfo|Optional\[|Annotated|\|\s*\|$", row)]
    settings = rows[: next(place for place, row in enumerate(rows) if row.startswith("| setting | small"))]
    assert len({row.count(" | ") for row in settings}) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_verb_of_a_page_is_one_of_the_makefiles(page: Path) -> None:
    named = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", page.read_text(), re.MULTILINE))

    assert named <= VERBS


def test_make_help_lists_every_verb() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert phony

    listed = {line.split()[0] for line in shown.splitlines() if line.strip()}

    assert {"demo", "test", "lab", "lab-down", "secrets", "release", "deploy"} <= listed
    assert set(phony[1].split()) - {"help"} <= listed | {"locks"}


def test_a_deploy_of_a_site_that_has_no_file_is_refused() -> None:
    recipe = re.search(r"^deploy:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    guard = recipe[1].splitlines()[0].strip().removeprefix("@").replace("$(SITE)", "nosuch")

    done = subprocess.run(["sh", "-c", guard], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == "SITE = nosuch; a file inventories/nosuch is needed; ls inventories\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_and_every_path_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", re.sub(r"`[^`\n]*`", "", text)) if "://" not in link]
    paths = re.findall(r"`((?:tests|docs|tasks|templates|inventories|requirements)/[\w./-]+\w)`", text)

    assert not [link for link in links if not (page.parent / link).exists()]
    # The operator makes that one.
    assert not [path for path in paths if not (ROOT / path).exists() and path != "inventories/known_hosts"]


def test_the_files_that_the_handbook_names_are_laid_down_by_the_deploy(prod: Site) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    laid = {path for machine in prod.machines for path in plan(prod, machine).files}
    # Debian's own, and the keys and certificates that are made on the machine.
    others = ("/etc/rag/pki/",)

    named = set(re.findall(r"/etc/[\w./-]+\w", text))

    assert len(named) >= 2
    assert not {path for path in named if path not in laid and not path.startswith(others)}


def test_the_units_that_the_handbook_names_are_those_of_the_deploy(prod: Site) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    units = {
        Path(path).stem
        for machine in prod.machines
        for path in plan(prod, machine).files
        if re.fullmatch(r"/etc/systemd/system/[\w-]+\.service", path)
    }
    started = {
        unit.name.removesuffix(".service")
        for machine in prod.machines
        for wants in plan(prod, machine).called("ensure")
        for unit in wants.get("units", ())
    }

    named = set(re.findall(r"`((?:rag|prometheus)-[a-z-]+)`", text))
    commanded = set(re.findall(r"systemctl (?:start|stop|restart|reload|status) ([a-z-]+)", text))

    assert {"rag-api", "rag-worker", "rag-index", "rag-chroma"} <= named
    assert named | commanded <= units | started | DEBIANS


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    titles = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert titles[0] in {"Unreleased", "[Unreleased]"}
    assert re.search(r"^## \[?Unreleased\]?\n\n### (Added|Changed|Fixed|Removed|Security)\n- ", text, re.MULTILINE)


def test_the_licence_that_the_package_names_is_the_one_that_lies_there() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()

    text = (ROOT / "LICENSE").read_text()

    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_ci_types_the_same_command_as_a_person() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    script = ROOT / ".ci/run"

    assert re.findall(r"run: (.*)", workflow) == ["sudo make test"]
    assert "exec make test" in script.read_text()
    assert script.stat().st_mode & 0o111
    # An action is pinned by what it is, since a tag can be moved.
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use) for use in re.findall(r"uses: (.*)", workflow))


def test_no_tracked_text_names_a_path_of_the_computer_that_it_was_written_on() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    # Where the checkout itself lies, when that is a place of somebody's own.
    own = [place for place in (str(ROOT), str(Path.home())) if place.count("/") > 1]

    found = {
        name
        for name in tracked
        if (ROOT / name).is_file() and any(place.encode() in (ROOT / name).read_bytes() for place in own)
    }

    assert not found
