"""A site with a second repository: refused in one line when it cannot be; what opens it is the copy's alone."""

import re
import tomllib
from typing import Any

import pytest
from pydantic import SecretStr

from inventories.settings import Backup, SettingsError, Site
from tests.unit.plans import Plan, plan
from tests.unit.test_settings import KEY

REST, SFTP = "rest:https://nas.example.org/rag", "sftp:rag@nas.example.org:/srv/rag"
OURS = "a private key"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a folder here": ({"second_repository": "/mnt/nas"}, "second_repository = /mnt/nas; an address that survives"),
    "a password": (
        {"second_repository": "rest:https://rag:hunter2@nas/rag"},
        "second_repository = rest:https://nas/rag with a password; an address alone",
    ),
    "a CA for plain text": (
        {"second_repository": "rest:http://nas/rag", "second_repository_ca": "any"},
        "second_repository_ca = given; a second_repository with https:// is needed, not 'rest:http://nas/rag'",
    ),
    "a CA that is none": (
        {"second_repository": REST, "second_repository_ca": "/etc/ssl/ca.crt"},
        "second_repository_ca = no certificate; -----BEGIN CERTIFICATE-----",
    ),
    "ssh with whoever answers": ({"second_repository": SFTP}, "second_repository_host_key = ''; a second_repository"),
    "a host key without ssh": (
        {"second_repository": REST, "second_repository_host_key": KEY},
        "second_repository_host_key = 'ssh-ed25519",
    ),
    "a line of ssh-keyscan": (
        {"second_repository": SFTP, "second_repository_host_key": f"nas {KEY}"},
        "second_repository_host_key = 'nas ssh-ed25519",
    ),
}


def with_second(site: Site, keys: dict[str, str] | None = None, **backup: Any) -> Site:
    values = {name: getattr(site, name) for name in Site.model_fields}
    known = site.secrets | {name: SecretStr(value) for name, value in (keys or {}).items()}
    return Site(**values | {"backup": Backup(**backup), "secrets": known})


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(prod: Site, case: str) -> None:
    wrong, line = REFUSED[case]

    with pytest.raises(SettingsError) as refused:
        with_second(prod, **wrong)

    assert line in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert re.fullmatch(r"[^\n]+ = [^\n]+; [^\n]+; see docs/settings.md", str(refused.value))


def test_a_ca_with_its_private_key_is_refused_and_without_it_taken(prod: Site) -> None:
    certificate, key = prod.secret("authority-certificate"), prod.secret("authority-key")
    assert with_second(prod, second_repository=REST, second_repository_ca=certificate)

    with pytest.raises(SettingsError, match="with a private key; certificates alone are needed"):
        with_second(prod, second_repository=REST, second_repository_ca=certificate + key)


def test_over_sftp_the_sites_own_key_is_needed(prod: Site) -> None:
    with pytest.raises(SettingsError, match=r"secrets = no second-repository-key; the private key .* < KEYFILE"):
        with_second(prod, second_repository=SFTP, second_repository_host_key=KEY)


def units_with(planned: Plan, word: str) -> set[str]:
    files = planned.files.items()
    return {path for path, file in files if "/systemd/" in path and word in file.content.decode()}


def test_what_opens_it_is_the_copys_credential_alone_and_what_it_is_known_by_lies_beside(prod: Site) -> None:
    given = {"second-repository-key": OURS, "second-repository-environment": "A=b"}
    site = with_second(prod, given, second_repository=SFTP, second_repository_host_key=f"{KEY} root@nas")
    planned = plan(site, site.machine("ops1"))
    files = planned.files

    assert files["/etc/rag/second-repository-known_hosts"].content.decode().split() == [
        "second-repository",
        *KEY.split()[:2],
    ]
    second = tomllib.loads(files["/etc/rag/backup.toml"].content.decode())["second"]
    assert second == {"repository": SFTP, "ca": "", "known_hosts": "/etc/rag/second-repository-known_hosts"}
    for name, value in given.items():
        assert units_with(planned, name) == {"/etc/systemd/system/rag-copy.service"}
        assert files[f"/etc/credstore/{name}"].content.decode() == f"{value}\n"
        assert files[f"/etc/credstore/{name}"].mode == "600"
    assert [path for path, file in files.items() if OURS.encode() in file.content] == [
        "/etc/credstore/second-repository-key"
    ]


def test_another_place_gets_the_offline_key_too_and_its_server_may_be_away(prod: Site) -> None:
    made = [
        plan(site, site.machine("ops1")).called("keyed") for site in (prod, with_second(prod, second_repository=REST))
    ]

    without, with_it = ([wants for wants in calls if wants["arguments"] == "--elsewhere"] for calls in made)
    assert without == []
    (wants,) = with_it
    assert (wants["place"], wants["_ignore_errors"]) == (REST, True)
    # Those of our own host know nothing of it.
    assert all(not calls.get("credentials") for calls in made[1] if calls is not wants)


def test_the_ca_lies_on_the_backup_host_and_goes_with_its_setting(prod: Site) -> None:
    certificate = prod.secret("authority-certificate")
    planned = plan(with_second(prod, second_repository=REST, second_repository_ca=certificate), prod.machine("ops1"))
    bare = plan(prod, prod.machine("ops1"))
    gone = {path for wants in bare.called("ensure") for path in wants.get("absent", ())}

    assert planned.files["/etc/rag/second-repository-ca.crt"].content.decode() == certificate
    assert {
        "/etc/rag/second-repository-ca.crt",
        "/etc/rag/second-repository-known_hosts",
        "/etc/credstore/second-repository-key",
        "/etc/credstore/second-repository-environment",
    } <= gone
