"""A next embedding model: the inference hosts hold it beside the present one, and the program knows both."""

import tomllib

import pytest

from app.settings import Settings
from inventories.settings import Inference, Model, SettingsError, Site
from tests.unit.plans import plan

NEXT = {"next_embedding_model": Model(name="bge-m3:latest"), "next_embedding_dimension": 1024}


@pytest.fixture
def between(prod: Site) -> Site:
    """A site whose file names a model to go to."""
    return prod.model_copy(update={"inference": prod.inference.model_copy(update=NEXT)})


def test_inference_hosts_hold_the_next_model_too(prod: Site, between: Site) -> None:
    held = [
        [model.name for model in plan(site, site.machine("gpu1")).called("models_present")[0]["models"]]
        for site in (prod, between)
    ]

    assert held == [
        ["llama3.1:8b", "nomic-embed-text:v1.5"],
        ["llama3.1:8b", "nomic-embed-text:v1.5", "bge-m3:latest"],
    ]


def test_the_program_knows_both_models_and_what_each_wants_before_a_text(between: Site) -> None:
    rendered = plan(between, between.machine("app1")).files["/etc/rag/rag.toml"].content.decode()
    first, following = Settings.model_validate(tomllib.loads(rendered)).inference.embedders

    assert (str(first), first.query_prefix) == ("nomic-embed-text:v1.5 (768)", "search_query: ")
    assert (str(following), following.query_prefix) == ("bge-m3:latest (1024)", "")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"next_embedding_model": Model(name="bge-m3:latest")}, "next_embedding_dimension = None; the length"),
        ({"next_embedding_dimension": 1024}, "next_embedding_dimension = 1024; none is needed without a next model"),
        (
            NEXT | {"next_embedding_model": Model(name="nomic-embed-text:v1.5")},
            "next_embedding_model = nomic-embed-text:v1.5; another model is needed, or none",
        ),
    ],
)
def test_half_a_next_model_is_refused(named: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Inference.model_validate(named)
