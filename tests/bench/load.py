"""Fifty colleagues who ask at once: what they are told, how a search fares beside them, and whether memory grows."""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx

from tests.bench import colleagues
from tests.bench.cluster import until
from tests.bench.colleagues import Heard, share, slope
from tests.bench.made import AREA, Made, upload, wait_until_indexed
from tests.bench.report import Figure, at_most
from tests.lab.host import say

ASKERS = 50
SECONDS = 120
FACTS = 40
# The lab's control groups count no memory; of the pages that processes share each is told its part.
MEMORY = (
    "cat $(pgrep -f app.api.gunicorn | sed 's:.*:/proc/&/smaps_rollup:') | awk '/^Pss_Anon:/{kb+=$2} END{print kb}'"
)


def load(made: Made, where: str) -> list[Figure]:
    """Fifty who ask and one who searches; the programs' memory beside them."""
    questions = filled(made)
    with people(made, ASKERS + 1) as tokens, memory_of(made) as used:
        heard = colleagues.listen(made.site, made.name, tokens, questions, SECONDS)
    told = ", ".join(f"{status}: {number}" for status, number in sorted(heard.statuses.items()))
    say(f"bench: {ASKERS} colleagues asked for {SECONDS} s and were told {told}")
    for surprise in heard.surprises[:5]:
        say(f"bench: {surprise}")
    return [*_figures_of_load(heard, where), *_figures_of_memory(used, where)]


def filled(made: Made) -> list[str]:
    """Put small documents with a fact each; a question for each fact."""
    facts = [
        f"The locker {n} of hall {n % 7} opens with the code {secrets.randbelow(9000) + 1000}." for n in range(FACTS)
    ]
    upload(made, {f"locker-{n}.md": f"# Locker {n}\n\n{fact}\n" for n, fact in enumerate(facts)})
    wait_until_indexed(made, 120)
    return [f"Which code opens locker {n} of hall {n % 7}?" for n in range(FACTS)]


def _figures_of_load(heard: Heard, where: str) -> list[Figure]:
    odd = sum(number for status, number in heard.statuses.items() if status not in colleagues.HONEST)
    odd += sum(number for status, number in heard.searched.items() if status not in colleagues.HONEST)
    p95 = share(heard.searches, 0.95)
    return [
        at_most(AREA, f"{ASKERS} ask at once: answers", float(heard.statuses["200"]), "", None, 1, where),
        at_most(AREA, f"{ASKERS} ask at once: told to come again", _honest(heard), "", None, 1, where),
        at_most(AREA, f"{ASKERS} ask at once: other than 200, 429, 503", float(odd), "", 0, 1, where),
        at_most(AREA, f"{ASKERS} ask at once: first word, median", share(heard.first_words, 0.5), "s", None, 1, where),
        at_most(AREA, f"{ASKERS} ask at once: whole answer, p95", share(heard.answers, 0.95), "s", None, 1, where),
        at_most(AREA, "search beside them, p95", None if p95 is None else p95 * 1000, "ms", 300, 1, where),
    ]


def _honest(heard: Heard) -> float:
    return float(heard.statuses["429"] + heard.statuses["503"])


def _figures_of_memory(used: Sequence[tuple[float, float]], where: str) -> list[Figure]:
    # The first half fills pools and caches; what still grows in the second would go on growing.
    late = used[len(used) // 2 :]
    growth = slope(late) * 60
    mean = sum(size for _, size in late) / len(late) if late else 0.0
    percent = 100 * growth / mean if mean else None
    return [
        at_most(AREA, "memory of all API processes", mean or None, "MiB", None, 1, where),
        at_most(AREA, "its slope in the second minute", growth, "MiB/min", None, 1, where),
        at_most(AREA, "its slope in the second minute, of the whole", percent, "%/min", 5, 1, where),
    ]


@contextmanager
def memory_of(made: Made) -> Iterator[list[tuple[float, float]]]:
    """Moments and MiB of the API's processes on all app hosts, taken beside the block."""
    taken: list[tuple[float, float]] = []
    stop = threading.Event()

    def take() -> None:
        while not stop.wait(3):
            sizes = [made.cluster.says(name, MEMORY) for name in made.apps]
            if all(sizes):
                taken.append((time.monotonic(), sum(int(size) for size in sizes) / 1024))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def people(made: Made, number: int) -> Iterator[list[str]]:
    """So many readers of the collection, by their tokens; gone at the end."""
    password = secrets.token_urlsafe(24)
    names = [f"{made.name}-{n}" for n in range(number)]
    http = made.http
    http.post("/api/v1/groups", json={"name": made.name}).raise_for_status()
    try:
        permission = {"permission": "read"}
        grants = f"/api/v1/collections/{made.name}/grants"
        http.put(f"{grants}/groups/{made.name}", json=permission).raise_for_status()

        def signed_in(name: str) -> str:
            wanted = {"name": name, "password": password, "role": "reader"}
            http.post("/api/v1/users", json=wanted).raise_for_status()
            http.put(f"/api/v1/groups/{made.name}/members/{name}").raise_for_status()
            answer = http.post("/api/v1/token", json={"username": name, "password": password}).raise_for_status()
            return str(answer.json()["access_token"])

        with ThreadPoolExecutor(2) as pool:
            tokens = list(pool.map(signed_in, names))
        # A replica that a question reads may be a moment behind.
        until(lambda: _all_read(made, tokens), 30, "every colleague may read the collection")
        yield tokens
    finally:
        for path in (*(f"/api/v1/users/{name}" for name in names), f"/api/v1/groups/{made.name}"):
            with suppress(httpx.HTTPError):
                http.delete(path)


def _all_read(made: Made, tokens: Sequence[str]) -> bool:
    path = f"/api/v1/collections/{made.name}"
    answers = [made.http.get(path, headers={"Authorization": f"Bearer {token}"}) for token in tokens]
    return all(answer.status_code == httpx.codes.OK for answer in answers)
