"""Who uses the platform while it is hurt: programs on its machines, a colleague who asks, a client of the API."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any

import httpx

from inventories.settings import Site
from tests.bench import programs
from tests.bench.cluster import Cluster, names_of, until
from tests.bench.ledger import Write
from tests.lab import demo, machine
from tests.lab.host import LabError

DOCUMENT = b"# Lease\n\n## Notice\n\nThe notice period of the warehouse lease is ninety days.\n"
QUESTION = "How long is the notice period of the warehouse lease?"
FACT = "ninety days"


@dataclass
class Told:
    """What the programs and clients of one repeat said; each list grows in one order, read at any time."""

    writes: list[Write] = field(default_factory=list)
    probes: list[Write] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    refused_writes: list[float] = field(default_factory=list)
    ready: int = 0
    answered: list[float] = field(default_factory=list)
    failed_questions: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """Collections that the API acknowledged."""
    taken: list[str] = field(default_factory=list)
    """Refused as taken at the first try."""
    taken_after_error: list[str] = field(default_factory=list)
    failed_calls: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Write]:
        return [*self.writes, *self.probes]

    def hear(self, line: str) -> None:
        """Take one line of a program in."""
        try:
            said = json.loads(line)
        except ValueError:
            # A machine that is switched off ends in the middle of a line.
            return
        match said.pop("kind", ""):
            case "write":
                self.writes.append(Write(**said))
            case "probe":
                self.probes.append(Write(**said))
            case "read":
                self.reads.append(said["at"])
            case "failed":
                self.refused_writes.append(said["at"])
            case "ready":
                self.ready += 1


@dataclass(frozen=True)
class Running:
    """A program on a machine, and the thread that listens to it."""

    name: str
    process: subprocess.Popen[str]
    listener: threading.Thread


def launch(words: list[str], name: str, spoken: str, told: Told) -> Running:
    """Start a program by its words; it ends when its standard input does."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        # A ctrl-C at the terminal is for the bench, which then ends the programs in order.
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    output = process.stdout

    def listen() -> None:
        for line in output:
            told.hear(line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    process.stdin.write(spoken)
    process.stdin.flush()
    return Running(name, process, listener)


def end(running: Running) -> None:
    """Close a program's standard input and take in its last lines."""
    with suppress(BrokenPipeError):
        assert running.process.stdin
        running.process.stdin.close()
    try:
        running.process.wait(10)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
    running.listener.join(5)


@contextmanager
def ledger(cluster: Cluster, password: str, told: Told) -> Iterator[None]:
    """Writers, readers and probers on every app host, and a prober inside every database machine."""
    common: dict[str, Any] = {
        "password": password,
        "hosts": ",".join(cluster.members),
        "names": names_of(cluster),
    }
    apps = [host.name for host in cluster.site.having("app")]
    started: list[Running] = []
    try:
        for name in apps:
            words = ["ssh", "-F", str(cluster.lab.ssh_config), name, f"sudo python3 -c '{programs.STARTER}'"]
            spoken = programs.spoken(programs.ON_AN_APP_HOST, here=name, **common)
            started.append(launch(words, name, spoken, told))
        for name in cluster.members:
            words = machine.shell(cluster.lab, name, ["python3", "-c", programs.STARTER])
            spoken = programs.spoken(programs.ON_A_DATABASE_MACHINE, here=name, **common)
            started.append(launch(words, name, spoken, told))
        until(
            lambda: told.ready == len(started),
            30,
            f"the programs of the ledger on {', '.join(apps)} and inside the members",
        )
        yield
    finally:
        for one in started:
            end(one)


@contextmanager
def calling(site: Site, work: Callable[[httpx.Client, threading.Event], None]) -> Iterator[None]:
    """Call ``work`` with a client of the API, beside the block again and again."""
    stop = threading.Event()
    with closing(demo.client(site)) as http:
        http.timeout = httpx.Timeout(30, connect=2)

        def loop() -> None:
            while not stop.is_set():
                work(http, stop)
                stop.wait(0.4)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(40)


def ask(http: httpx.Client, collection: str) -> str:
    """One question through the common address; what the answer says."""
    wanted = {"collection": collection, "question": QUESTION, "stream": False}
    return str(http.post("/api/v1/questions", json=wanted).raise_for_status().json()["answer"])


def asking(site: Site, collection: str, told: Told) -> AbstractContextManager[None]:
    """A colleague who asks all the time."""

    def work(http: httpx.Client, _: threading.Event) -> None:
        began = time.monotonic()
        try:
            answer = ask(http, collection)
            if FACT not in answer:
                raise ValueError(f"answered {answer[:100]!r}")
            told.answered.append(time.monotonic())
        except (httpx.HTTPError, ValueError) as error:
            told.failed_questions.append(f"{type(error).__name__} {error} after {time.monotonic() - began:.1f} s")

    return calling(site, work)


def making_collections(site: Site, prefix: str, told: Told) -> AbstractContextManager[None]:
    """A client that makes collections of its own names; what fails is sent again until it is answered."""
    numbers = count(1)
    return calling(site, lambda http, stop: make(http, f"{prefix}-{next(numbers)}", told, stop))


def make(http: httpx.Client, name: str, told: Told, stop: threading.Event) -> None:
    """One collection, tried until the API says that it is there or taken."""
    failed = False
    while not stop.is_set():
        try:
            status = http.post("/api/v1/collections", json={"name": name}).status_code
        except httpx.HTTPError as error:
            status, problem = 0, f"{type(error).__name__} {error}"
        else:
            problem = str(status)
        if status == HTTPStatus.CREATED:
            told.made.append(name)
            return
        if status == HTTPStatus.CONFLICT:
            # After an error of the API's own it is the truth: the try before had done it.
            (told.taken_after_error if failed else told.taken).append(name)
            return
        told.failed_calls.append(problem)
        failed = True
        stop.wait(0.3)


@contextmanager
def collection_to_ask(site: Site, name: str) -> Iterator[str]:
    """A collection with one document that answers the question; the document goes at the end."""
    with closing(demo.client(site)) as http:
        http.post("/api/v1/collections", json={"name": name}).raise_for_status()
        sent = http.post(f"/api/v1/collections/{name}/documents", files={"file": ("lease.md", DOCUMENT)})
        document = sent.raise_for_status().json()["id"]

        def answers() -> bool:
            try:
                return FACT in ask(http, name)
            except httpx.HTTPError:
                return False

        try:
            until(answers, 120, "an answer from the document that was uploaded for it")
            yield name
        finally:
            with suppress(httpx.HTTPError, LabError), closing(demo.client(site)) as later:
                later.delete(f"/api/v1/documents/{document}")


def listed_collections(site: Site) -> list[str]:
    """Every name that the API lists."""
    with closing(demo.client(site)) as http:
        return [entry["name"] for entry in demo.every(http, "/api/v1/collections")]
