"""How well the PostgreSQL manual is searched and answered from in the lab, with real small models.

The search was tuned with every second question; the others say whether that holds for questions it has not seen.
"""

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from app import evaluate
from app.evaluate import Measured, load, measured, table
from inventories.settings import Site
from tests.bench import report
from tests.bench.report import Figure
from tests.lab import demo

AREA = "evaluation"
QUESTIONS = Path("tests/evaluation/postgresql-manual.jsonl")
# The whole manual at the lab's pace, and a good deal over.
LOADING_SECONDS = 2400

AT_LEAST = {
    "hybrid hit@5": 0.85,
    "citations verbatim in their passage": 1.0,
    "refused, of the unanswerable": 0.8,
}


def run(site: Site) -> list[Figure]:
    """Load the manual where it is not there yet, ask every question, print the table; the figures."""
    questions = load(QUESTIONS)
    pages = demo.manual()
    with closing(demo.client(site)) as http:
        demo.upload(http, pages)
        demo.wait_until_indexed(http, LOADING_SECONDS)
    # A sign-in of its own: loading may outlast the first one.
    with closing(demo.client(site)) as http:
        asked = measured(Measured(http, demo.COLLECTION), questions)
    columns = {
        name: evaluate.figures(questions[start::step], asked[start::step], AREA)
        for name, start, step in (("all", 0, 1), ("tuned with", 0, 2), ("others", 1, 2))
    }
    print(table(columns))
    found = promised([Figure(**asdict(one)) for one in columns["all"]])
    report.write(found)
    return found


def promised(figures: list[Figure]) -> list[Figure]:
    """The figures with what is promised of them; hybrid search has the better of its halves for a peer."""
    values = {figure.what: figure.value or 0.0 for figure in figures}
    better = max(values["vector hit@5"], values["lexical hit@5"])
    return [_judged(replace(figure, machine=report.machine()), better) for figure in figures]


def _judged(figure: Figure, better: float) -> Figure:
    least = AT_LEAST.get(figure.what)
    if least is None:
        return figure
    holds = figure.value is not None and figure.value >= least
    judged = replace(figure, must=f"≥ {least:g}", holds=holds)
    if figure.what != "hybrid hit@5" or not better or figure.value is None:
        return judged
    return replace(judged, peer=better, ratio=round(figure.value / better, 3), holds=holds and figure.value >= better)
