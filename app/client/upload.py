"""Uploading files and folders, and waiting until each is searchable or has failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.client import show
from app.client.client import Client
from app.client.results import Document
from app.client.transport import Problem

# By the names of their files; what else lies in a folder is passed over with a line.
SUFFIXES = frozenset(
    {".csv", ".docx", ".eml", ".htm", ".html", ".log", ".markdown", ".md", ".pdf", ".pptx", ".rst", ".text", ".tsv"}
    | {".txt", ".xhtml", ".xlsx"}
)


@dataclass
class Outcome:
    """What became of the files; ``failed`` says why."""

    indexed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A file and the name that it gets on the platform, where a name is one document of a collection."""

    file: Path
    name: str


def sources(paths: Sequence[Path]) -> Iterator[Source]:
    """The files, and those in the folders however deep; a file that is named itself is always among them."""
    for path in paths:
        if not path.is_dir():
            yield Source(path, path.name)
            continue
        for found in sorted(path.rglob("*")):
            inside = found.relative_to(path).parts
            if not found.is_file() or any(part.startswith(".") for part in inside):
                continue
            if found.suffix.lower() in SUFFIXES:
                # Each folder may have a README.md, and none of them is a new version of another.
                yield Source(found, " - ".join(inside))
            else:
                show.note(f"{found}: skipped, {found.suffix or 'no ending'} is not read")


def upload(client: Client, collection: str, paths: Sequence[Path], *, wait: bool) -> Outcome:
    """Send them all, then follow each."""
    outcome = Outcome()
    sent = list(_sent(client, collection, list(sources(paths)), outcome))
    if wait:
        _followed(client, sent, outcome)
    return outcome


def _sent(client: Client, collection: str, found: list[Source], outcome: Outcome) -> Iterator[tuple[Path, Document]]:
    names: set[str] = set()
    with show.progress() as bars:
        size = sum(source.file.stat().st_size for source in found if source.file.is_file())
        bar = bars.add_task("sending (bytes)", total=size)
        for source in found:
            try:
                if source.name in names:
                    raise FileExistsError(0, f"{source.name} was sent already, and would be replaced")
                names.add(source.name)
                with source.file.open("rb") as content:
                    document = client.upload(collection, source.name, content, lambda size: bars.advance(bar, size))
                yield source.file, document
            except OSError as error:
                outcome.failed.append((str(source.file), error.strerror or str(error)))
            except Problem as problem:
                outcome.failed.append((str(source.file), str(problem)))


def _followed(client: Client, sent: list[tuple[Path, Document]], outcome: Outcome) -> None:
    with show.progress() as bars:
        bar = bars.add_task("indexing (documents)", total=len(sent))
        # In the queue's order, so that one request at a time is enough.
        for file, document in sent:
            settled = document if document.settled else list(client.follow(document.id, float("inf")))[-1]
            bars.advance(bar)
            if settled.state == "indexed":
                outcome.indexed += 1
                if not show.notes.is_terminal:
                    show.note(f"{file}: indexed, {settled.passages} passages")
            else:
                outcome.failed.append((str(file), settled.error or settled.state))
