"""The handbook's table of figures is what the programs show."""

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app import metrics
from tests.unit.sites import ROOT

PROGRAMS = {"rag-api": metrics.API, "rag-worker": metrics.WORKER, "rag-index": metrics.INDEX}
SHOWN = [figure for figure in vars(metrics).values() if isinstance(figure, Counter | Gauge | Histogram)]


def described() -> dict[str, list[tuple[str, str, str]]]:
    """By program: name, kind and labels of each row."""
    text = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| `(rag_\w+)` \| (\w+) \| ([^|]*) \| (rag-\w+) \| [^|]+ \|$", text, re.MULTILINE)
    return {
        program: sorted((name, kind, labels.strip()) for name, kind, labels, of in rows if of == program)
        for program in PROGRAMS
    }


def of(registry: CollectorRegistry) -> list[tuple[str, str, str]]:
    names = {family.name for family in registry.collect()}
    found = []
    for figure in SHOWN:
        (family,) = figure.describe()
        if family.name in names:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append((name, family.type, ", ".join(f"`{label}`" for label in figure._labelnames)))
    return sorted(found)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_figure_of_a_program_is_in_the_handbook_with_its_kind_and_labels(program: str) -> None:
    assert described()[program] == of(PROGRAMS[program])


def test_no_figure_belongs_to_no_program() -> None:
    assert len(SHOWN) == sum(len(rows) for rows in described().values())
