"""Each of the application's units sees the secrets that it needs, and runs with its files as they are now."""

import re
import tomllib
from typing import get_args

import pytest

from app.settings import Settings
from app.table import Language
from inventories import network, services
from inventories.settings import Model, Site
from tests.unit.plans import Plan, plan

SEES = {
    "rag-api": {"database-password", "database-read-password", "token-key"},
    "rag-worker": {"database-password"},
    "rag-index": {"database-read-password"},
    "rag-migrate": {"database-owner-password", "admin-password"},
    "rag-migrate-check": {"database-owner-password"},
}


@pytest.fixture
def app1(prod: Site) -> Plan:
    return plan(prod, prod.machine("app1"))


@pytest.mark.parametrize("unit", SEES)
def test_a_unit_sees_its_own_secrets_and_no_others(app1: Plan, unit: str) -> None:
    text = app1.files[f"/etc/systemd/system/{unit}.service"].content.decode()

    assert set(re.findall(r"^LoadCredential=(.+)$", text, re.MULTILINE)) == SEES[unit]
    assert {f"/etc/credstore/{name}" for name in SEES[unit]} <= set(app1.files)


@pytest.mark.parametrize("unit", ["rag-api", "rag-worker", "rag-index"])
def test_a_unit_is_stale_when_what_it_reads_changed(app1: Plan, unit: str) -> None:
    units = {wanted.name: wanted for wants in app1.called("ensure") for wanted in wants.get("units", ())}

    assert set(units[f"{unit}.service"].reads) == {
        "/etc/rag/rag.toml",
        "/etc/rag/pki/app.crt",
        f"/etc/systemd/system/{unit}.service",
        *(f"/etc/credstore/{name}" for name in SEES[unit]),
    }


def test_the_program_shows_postgresql_its_certificate_and_has_a_role_for_each_use(app1: Plan) -> None:
    database = tomllib.loads(app1.files["/etc/rag/rag.toml"].content.decode())["database"]

    assert (database["owner"], database["reader"]) == ("rag_owner", "rag_read")
    assert (database["ssl_cert"], database["ssl_key"]) == ("/etc/rag/pki/app.crt", "/etc/rag/pki/app.key")


def test_only_the_worker_may_make_namespaces_and_only_those_its_parser_shuts_itself_in(app1: Plan) -> None:
    units = {name: app1.files[f"/etc/systemd/system/{name}.service"].content.decode() for name in SEES}

    allowed = {name: re.findall(r"^RestrictNamespaces=(.+)$", text, re.MULTILINE) for name, text in units.items()}

    assert allowed.pop("rag-worker") == ["yes", "user net"]
    assert set(map(tuple, allowed.values())) == {("yes",)}


def test_each_programs_figures_are_behind_their_own_door(prod: Site, app1: Plan) -> None:
    listen = tomllib.loads(app1.files["/etc/rag/rag.toml"].content.decode())["listen"]
    behind = {open_.door.name: open_.door.backend for open_ in network.doors(prod, prod.machine("app1"))}

    assert behind["metrics"] == listen["api"]
    assert behind["worker_metrics"] == listen["worker_metrics"]
    assert behind["index_metrics"] == listen["index_metrics"]


def test_the_program_takes_what_a_site_may_want(app1: Plan) -> None:
    given = Settings.model_validate(tomllib.loads(app1.files["/etc/rag/rag.toml"].content.decode()))

    assert given.domain == "rag.example.org"
    assert get_args(Language) == get_args(services.Language)


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("nomic-embed-text:v1.5", "search_query: ", "search_document: "),
        ("multilingual-e5-small:q4_0", "query: ", "passage: "),
        ("someone/intfloat-multilingual-e5-base:f16", "query: ", "passage: "),
        ("someone/multilingual-e5-large-instruct:q8_0", "", ""),
        ("snowflake-arctic-embed2:568m", "query: ", ""),
        ("snowflake-arctic-embed:335m", "Represent this sentence for searching relevant passages: ", ""),
        ("bge-m3:567m", "", ""),
    ],
)
def test_a_text_is_embedded_with_the_words_before_it_that_its_model_was_trained_with(
    prod: Site, model: str, query: str, document: str
) -> None:
    site = with_inference(prod, embedding_model=Model(name=model))

    assert prefixes_of(site) == (query, document)


def test_a_site_may_say_what_stands_before_its_texts(prod: Site) -> None:
    site = with_inference(prod, query_prefix='ask "it": \n', document_prefix="")

    assert prefixes_of(site) == ('ask "it": \n', "")


def with_inference(site: Site, **changed: object) -> Site:
    return site.model_copy(update={"inference": site.inference.model_copy(update=changed)})


def prefixes_of(site: Site) -> tuple[str, str]:
    made = plan(site, site.machine("app1")).files["/etc/rag/rag.toml"].content.decode()
    inference = Settings.model_validate(tomllib.loads(made)).inference
    return inference.query_prefix, inference.document_prefix


def test_a_release_that_refuses_the_schema_leaves_what_the_programs_start_with_as_it_was(app1: Plan) -> None:
    called = [name for name, _ in app1.operations]
    before = [wants for name, wants in app1.operations[: called.index("migrated")] if name == "ensure"]

    laid = {file.path for wants in before for file in wants.get("files", ())}

    assert {"/etc/rag/migrate.toml", "/etc/systemd/system/rag-migrate.service"} <= laid
    assert (
        not {"/etc/rag/rag.toml", *(f"/etc/systemd/system/rag-{name}.service" for name in ("api", "worker", "index"))}
        & laid
    )
    migration = app1.files["/etc/systemd/system/rag-migrate.service"].content.decode()
    assert "RAG_CONFIG=/etc/rag/migrate.toml" in migration
    assert app1.files["/etc/rag/migrate.toml"].content == app1.files["/etc/rag/rag.toml"].content
