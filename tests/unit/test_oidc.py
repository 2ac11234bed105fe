"""A site with a provider: refused in one line when it cannot be, and rendered for the program as it is wanted."""

import io
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.oidc import settings as program
from app.settings import Settings
from inventories import network, secrets
from inventories.settings import Oidc, SettingsError, Site
from tests.unit.plans import plan
from tests.unit.sites import ROOT

SECRET = "what the provider made"
PROVIDER = Oidc(
    issuer="https://id.example.org:8443/realms/work",
    client_id='rag "1"',
    label="Ørsted & Söhne",
    admin_groups=("rag-admins",),
    reader_groups=("all staff", "späte Schicht"),
    create=True,
    email_domains=("example.org",),
)


def with_provider(site: Site, **changes: Any) -> Site:
    provider = Oidc(**{name: getattr(PROVIDER, name) for name in Oidc.model_fields} | changes)
    known = site.secrets | {"oidc-client-secret": SecretStr(SECRET)}
    values = {name: getattr(site, name) for name in Site.model_fields}
    return Site(**values | {"oidc": provider, "secrets": known})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"issuer": "http://id.example.org"}, "oidc.issuer = 'http://id.example.org'; an https address"),
    "a name": ({"issuer": "id.example.org"}, "oidc.issuer = 'id.example.org'; an https address"),
    "a query": ({"issuer": "https://id.example.org/?a=b"}, "oidc.issuer = 'https://id.example.org/?a=b'; an https"),
    "no client": ({"client_id": ""}, "oidc.client_id = ''; string should have at least 1 character"),
    "no openid": ({"scopes": "profile"}, "oidc.scopes = 'profile'; openid among them is needed"),
    "anybody at all": (
        {"admin_groups": (), "reader_groups": (), "email_domains": ()},
        "oidc.create = True; groups or email_domains that say who is let in are needed",
    ),
    "a domain with a name": ({"email_domains": ("a@example.org",)}, "oidc.email_domains.0 = 'a@example.org'; string"),
    "an administrator by an address": ({"new_role": "admin"}, "oidc.new_role = 'admin'; input should be 'reader' or"),
    "no CA": (
        {"ca_file": Path("nowhere.crt")},
        "oidc.ca_file = nowhere.crt; a file of certificates is needed (No such",
    ),
    "a CA that is none": ({"ca_file": ROOT / "Makefile"}, "; a file of certificates is needed ("),
    "another name": ({"isuer": ""}, "oidc.isuer = ''; no setting has this name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(prod: Site, case: str) -> None:
    wrong, line = REFUSED[case]

    with pytest.raises(SettingsError) as refused:
        with_provider(prod, **wrong)

    assert line in str(refused.value)
    assert re.fullmatch(r"[^\n]+ = [^\n]+; [^\n]+; see docs/settings.md", str(refused.value))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"issuer": "http://id.example.org"}, "oidc.issuer = 'http://id.example.org'; an https address"),
        ({"scopes": "email"}, "oidc.scopes = 'email'; openid among them"),
        ({"create": True}, "oidc.create = true; groups or email_domains"),
    ],
)
def test_the_program_refuses_the_same(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(line)):
        program.Oidc(**{"issuer": "https://id.example.org", "client_id": "rag"} | wrong)


def test_a_provider_without_its_secret_is_refused_before_anything_is_touched(prod: Site) -> None:
    values = {name: getattr(prod, name) for name in Site.model_fields}

    with pytest.raises(SettingsError) as refused:
        Site(**values | {"oidc": PROVIDER})

    assert "make keep-secret SITE=prod NAME=oidc-client-secret" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_program_takes_every_setting_as_the_site_wants_it(prod: Site) -> None:
    site = with_provider(prod)
    files = plan(site, site.machine("app1")).files
    given = Settings.model_validate(tomllib.loads(files["/etc/rag/rag.toml"].content.decode())).oidc

    assert given
    same = set(Oidc.model_fields) - {"ca_file"}
    assert set(program.Oidc.model_fields) - same == {"ca_file", "deadline_seconds"}
    assert {name: getattr(given, name) for name in same} == {name: getattr(PROVIDER, name) for name in same}
    assert given.ca_file == ""


def test_the_secret_is_a_credential_of_the_api_alone_and_in_no_file_that_is_rendered(prod: Site) -> None:
    site = with_provider(prod)
    files = plan(site, site.machine("app1")).files
    units = {path: file.content.decode() for path, file in files.items() if path.endswith(".service")}

    assert {path for path, text in units.items() if "oidc-client-secret" in text} == {
        "/etc/systemd/system/rag-api.service"
    }
    assert [path for path, file in files.items() if SECRET.encode() in file.content] == [
        "/etc/credstore/oidc-client-secret"
    ]
    assert files["/etc/credstore/oidc-client-secret"].mode == "600"


def test_a_ca_of_the_provider_s_is_brought_along_and_its_change_restarts_the_api(prod: Site, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text(prod.secret("authority-certificate"))
    site = with_provider(prod, ca_file=authority)
    planned = plan(site, site.machine("app1"))
    units = {unit.name: unit for wants in planned.called("ensure") for unit in wants.get("units", ())}

    assert planned.files["/etc/rag/oidc-ca.crt"].content == authority.read_bytes()
    assert 'ca_file = "/etc/rag/oidc-ca.crt"' in planned.files["/etc/rag/rag.toml"].content.decode()
    assert "/etc/rag/oidc-ca.crt" in units["rag-api.service"].reads
    assert "/etc/rag/oidc-ca.crt" not in units["rag-worker.service"].reads


def test_without_a_provider_nothing_of_one_stays(prod: Site) -> None:
    planned = plan(prod, prod.machine("app1"))
    gone = {path for wants in planned.called("ensure") for path in wants.get("absent", ())}

    assert prod.oidc is None
    assert {"/etc/credstore/oidc-client-secret", "/etc/rag/oidc-ca.crt"} <= gone
    assert "oidc" not in planned.files["/etc/rag/rag.toml"].content.decode()
    assert "oidc" not in planned.files["/etc/systemd/system/rag-api.service"].content.decode()


def test_that_app_hosts_ask_the_provider_is_declared_and_lets_nothing_in(prod: Site) -> None:
    site = with_provider(prod)
    added = set(network.flows(site)) - set(network.flows(prod))

    assert [(flow.source, flow.target, flow.port) for flow in added] == [("app", network.PROVIDER, 8443)]
    for machine in site.machines:
        assert network.openings(site, machine) == network.openings(prod, prod.machine(machine.name))


def kept(monkeypatch: pytest.MonkeyPatch, *arguments: str, value: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(value))
    return secrets.main(["--keep", *arguments])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    monkeypatch.setenv("RAG_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("RAG_AGE_KEY", str(tmp_path / "key"))
    secrets.create("prod")
    return lambda: {name: value.get_secret_value() for name, value in secrets.secrets_of("prod").items()}


def test_the_provider_s_secret_is_kept_beside_the_others_and_not_said(
    own: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = own()

    assert kept(monkeypatch, "prod", "oidc-client-secret", value=f"{SECRET}\n") == 0
    assert SECRET not in "".join(capsys.readouterr())
    assert own() == before | {"oidc-client-secret": SECRET}
    assert kept(monkeypatch, "prod", "oidc-client-secret", value="a later one") == 0
    assert secrets.create("prod") == []
    assert own() == before | {"oidc-client-secret": "a later one"}


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["prod", "oidc-client-secret"], ""),
        (["prod", "oidc-client-secret"], "two\nlines"),
        (["prod", "token-key"], "mine"),
        (["prod", "none"], "x"),
        (["prod"], "x"),
        ([], "x"),
        (["no-site", "oidc-client-secret"], "x"),
    ],
)
def test_what_is_no_secret_of_somebody_else_s_is_refused_in_one_line(
    own: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    value: str,
) -> None:
    before = own()

    assert kept(monkeypatch, *arguments, value=value) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert own() == before


def test_the_lock_of_the_tests_provider_pins_by_hash_and_names_no_registry() -> None:
    lock = json.loads((ROOT / "tests/app/provider/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert len(packages) > 50
    assert not [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")]
    assert not [name for name, package in packages.items() if "resolved" in package]
