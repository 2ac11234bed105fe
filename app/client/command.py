"""The command `rag`. Exit codes: 0 done, 1 some of it failed, 2 refused, 3 nobody answers."""

import argparse
import contextlib
import getpass
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from rich.live import Live
from rich.text import Text

from app.client import account, show
from app.client.account import Account, NotSignedInError
from app.client.client import Client, sign_in
from app.client.results import Answer, Index, Reembedding
from app.client.transport import Problem, UnreachableError
from app.client.upload import upload

STEPS = ("status", "start", "back", "finish", "cancel")

FAILED, REFUSED, UNREACHABLE = 1, 2, 3
GONE = 404

Verb = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was typed; what cannot be done is one line on stderr."""
    wanted = _parser().parse_args(arguments)
    try:
        verb: Verb = wanted.verb
        return verb(wanted)
    except Problem as problem:
        named = f" (request {problem.request_id})" if problem.request_id and problem.status >= 500 else ""
        show.note(f"{problem}{named}")
        return FAILED
    except (NotSignedInError, ValueError) as refusal:
        show.note(str(refusal).splitlines()[0])
        return REFUSED
    except UnreachableError as absence:
        show.note(absence)
        return UNREACHABLE
    except OSError as error:
        show.note(f"{error.filename or 'file'} = {error.strerror}; one that can be used")
        return REFUSED
    except KeyboardInterrupt:
        show.note("interrupted; what was sent stays")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rag",
        description="Questions to one's own documents, from a shell.",
        epilog="exit codes: 0 done, 1 some of it failed, 2 refused, 3 nobody answers. RAG_URL, RAG_KEY and RAG_CA"
        " take the place of a sign-in.",
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, verb: Verb, says: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=says, description=says)
        made.set_defaults(verb=verb)
        return made

    made = add("sign-in", _sign_in, "keep a key to the platform, in a file that only you can read")
    made.add_argument("url", metavar="URL", help="https://rag.example.org")
    made.add_argument("--ca", type=Path, metavar="FILE", help="the site's authority, where the system does not know it")
    made.add_argument("--user", metavar="NAME", help="your name there; asked for otherwise")
    add("sign-out", _sign_out, "end that key and forget it; asks for your password")
    add("status", _status, "whether the platform can answer, and which part is the reason if not")
    made = add("collections", _collections, "the collections that you may read")
    change = made.add_mutually_exclusive_group()
    change.add_argument("--add", metavar="NAME", help="make this one, which you manage")
    change.add_argument("--delete", metavar="NAME", help="this one away, with all its documents")
    made = add("upload", _upload, "files and folders into a collection, until each is searchable or has failed")
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("paths", metavar="PATH", nargs="+", type=Path)
    made.add_argument("--no-wait", action="store_true", help="return when all are sent")
    made = add("documents", _documents, "the documents of a collection")
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("--state", default="", help="only those queued, indexed, failed …")
    made = add("delete", _delete, "take documents away, by the ids that `rag documents` shows")
    made.add_argument("documents", metavar="ID", nargs="+", type=UUID)
    made = add("search", _search, "the passages that fit the words best")
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("words", metavar="WORD", nargs="+")
    made.add_argument("--limit", type=int, default=10)
    made = add("ask", _ask, "an answer with its sources")
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("question", metavar="WORD", nargs="+")
    made = add("eval", _eval, "how well a collection is searched and answered from, by a file of questions")
    made.add_argument("file", metavar="FILE", type=Path, help="question, documents, phrases, answerable; JSON or TOML")
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures too")
    made = add("reembed", _reembed, "go to the site's next embedding model without an outage; for administrators")
    made.add_argument("step", metavar="STEP", choices=STEPS, help=", ".join(STEPS))
    made = add("keys", _keys, "your API keys; asks for your password, since a key may not see keys")
    made.add_argument("--delete", metavar="ID", help="end this key at once")
    return parser


def _sign_in(wanted: argparse.Namespace) -> int:
    ca = wanted.ca.resolve() if wanted.ca else None
    name = wanted.user or input("name: ")
    with _in_person(wanted.url, name, ca) as client:
        mine = client.people.me()
        scopes = ["read", "write", *(["admin"] if mine.role == "admin" else [])]
        key = client.people.add_key(f"rag on {platform.node()}", scopes)
    known = Account(url=wanted.url, secret=key.secret or "", ca=ca, name=mine.name, key=key.id)
    show.note(f"signed in as {mine.name}; the key is in {account.store(known)}")
    return 0


def _sign_out(_: argparse.Namespace) -> int:
    known = account.stored()
    if known.key and known.name:
        with _in_person(known.url, known.name, known.ca) as client:
            try:
                client.people.delete_key(known.key)
            except Problem as problem:
                # One that was ended before is as good as one that ends now.
                if problem.status != GONE:
                    raise
    account.forget()
    return 0


@contextlib.contextmanager
def _in_person(url: str, name: str, ca: Path | None) -> Iterator[Client]:
    """A session for as long as it takes: with a key nobody may make or end keys."""
    # Without a terminal, as from a password store, the password is one line of standard input.
    password = getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    tokens = sign_in(url, name, password, ca=ca)
    with Client(url, tokens.access_token, ca=ca) as client:
        try:
            yield client
        finally:
            client.people.sign_out()


def _status(_: argparse.Namespace) -> int:
    with account.stored().client() as client:
        health = client.health()
        indexes: tuple[Index, ...] = ()
        # Where the database is the part that is ill nobody can tell.
        with contextlib.suppress(Problem, UnreachableError):
            indexes = client.indexes()
    show.line(health.status)
    show.table(("part", "state"), sorted(health.parts.items()))
    for note in health.notes:
        show.line(note)
    for index in indexes:
        late = f"{index.behind} changes behind, the first of {index.since:%Y-%m-%d %H:%M:%S %Z}" if index.since else ""
        show.line(f"index of {index.host}: {late or 'in step'}")
    return 0 if health.status == "ready" else FAILED


def _collections(wanted: argparse.Namespace) -> int:
    with account.stored().client() as client:
        if wanted.add:
            client.add_collection(wanted.add)
            return 0
        if wanted.delete:
            client.delete_collection(wanted.delete)
            return 0
        rows = [(one.name, one.permission, _counted(one.documents)) for one in client.collections()]
    show.table(("collection", "you may", "documents"), rows)
    return 0


def _upload(wanted: argparse.Namespace) -> int:
    with account.stored().client() as client:
        _collection_of(client, wanted.collection)
        outcome = upload(client, wanted.collection, wanted.paths, wait=not wanted.no_wait)
    if outcome.failed:
        show.table(("failed", "why"), outcome.failed)
    if not wanted.no_wait:
        show.note(f"{outcome.indexed} indexed, {len(outcome.failed)} failed")
    return FAILED if outcome.failed else 0


def _collection_of(client: Client, name: str) -> None:
    """Refuse once what would be refused for every file."""
    try:
        client.collection(name)
    except Problem as problem:
        if problem.status != GONE:
            raise
        raise ValueError(
            f"collection = {name}; one that exists and that you may read; rag collections --add {name}"
        ) from None


def _documents(wanted: argparse.Namespace) -> int:
    with account.stored().client() as client:
        found = list(client.documents(wanted.collection, wanted.state))
    rows = [(one.id, one.file_name, one.state, one.passages, one.error or "") for one in found]
    show.table(("id", "file", "state", "passages", "error"), rows)
    return 0


def _delete(wanted: argparse.Namespace) -> int:
    failed = 0
    with account.stored().client() as client:
        for document in wanted.documents:
            try:
                client.delete(document)
            except Problem as problem:
                show.note(problem)
                failed = FAILED
    return failed


def _search(wanted: argparse.Namespace) -> int:
    with account.stored().client() as client:
        found = client.search(wanted.collection, " ".join(wanted.words), wanted.limit)
    if found.degraded:
        show.note(f"search = without {found.degraded}; results by the other half")
    for number, hit in enumerate(found.results, 1):
        show.line(f"{number}. {show.place(hit)}\n   {' '.join(hit.text.split())}")
    return 0


def _ask(wanted: argparse.Namespace) -> int:
    question = " ".join(wanted.question)
    with account.stored().client() as client:
        show.answer(_streamed(client, wanted.collection, question))
    return 0


def _streamed(client: Client, collection: str, question: str) -> Answer:
    """The checked answer; on a terminal the model's words stand there until it comes."""
    words = ""
    shown = Live(Text(""), console=show.out, transient=True) if show.out.is_terminal else contextlib.nullcontext()
    with shown as live:
        for event in client.stream(collection, question):
            words = "" if event.name == "restart" else words + str(event.data.get("text", ""))
            if live:
                live.update(Text(show.plain(words), style="dim"))
            if answer := event.answer:
                return answer
    raise Problem(502, "answer = broken off before its end; a whole one", "ask again", "")


def _eval(wanted: argparse.Namespace) -> int:
    # The one part of the command that is shared with the platform's own bench.
    from app.client.measure import measure  # noqa: PLC0415 - nobody else waits for it to load

    with account.stored().client() as client:
        measure(client, wanted.collection, wanted.file, wanted.json)
    return 0


def _reembed(wanted: argparse.Namespace) -> int:
    with account.stored().client() as client:
        step: Callable[[], Reembedding] = getattr(client.embedding, wanted.step)
        change = step()
    rows = [
        ("state", change.state),
        ("questions are embedded with", change.served or "nothing yet"),
        ("the other model", change.other or "none"),
    ]
    if change.state != "none":
        rows.append(("passages that have its vector", f"{change.done} of {change.passages}"))
        rows += [(f"index of {one.host}", one.index) for one in change.hosts]
    if change.problem:
        rows.append(("stands still", change.problem))
    show.table(("what", "is"), [*rows, ("next", change.next)])
    return FAILED if change.problem else 0


def _keys(wanted: argparse.Namespace) -> int:
    known = account.stored()
    if not known.name:
        raise NotSignedInError("RAG_KEY = a key without a name; a sign-in; rag sign-in https://…")
    with _in_person(known.url, known.name, known.ca) as client:
        if wanted.delete:
            client.people.delete_key(wanted.delete)
            return 0
        found = list(client.people.keys())
    rows = [
        (key.id, key.name, " ".join(key.scopes), key.expires_at or "never", key.last_used_at or "never")
        for key in found
    ]
    show.table(("id", "name", "may", "expires", "last used"), rows)
    return 0


def _counted(documents: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in documents.items() if number)


if __name__ == "__main__":
    sys.exit(main())
