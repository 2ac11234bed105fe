"""How well the PostgreSQL manual is searched and answered from, with real small models, in the lab or beside it.

The search was tuned with one set of questions; the other was written before any search was run with it.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import httpx

from app import evaluate
from app.evaluate import Measured, load, measured, table
from inventories.embeddings import prefixes
from inventories.lab_state import stand_in
from inventories.settings import Site
from tests.app.conftest import whole_site
from tests.app.site import Models
from tests.bench import report
from tests.bench.report import Figure
from tests.lab import demo
from tests.lab.host import RefusalError
from tests.lab.ollama.check import running

TUNED_WITH, HELD_OUT = "tuned with", "held out"
AREAS = {TUNED_WITH: "evaluation", HELD_OUT: "evaluation, held out"}
QUESTIONS = {
    TUNED_WITH: Path("tests/evaluation/postgresql-manual.jsonl"),
    HELD_OUT: Path("tests/evaluation/postgresql-manual-held-out.jsonl"),
}
# The whole manual at the lab's pace, and a good deal over.
LOADING_SECONDS = 2400

# Whatever was held out is not promised to be found as often, but no less honestly.
HONEST = {"citations verbatim in their passage": 1.0, "refused, of the unanswerable": 0.8}
AT_LEAST = {TUNED_WITH: {"hybrid hit@5": 0.85, **HONEST}, HELD_OUT: HONEST}


def run(site: Site) -> list[Figure]:
    """Load the manual into the lab where it is not there yet, ask every question, print the table; the figures."""
    return _measured(lambda: demo.client(site), demo.manual())


def run_here() -> list[Figure]:
    """The same without the lab: the program and its stores on this computer, with the stand-in for Ollama as built."""
    pages = demo.fetched()
    if not pages:
        needed = f"the pages of Debian's {demo.PACKAGE}, as make bench PART=evaluation fetches them"
        raise RefusalError(f"{demo.MANUAL} = not there; {needed}")
    built = stand_in()
    wanted = prefixes(built.embedding_model.name)
    with running() as url:
        models = Models(
            url, built.chat_model.name, built.embedding_model.name, 384, 4096, wanted.query, wanted.document
        )
        with whole_site(models) as site:

            def signed_in() -> httpx.Client:
                headers = {"Authorization": f"Bearer {site.sign_in().token}"}
                return httpx.Client(base_url=site.base, timeout=180, trust_env=False, headers=headers)

            return _measured(signed_in, pages)


def _measured(sign_in: Callable[[], httpx.Client], pages: list[Path]) -> list[Figure]:
    with closing(sign_in()) as http:
        demo.upload(http, pages)
        demo.wait_until_indexed(http, LOADING_SECONDS)
    sets = {name: load(path) for name, path in QUESTIONS.items()}
    # A sign-in of its own: loading may outlast the first one.
    with closing(sign_in()) as http:
        collection = Measured(http, demo.COLLECTION)
        asked = {name: measured(collection, questions) for name, questions in sets.items()}
    columns = {name: evaluate.figures(sets[name], asked[name], AREAS[name]) for name in sets}
    foreign = [pair for name in sets for pair in zip(sets[name], asked[name], strict=True) if pair[0].language]
    german = evaluate.figures([question for question, _ in foreign], [one for _, one in foreign], "")
    print(table({**columns, "German": german}))
    found = [
        one
        for name, figures in columns.items()
        for one in promised([Figure(**asdict(figure)) for figure in figures], AT_LEAST[name])
    ]
    report.write(found)
    return found


def promised(figures: list[Figure], at_least: Mapping[str, float]) -> list[Figure]:
    """The figures with what is promised of them; hybrid search has the better of its halves for a peer."""
    values = {figure.what: figure.value or 0.0 for figure in figures}
    better = max(values["vector hit@5"], values["lexical hit@5"])
    return [_judged(replace(figure, machine=report.machine()), better, at_least) for figure in figures]


def _judged(figure: Figure, better: float, at_least: Mapping[str, float]) -> Figure:
    if figure.what == "hybrid hit@5":
        least = max(at_least.get(figure.what, 0.0), better)
        figure = replace(figure, peer=better, ratio=round((figure.value or 0.0) / better, 3) if better else None)
    elif figure.what in at_least:
        least = at_least[figure.what]
    else:
        return figure
    return replace(figure, must=f"≥ {least:g}", holds=figure.value is not None and figure.value >= least)
