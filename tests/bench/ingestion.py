"""Documents on their way in: the pace of ingestion beside the embedder alone, and an index filled from nothing."""

import json
import secrets
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from tests.bench import programs
from tests.bench.cluster import until
from tests.bench.made import AREA, Made, upload, wait_until_indexed
from tests.bench.report import Figure, at_least, at_most
from tests.lab.host import LabError, say

# Long ones, as handbooks are, and short ones, as notes and messages are: documents and the passages of each.
LONG, SHORT = (60, 12), (120, 1)
REPEATS = 5
REFILLED = 20_000
MADE_UP_EACH = 40


def ingestion(made: Made, where: str) -> list[Figure]:
    """Documents through the queue, then the same passages to the embedder alone, from as many threads; the medians."""
    figures = []
    for kind, what, sizes in (("pace", "ingestion", LONG), ("note", "ingestion, documents of one passage", SHORT)):
        # What else the computer does for a minute makes one of them what it is not.
        rounds = [_pace(made, f"{kind}-{number}", *sizes) for number in range(REPEATS)]
        pace, ratio = median(one for one, _ in rounds), median(whole / alone for whole, alone in rounds)
        figures.append(at_most(AREA, what, pace, "passages/s", None, REPEATS, where))
        figures.append(at_least(AREA, f"{what}, over the embedder alone", ratio, "", 0.85, REPEATS, where))
    return figures


def _pace(made: Made, kind: str, documents: int, each: int) -> tuple[float, float]:
    """Passages in a second, from the first upload to the last one indexed, and by the embedder alone."""
    words = [f"w{secrets.token_hex(3)}" for _ in range(2000)]
    texts = {f"{kind}-{n}.txt": "\n\n".join(_paragraph(words) for _ in range(each)) for n in range(documents)}
    before = _passages(made)
    began = time.time()
    upload(made, texts)
    wait_until_indexed(made, 900)
    whole = _last_indexed(made, kind) - began
    passages = _passages(made) - before
    alone = _embedded_alone(made, kind, passages)
    say(f"bench: {passages} passages: {whole:.1f} s from first upload to last index, embedder alone {alone:.1f} s")
    return passages / whole, passages / alone


def _last_indexed(made: Made, kind: str) -> float:
    """Seconds since 1970 by the database's clock, which in a lab is this computer's."""
    statement = (
        "select extract(epoch from max(d.changed_at)) from documents d join collections c on c.id = d.collection_id"
        f" where c.name = '{made.name}' and d.file_name like '{kind}-%'"
    )
    return float(made.cluster.sql(made.cluster.leader(), statement, "rag"))


def _paragraph(words: Sequence[str]) -> str:
    sentences = (" ".join(secrets.choice(words) for _ in range(12)) for _ in range(10))
    return " ".join(f"{sentence.capitalize()}." for sentence in sentences)


def _passages(made: Made) -> int:
    statement = (
        f"select count(*) from passages p join collections c on c.id = p.collection_id where c.name = '{made.name}'"
    )
    return int(made.cluster.sql(made.cluster.leader(), statement, "rag"))


def _embedded_alone(made: Made, kind: str, passages: int) -> float:
    """Seconds for the newest passages of the collection, straight to the pool of inference hosts on each app host."""
    statement = (
        "select coalesce(json_agg(found.text), '[]') from (select p.section || chr(10) || p.text as text"
        " from passages p join collections c on c.id = p.collection_id join documents d on d.id = p.document_id"
        f" where c.name = '{made.name}' and d.file_name like '{kind}-%' limit {passages}) found"
    )
    texts = json.loads(made.cluster.sql(made.cluster.leader(), statement, "rag"))

    def on(name: str) -> float:
        mine = texts[made.apps.index(name) :: len(made.apps)]
        spoken = programs.spoken(programs.EMBEDDER, texts=mine, model=made.site.inference.embedding_model.name)
        words = ["ssh", "-F", str(made.cluster.lab.ssh_config), name, f"sudo python3 -c '{programs.STARTER}'"]
        done = subprocess.run(words, input=spoken, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise LabError(f"{name}: embedding = exit {done.returncode}; {done.stderr.strip()[-200:]}")
        return float(done.stdout)

    with ThreadPoolExecutor(len(made.apps)) as pool:
        return max(pool.map(on, made.apps))


def refill(made: Made, where: str) -> list[Figure]:
    """Chroma's folder of one app host deleted; until it holds 20,000 passages again."""
    name = made.apps[-1]
    have = int(made.cluster.sql(made.cluster.leader(), "select count(*) from passages", "rag"))
    documents = -(-max(0, REFILLED - have) // MADE_UP_EACH)
    made.cluster.sql(made.cluster.leader(), _made_up(made, documents), "rag", seconds=600)
    until(lambda: _in_step(made, name), 600, f"the index of {name} has what was made up")
    made.cluster.shell(name, "systemctl stop rag-chroma && rm -rf /var/lib/rag-chroma/* && systemctl start rag-chroma")
    began = time.monotonic()
    until(lambda: not _in_step(made, name), 60, f"{name} has seen that its index is empty")
    until(lambda: _in_step(made, name), 600, f"the index of {name} is filled")
    seconds = time.monotonic() - began
    passages = have + documents * MADE_UP_EACH
    return [at_most(AREA, f"an empty index is filled: {passages} passages", seconds, "s", 60, 1, where)]


def _made_up(made: Made, documents: int) -> str:
    """Documents with passages of random vectors, as the worker publishes them: rows and changes at once."""
    inference = made.site.inference
    dimension, model = inference.embedding_dimension, inference.embedding_model.name
    # PostgreSQL sends the highest byte of a number first; vectors are kept with the lowest first.
    number = "substr(f, 4, 1) || substr(f, 3, 1) || substr(f, 2, 1) || substr(f, 1, 1)"
    return f"""
    with made as (
        insert into documents (collection_id, title, file_name, media_type, sha256, size, source, state)
        select c.id, 'Made up ' || n, 'made-up-' || n || '.txt', 'text/plain', 'made up ' || c.id || n, 0, '', 'indexed'
        from collections c, generate_series(1, {documents}) n where c.name = '{made.name}' returning id, collection_id
    ), filled as (
        insert into passages (document_id, ordinal, collection_id, text, section, embedding, model, dimension)
        select made.id, n, made.collection_id, 'Passage ' || n || ' of what was made up.', '', (
            select string_agg({number}, '') from (
                select float4send((random() + 0 * n - 0.5)::float4) as f from generate_series(1, {dimension})
            ) vector
        ), '{model}', {dimension} from made, generate_series(0, {MADE_UP_EACH - 1}) n
    )
    insert into changes (collection_id, document_id, kind, passages)
    select collection_id, id, 'indexed', {MADE_UP_EACH} from made
    """


def _in_step(made: Made, name: str) -> bool:
    """Whether the host's index holds every change that there is, and was filled once."""
    ready = made.cluster.says(name, "curl --silent --max-time 5 http://127.0.0.1:8080/health/ready")
    lag = made.cluster.says(
        name, "curl --silent --max-time 5 http://127.0.0.1:8082/metrics | grep ^rag_index_lag_changes"
    )
    try:
        filled = json.loads(ready)["parts"]["index"] == "ready"
    except (ValueError, KeyError):
        return False
    return filled and lag.endswith(" 0.0")
