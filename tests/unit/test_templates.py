"""Every file that a machine gets is complete, says who wrote it, and its services are locked down."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from jinja2 import Environment, UndefinedError, meta

from inventories.settings import Site
from tasks import wants
from tests.unit.plans import Plan, plan
from tests.unit.sites import ROOT

TEMPLATES = sorted(
    path.relative_to(wants.TEMPLATES).as_posix() for path in wants.TEMPLATES.rglob("*") if path.is_file()
)
# Their programs read nothing but the value itself.
BARE = {"/etc/hostname", "/etc/haproxy/no-service.http"}
# Not left on a machine: a program that it is asked with.
ASKED_WITH = {"patroni/member.py"}
SECRET = ("/etc/credstore/", "/etc/sudoers.d/", "/etc/rag/pki/", "authorized_keys", "/var/lib/rag-backup/site/")


@pytest.fixture(scope="module")
def plans(every_site: dict[str, Site]) -> dict[str, Plan]:
    """What each machine of each site shall hold."""
    return {
        f"{name}/{machine.name}": plan(site, machine) for name, site in every_site.items() for machine in site.machines
    }


def test_every_template_is_used_by_a_machine_of_one_of_the_sites(plans: dict[str, Plan]) -> None:
    used = {template for made in plans.values() for template in made.templates}
    included = {
        name
        for template in used
        if template.endswith(".j2")
        for name in meta.find_referenced_templates(Environment().parse((wants.TEMPLATES / template).read_text()))  # noqa: S701
    }

    assert used | included | ASKED_WITH == set(TEMPLATES)


def test_a_setting_that_a_template_names_and_nobody_gives_stops_the_deploy() -> None:
    with pytest.raises(UndefinedError, match="'ssh' is undefined"):
        wants.rendered("access/sshd.conf.j2")


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_hides_a_missing_setting_behind_a_default(template: str) -> None:
    assert not re.search(r"default\(|is defined", (wants.TEMPLATES / template).read_text())


def test_every_file_says_in_its_first_lines_which_task_wrote_it(plans: dict[str, Plan]) -> None:
    wrong = set()
    for made in plans.values():
        for path, file in made.files.items():
            if path in BARE or any(part in path for part in SECRET):
                continue
            first = b"\n".join(file.content.splitlines()[:2]).decode()
            author = re.search(r"Written by (tasks/\w+\.py);", first)
            if not author or not (ROOT / author[1]).is_file():
                wrong.add(path)

    assert not wrong


def test_every_template_names_the_task_that_uses_it(plans: dict[str, Plan]) -> None:
    users = {template: module for made in plans.values() for template, module in made.templates.items()}

    assert not {
        template
        for template, module in users.items()
        if f"/{template.rpartition('/')[2]}" not in {path[path.rindex("/") :] for path in BARE}
        and f"Written by {module.replace('.', '/')}.py;" not in (wants.TEMPLATES / template).read_text()
    }


def test_no_secret_lies_in_a_file_that_others_may_read(plans: dict[str, Plan], every_site: dict[str, Site]) -> None:
    for name, made in plans.items():
        site = every_site[name.partition("/")[0]]
        hidden = [site.secret(secret) for secret in site.secrets if not secret.endswith("-certificate")]
        for path, file in made.files.items():
            if any(value.encode() in file.content for value in hidden):
                assert (file.mode, file.owner) == ("600", "root"), path


def test_the_folders_of_the_backups_lie_in_one_of_roots(plans: dict[str, Plan]) -> None:
    made = [
        entry
        for made in plans.values()
        for _, wants in made.operations
        for entry in wants.get("directories", ())
        if entry.path.startswith("/var/lib/rag-backup")
    ]
    # Their user could put a link in the place of one, and root would follow it.
    assert {(entry.owner, entry.mode) for entry in made if entry.path == "/var/lib/rag-backup"} == {("root", "751")}
    assert {entry.owner for entry in made if entry.path != "/var/lib/rag-backup"} == {"rag-backup"}


def test_the_keys_of_the_authorities_never_leave_the_controller(
    plans: dict[str, Plan], every_site: dict[str, Site]
) -> None:
    for name, made in plans.items():
        site = every_site[name.partition("/")[0]]
        keys = [site.secret(f"{authority}-key").encode() for authority in ("authority", "etcd-authority")]
        assert not [path for path, file in made.files.items() if any(key in file.content for key in keys)]


def test_the_programs_configuration_is_what_the_program_accepts(plans: dict[str, Plan]) -> None:
    from app.settings import Settings  # noqa: PLC0415 - the seam between the deploy and the program is this file alone

    made = [made.files["/etc/rag/rag.toml"] for made in plans.values() if "/etc/rag/rag.toml" in made.files]

    assert len(made) == 6
    for file in made:
        assert Settings.model_validate(tomllib.loads(file.content.decode()))


def test_the_backups_configuration_is_what_their_program_accepts(plans: dict[str, Plan]) -> None:
    from app.backup.settings import Settings  # noqa: PLC0415 - as above

    made = [made.files["/etc/rag/backup.toml"] for made in plans.values() if "/etc/rag/backup.toml" in made.files]

    assert len(made) == 4
    for file in made:
        assert Settings.model_validate(tomllib.loads(file.content.decode()))


def units(made: Plan) -> dict[str, str]:
    return {
        Path(path).name: file.content.decode()
        for path, file in made.files.items()
        if re.fullmatch(r"/etc/systemd/system/[\w-]+\.service", path)
    }


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_every_service_of_ours_is_locked_down(plans: dict[str, Plan], tmp_path: Path) -> None:
    files = {}
    for name, made in plans.items():
        for unit, text in units(made).items():
            files[unit, "gpu" if "DeviceAllow=/dev/nvidia0" in text else "plain"] = (name, text)
    assert {unit for unit, _ in files} >= {
        "rag-api.service",
        "rag-worker.service",
        "rag-chroma.service",
        "ollama.service",
    }
    assert ("ollama.service", "gpu") in files

    for (unit, kind), (_, text) in files.items():
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        (folder / unit).write_text(text)
    scores = {}
    for unit, kind in files:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", tmp_path / kind / unit],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
        assert found, done.stderr
        scores[unit, kind] = float(found[1])

    # 0 is locked down, 10 is root's own; Debian's Patroni, which nobody locked down, has 9.2.
    assert {key: score for key, score in scores.items() if score > 2.5} == {}


def test_every_directive_of_our_units_is_one_that_systemd_knows(plans: dict[str, Plan], tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for made in plans.values():
        for unit, text in units(made).items():
            # The programs are not on this machine.
            (tmp_path / unit).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *sorted(tmp_path.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert not [line for line in done.stderr.splitlines() if str(tmp_path) in line]


def test_a_unit_restarts_when_any_file_of_its_own_changes(plans: dict[str, Plan]) -> None:
    for name, made in plans.items():
        read = {
            (unit.name, path)
            for wants in made.called("ensure")
            for unit in wants.get("units", ())
            for path in unit.reads
        }
        for unit in units(made):
            if any(unit == started for started, _ in read):
                assert (unit, f"/etc/systemd/system/{unit}") in read, f"{name} {unit}"
