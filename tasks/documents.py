"""One document or one collection back from a moment: out of the restored copy, in again through the platform's API."""

import json
import shlex
import ssl
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from inventories.settings import Machine, Site
from tasks import restored
from tasks.members import RefusedError, StoppedError
from tasks.patroni import Say

FOUND = """
select coalesce(json_agg(found order by found.collection, found.file_name), '[]'::json) from (
  select d.id, c.name as collection, d.title, d.file_name, d.media_type, d.sha256, d.size
  from documents d join collections c on c.id = d.collection_id
  where (:'document' = '' or d.id::text = :'document' or d.title = :'document' or d.file_name = :'document')
  and (:'collection' = '' or c.name = :'collection')) found
"""
BYTES = "select encode(source, 'base64') from documents where id = :'id'"
SETTLED = {"indexed", "failed", "cancelled"}
INDEXING = 3600.0
"""Seconds for the documents to become searchable; they are safe before that."""


@dataclass(frozen=True)
class Document:
    """A document as the copy holds it."""

    id: str
    collection: str
    title: str
    file_name: str
    media_type: str
    sha256: str
    size: int


def chosen(found: list[Document], document: str, collection: str) -> list[Document]:
    """What is brought back; a name that is nobody's, or several documents', is refused."""
    what = f"DOCUMENT = {document}" if document else f"COLLECTION = {collection}"
    if not found:
        raise RefusedError(f"{what}; one that was there at that moment is needed; make restore, and look into the copy")
    if document and len(found) > 1:
        those = ", ".join(f"{one.collection}/{one.file_name} ({one.id})" for one in found[:5])
        raise RefusedError(f"{what}; one document is needed, these are {len(found)}: {those}; DOCUMENT=its-id")
    return found


def place(found: list[Document], document: str, into: str, mark: str) -> str:
    """The collection that it goes to: a document to its own as a next version, a collection to one beside it."""
    return into or (found[0].collection if document else f"{found[0].collection}-{mark[:13].lower()}")


def listed(site: Site, keeper: Machine, document: str, collection: str) -> list[Document]:
    """Documents of that id, title or file name in the copy, or all of a collection."""
    values = f"--set document={shlex.quote(document)} --set collection={shlex.quote(collection)}"
    told = json.loads(restored.query(site, keeper, FOUND, values=values))
    return [Document(**entry) for entry in told]


def bring_back(site: Site, keeper: Machine, documents: list[Document], into: str, say: Say) -> Mapping[str, str]:
    """Upload each to the collection ``into``, made where it lacks; id to file name of what is there then."""
    with _signed_in(site) as http:
        made = http.post("/api/v1/collections", json={"name": into})
        if made.status_code not in {201, 409}:
            raise StoppedError(
                f"collection {into} = not made; {told_of(made)}; make restore-document with another INTO"
            )
        ids, there = {}, _there(http, into)
        for document in documents:
            if document.sha256 in there:
                ids[there[document.sha256]] = document.file_name
                say(f"{document.file_name}: is in {into} already")
                continue
            content = b64decode(restored.query(site, keeper, BYTES, 1800, f"--set id={document.id}"))
            file = {"file": (document.file_name, content, document.media_type)}
            answer = http.post(f"/api/v1/collections/{into}/documents", files=file)
            if answer.status_code not in {200, 201, 202}:
                raise StoppedError(f"{document.file_name} = not taken; {told_of(answer)}; make restore-document again")
            if answer.json()["sha256"] != document.sha256:
                raise StoppedError(f"{document.file_name} = other bytes than in the copy; make restore-document again")
            ids[answer.json()["id"]] = document.file_name
            say(f"{document.file_name}: {document.size} bytes are in {into}")
        _wait_until_indexed(http, ids, say)
    return ids


def _there(http: httpx.Client, into: str) -> dict[str, str]:
    """Checksum to id of what the collection holds; what failed there is sent again."""
    found: dict[str, str] = {}
    after: str | None = ""
    while after is not None:
        asked = {"limit": "500", **({"after": after} if after else {})}
        page = http.get(f"/api/v1/collections/{into}/documents", params=asked).raise_for_status().json()
        found |= {one["sha256"]: one["id"] for one in page["items"] if one["state"] not in {"failed", "cancelled"}}
        after = page["next"]
    return found


def _wait_until_indexed(http: httpx.Client, ids: Mapping[str, str], say: Say) -> None:
    end, left = time.monotonic() + INDEXING, dict(ids)
    while left:
        for each in list(left):
            document = http.get(f"/api/v1/documents/{each}").raise_for_status().json()
            if document["state"] in SETTLED:
                say(f"{left.pop(each)}: {document['state']}{': ' + document['error'] if document.get('error') else ''}")
        if left and time.monotonic() > end:
            raise StoppedError(f"{len(left)} documents = there, not searchable after {INDEXING:.0f} s; rag status")
        time.sleep(0.5 if left else 0)


@contextmanager
def _signed_in(site: Site) -> Iterator[httpx.Client]:
    """A session whose broken connections are one line too."""
    http = signed_in(site)
    try:
        yield http
    except httpx.HTTPError as broken:
        raise StoppedError(
            f"https://{site.entry} = {broken}; make restore-document again, nothing comes twice"
        ) from None
    finally:
        http.close()


def signed_in(site: Site) -> httpx.Client:
    """The first administrator at the site's entry; nobody is trusted but the site's own authority."""
    trust = ssl.create_default_context(cadata=site.secret("authority-certificate"))
    http = httpx.Client(base_url=f"https://{site.entry}", verify=trust, timeout=300, trust_env=False)
    person = {"username": site.application.admin_user, "password": site.secret("admin-password")}
    try:
        answer = http.post("/api/v1/token", json=person)
    except httpx.HTTPError as silent:
        raise StoppedError(f"https://{site.entry} = no answer; {silent}; this computer must be in users") from None
    if answer.status_code != 200:
        raise StoppedError(
            f"{site.application.admin_user} = not signed in; {told_of(answer)}; the password of make secrets is needed"
        )
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return http


def told_of(answer: httpx.Response) -> str:
    """What a problem document says, or the status alone."""
    try:
        told: Any = answer.json()
        return f"{answer.status_code} {told['detail']}"
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)
