"""What a search costs beyond the questions it is made of: to the embedding model, to Chroma, to PostgreSQL.

All of it runs on this computer, with a stand-in for the model that answers at once. One person searches.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import numpy as np
from sqlalchemy import Connection, text

from app.store import changes, matching, passages
from app.store.matching import Scope
from app.store.passages import NewPassage
from tests.app.conftest import whole_site
from tests.app.ollama_standin import DIMENSION, EMBED
from tests.app.site import SETTINGS, Person, Site
from tests.bench import report
from tests.bench.report import Figure, at_most
from tests.lab.host import RefusalError

AREA = "search"
PASSAGES, PER_DOCUMENT, WORDS = 20_000, 50, 80
PROMISED_MS = 15.0
VOCABULARY = [f"w{number}x" for number in range(5000)]
# As in a language without its commonest words: the first stands in every sixth passage, the last in one of a hundred.
SHARES = [1 / (rank + 100) for rank in range(len(VOCABULARY))]
CHROMA = "/api/v2/tenants/default_tenant/databases/default_database/collections"


@dataclass(frozen=True)
class Stage:
    """A filled site, and who searches there."""

    site: Site
    person: Person
    collection: str
    id: UUID


def run(repeats: int) -> list[Figure]:
    """Fill a site, search it, and ask its parts the same; the figures."""
    if not Path("build/venv/chroma/bin/chroma").exists():
        raise RefusalError("build/venv/chroma = not there; Chroma's program; make build/venv/chroma/ready")
    with whole_site() as site:
        searches, parts = _measured(filled(site), repeats)
    where = report.machine()
    found = [
        at_most(AREA, "one search, p50", statistics.median(searches), "ms", None, repeats, where),
        at_most(AREA, "one search, p95", p95(searches), "ms", None, repeats, where),
        at_most(AREA, "asking the model, Chroma and PostgreSQL by hand, p95", p95(parts), "ms", None, repeats, where),
        at_most(AREA, "added to that, p95", p95(searches) - p95(parts), "ms", PROMISED_MS, repeats, where),
    ]
    print(report.table(("", "ms"), [(figure.what, f"{figure.value:.1f}") for figure in found]))
    report.write(found)
    return found


def filled(site: Site) -> Stage:
    """The site with a collection of 20,000 passages."""
    person = site.sign_in()
    collection = person.make_collection()
    with site.database.connect() as connection:
        found = connection.execute(text("select id from collections where name = :name"), {"name": collection})
        collection_id: UUID = found.scalar_one()
    made, noise = random.Random(1), np.random.default_rng(1)  # noqa: S311 - the same passages each time
    for _ in range(PASSAGES // PER_DOCUMENT):
        texts = [words(made, WORDS) for _ in range(PER_DOCUMENT)]
        vectors = noise.standard_normal((PER_DOCUMENT, DIMENSION)).astype(np.float32)
        new = [NewPassage(place, one, ("Made",), {}, vectors[place]) for place, one in enumerate(texts)]
        with site.database.begin() as connection:
            _add_document(connection, collection_id, new)
    with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze passages"))
    site.wait_until_in_step(seconds=600)
    return Stage(site, person, collection, collection_id)


def _add_document(connection: Connection, collection_id: UUID, new: Sequence[NewPassage]) -> None:
    document_id = uuid4()
    connection.execute(
        text(
            "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
            " values (:id, :collection, 'Made', :name, 'text/plain', :name, 1, 'x', 'indexed')"
        ),
        {"id": document_id, "collection": collection_id, "name": document_id.hex},
    )
    passages.replace(connection, collection_id, document_id, EMBED, new)
    changes.append(connection, "indexed", collection_id, document_id, len(new))


def _measured(stage: Stage, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each search, and of the same questions to its parts, in turn: both meet the same moments."""
    made = random.Random(2)  # noqa: S311 - the same questions each time
    searches: list[float] = []
    parts: list[float] = []
    with httpx.Client(trust_env=False, timeout=30) as http, stage.site.database.connect() as connection:
        index = _index(http, stage)
        for number in range(repeats + 20):
            question = words(made, 6)
            began = time.monotonic()
            stage.person.search(stage.collection, question)
            between = time.monotonic()
            _ask_the_parts(http, index, connection, stage, question)
            # The first ones load libraries and fill caches.
            if number >= 20:
                searches.append((between - began) * 1000)
                parts.append((time.monotonic() - between) * 1000)
    return searches, parts


def _ask_the_parts(http: httpx.Client, index: str, connection: Connection, stage: Stage, question: str) -> None:
    embedded = http.post(f"{stage.site.ollama.url}/api/embed", json={"model": EMBED, "input": question}).json()
    limit = SETTINGS.answering.candidates
    wanted = {"query_embeddings": embedded["embeddings"], "n_results": limit, "include": ["distances"]}
    http.post(f"{index}/query", json=wanted).raise_for_status()
    weights = dict.fromkeys(question.split(), 1.0)
    matching.matching(connection, Scope((stage.id,)), weights, limit)


def _index(http: httpx.Client, stage: Stage) -> str:
    base = f"http://127.0.0.1:{stage.site.environment['CHROMA_PORT']}{CHROMA}"
    (found,) = [one["id"] for one in http.get(base).json() if one["name"] == f"c-{stage.id}"]
    return f"{base}/{found}"


def words(made: random.Random, count: int) -> str:
    """So many words, common ones more often."""
    return " ".join(made.choices(VOCABULARY, SHARES, k=count))


def p95(milliseconds: Sequence[float]) -> float:
    """What one in twenty takes longer than."""
    return statistics.quantiles(milliseconds, n=20)[-1]
