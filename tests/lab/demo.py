"""The demo: load the PostgreSQL manual into the lab's platform, ask it a question, open the citation."""

import os
import shutil
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from inventories.secrets import secrets_of
from inventories.settings import Site
from tasks.cluster import site_of
from tests.lab import fleet
from tests.lab.fleet import wait_until
from tests.lab.host import LabError

PACKAGE = "postgresql-doc-17"
FROM = "ops1"
MANUAL = Path("build/cache/postgresql-manual")
COLLECTION = "postgresql"
PAGES = int(os.environ.get("DEMO_PAGES", "220"))
QUESTIONS = (
    "What is a checkpoint?",
    "How can I see the execution plan of a statement?",
    "Who won the football world championship in 1974?",
)
# Chapters that people ask about first: settings, commands, backup, replication, tools.
CHAPTERS = (
    "runtime-config-",
    "backup",
    "continuous-",
    "warm-",
    "hot-",
    "routine-",
    "monitoring",
    "app-",
    "sql-",
    "tutorial-",
)


def manual() -> list[Path]:
    """The manual's pages from Debian's package, through a lab machine: this computer may run an older Debian."""
    if not fetched():
        print(f"{PACKAGE}: downloaded on {FROM}, its pages copied from there", flush=True)
        script = (
            "set -e; cd $(mktemp -d); apt-get -qq update; "
            f"apt-get -qq download {PACKAGE} >&2; dpkg-deb -x {PACKAGE}_*.deb .; "
            f"tar -c -C usr/share/doc/{PACKAGE}/html ."
        )
        draft = MANUAL.with_name("manual.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        pages = subprocess.run(
            ["ssh", "-F", str(fleet.load().ssh_config), FROM, f"sudo sh -c '{script}'"],
            capture_output=True,
            check=False,
        )
        if pages.returncode:
            raise LabError(f"{PACKAGE} = not fetched; {pages.stderr.decode().strip()[-200:]}; make lab-list")
        subprocess.run(["tar", "-x", "-C", str(draft)], input=pages.stdout, check=True)
        shutil.rmtree(MANUAL, ignore_errors=True)
        draft.rename(MANUAL)
    return fetched()


def fetched() -> list[Path]:
    """The manual's pages that are here, those that people ask about first."""
    return sorted(MANUAL.glob("*.html"), key=lambda page: (not page.name.startswith(CHAPTERS), page.name))


def client(site: Site) -> httpx.Client:
    """Signed in as the first administrator; only the site's CA is trusted."""
    secrets = secrets_of(site.name)
    trust = ssl.create_default_context(cadata=secrets["authority-certificate"].get_secret_value())
    http = httpx.Client(base_url=f"https://{site.entry}", verify=trust, timeout=120, trust_env=False)
    wait_until(lambda: entry_is_ready(http), 60, "the entry has an app host that is ready")
    answer = http.post(
        "/api/v1/token",
        json={"username": site.application.admin_user, "password": secrets["admin-password"].get_secret_value()},
    )
    answer.raise_for_status()
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return http


def entry_is_ready(http: httpx.Client) -> bool:
    """Some app host takes requests from the balancers; they notice within a second or two."""
    try:
        return http.get("/health/ready").status_code == HTTPStatus.OK
    except httpx.TransportError:
        return False


def upload(http: httpx.Client, pages: list[Path]) -> None:
    """Put every page; the same page twice is one document, so a second demo uploads nothing new."""
    if COLLECTION not in [entry["name"] for entry in every(http, "/api/v1/collections")]:
        http.post("/api/v1/collections", json={"name": COLLECTION}).raise_for_status()

    def put(page: Path) -> None:
        with page.open("rb") as file:
            http.post(
                f"/api/v1/collections/{COLLECTION}/documents", files={"file": (page.name, file, "text/html")}
            ).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, pages))


def every(http: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """All items of a list that comes in pages."""
    after: str | None = ""
    while after is not None:
        listed = http.get(path, params={"after": after, "limit": 500}).raise_for_status().json()
        yield from listed["items"]
        after = listed["next"]


def wait_until_indexed(http: httpx.Client, seconds: float = 900) -> Counter[str]:
    """Show the states until every document is indexed or failed; raise when that takes too long."""
    end, told = time.monotonic() + seconds, 0.0
    while True:
        states = Counter(document["state"] for document in every(http, f"/api/v1/collections/{COLLECTION}/documents"))
        if not states["queued"] + states["parsing"] + states["embedding"]:
            return states
        if time.monotonic() > end:
            raise LabError(
                f"documents = {dict(states)} after {seconds:.0f} s; all indexed are needed; journalctl -u rag-worker"
            )
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"    {states['indexed']} of {states.total()} pages indexed", flush=True)
        time.sleep(0.5)


def ask(http: httpx.Client, question: str) -> dict[str, Any]:
    """One question, one answer with its citations."""
    answer = http.post("/api/v1/questions", json={"collection": COLLECTION, "question": question, "stream": False})
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def show(http: httpx.Client, site: Site, question: str, answer: dict[str, Any]) -> bool:
    """Print the answer, open each citation, and say whether the quote stands behind its link."""
    print(f"\n  Q: {question}\n  A: {answer['answer']}")
    good = True
    for citation in answer["citations"]:
        page = http.get(f"/api/v1{citation['url']}").raise_for_status().json()
        here = citation["quote"] in page["text"]
        good = good and here
        where = citation["section"] or f"page {citation['page']}"
        print(f"     [{citation['number']}] {citation['title']} - {where}")
        print(f"         “{citation['quote']}”")
        print(f"         https://{site.domain}{citation['url']}  {'(opened: there it is)' if here else '(NOT THERE)'}")
    return good


def main() -> int:
    """Exit 0 when the first question got an answer whose citation holds the quote."""
    started = time.monotonic()
    fleet.require_lab()
    site = site_of("lab")
    pages = manual()[:PAGES]
    with closing(client(site)) as http:
        print(f"{len(pages)} pages of the PostgreSQL manual go in through https://{site.entry}", flush=True)
        upload(http, pages)
        states = wait_until_indexed(http)
        print(
            f"    {states['indexed']} indexed, {states['failed']} failed, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        answers = [(question, ask(http, question)) for question in QUESTIONS]
        opened = [show(http, site, question, answer) for question, answer in answers]
        engine = "the lab's stand-in for Ollama" if site.inference.stand_in else "Ollama"
        print(f"\n  written by {answers[0][1]['model']} on {engine} {site.inference.version}")
        print(f"  open https://{site.entry}/ and sign in as {site.application.admin_user};")
        print("  the password: make secret SITE=lab NAME=admin-password")
    first = answers[0][1]
    if not (first["supported"] and first["citations"] and all(opened) and states["indexed"] >= min(PAGES, 200)):
        print(f"demo = {dict(states)}, answer supported = {first['supported']}; make demo", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
