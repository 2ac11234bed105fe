"""Documents as they were uploaded: whole or in part, and in little memory."""

import re
import subprocess
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.api.download import wanted_part
from tests.app.servers import wait_for
from tests.app.site import Person, Site
from tests.app.test_audit import of

CONTENT = bytes(range(256)) * 12_000
LARGE = 200 * 1024 * 1024


@pytest.fixture
def document(admin: Person, collection: str) -> str:
    return str(admin.upload(collection, "bytes.txt", CONTENT[:900_000])["id"])


def source(document: str) -> str:
    return f"/api/v1/documents/{document}/source"


def large(site: Site, collection: str, size: int) -> UUID:
    """A document larger than an upload may be here."""
    identifier = uuid4()
    with site.database.begin() as connection:
        connection.execute(
            text(
                "insert into documents (id, collection_id, title, file_name, media_type, sha256, size, source, state)"
                " select :id, id, 't', 'large.bin', 'application/octet-stream', :sha, :size,"
                " convert_to(repeat('0123456789abcdef', :size / 16), 'UTF8'), 'failed'"
                " from collections where name = :collection"
            ),
            {
                "id": identifier,
                "sha": identifier.hex * 2,
                "size": size,
                "collection": collection,
            },
        )
    return identifier


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", range(10)),
        ("bytes=90-", range(90, 100)),
        ("bytes=-5", range(95, 100)),
        ("bytes=-500", range(100)),
        ("bytes=95-500", range(95, 100)),
        ("bytes=100-", range(0)),
        ("bytes=-0", range(0)),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_a_part_is_read_as_the_standard_says(asked: str, expected: range | None) -> None:
    found = wanted_part(asked, 100)

    assert (found is None, list(found or ())) == (expected is None, list(expected or ()))


def test_a_document_comes_whole_in_part_and_goes_on_after_a_break(admin: Person, document: str) -> None:
    def asked(**headers: str) -> tuple[int, bytes, dict[str, str]]:
        sent = {"authorization": f"Bearer {admin.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = admin.http.get(source(document), headers=sent)
        return answer.status_code, answer.content, dict(answer.headers)

    status, whole, headers = asked()
    assert (status, whole == CONTENT[:900_000], headers["content-length"]) == (200, True, "900000")
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''bytes.txt"
    tag = headers["etag"]

    status, rest, headers = asked(range="bytes=899990-", if_range=tag)
    assert (status, rest, headers["content-range"]) == (206, CONTENT[899_990:900_000], "bytes 899990-899999/900000")
    assert asked(range="bytes=0-9", if_range='"another version"')[:2] == (200, whole)
    status, _, headers = asked(range="bytes=900000-")
    assert (status, headers["content-range"]) == (416, "bytes */900000")


def test_a_download_is_in_the_audit(admin: Person, document: str) -> None:
    assert admin.call("GET", source(document)).status_code == 200

    wait_for("it is written", lambda: len(of(admin, "document.download", f"documents/{document}")) == 1)
    assert of(admin, "document.download", f"documents/{document}")[0]["detail"]["file_name"] == "bytes.txt"


def test_parts_without_end_fill_no_audit(site: Site, admin: Person, document: str) -> None:
    for start in range(30):
        headers = {"authorization": f"Bearer {admin.token}", "range": f"bytes={start}-{start}"}
        assert admin.http.get(source(document), headers=headers).status_code == 206
    # Written behind those, by whichever process: once it is there, they are.
    wait_for("it is written", lambda: bool(of(admin, "document.download", f"documents/{document}")))

    assert len(of(admin, "document.download", f"documents/{document}")) <= len(peaks(site))


def test_a_large_document_is_never_in_memory_as_a_whole(site: Site, admin: Person, collection: str) -> None:
    identifier = large(site, collection, LARGE)
    assert admin.call("GET", source(str(identifier)), params={"warm": "up"}).status_code == 200
    before = peaks(site, reset=True)

    with admin.http.stream(
        "GET", source(str(identifier)), headers={"authorization": f"Bearer {admin.token}"}
    ) as answer:
        received = sum(len(piece) for piece in answer.iter_bytes())

    grown = {process: peak - before[process] for process, peak in peaks(site).items()}
    assert received == LARGE
    assert max(grown.values()) < 16 * 1024 * 1024


def peaks(site: Site, *, reset: bool = False) -> dict[int, int]:
    """The most memory that each of the API's processes has had."""
    assert site.api.pid
    found = subprocess.run(["pgrep", "-P", str(site.api.pid)], capture_output=True, text=True, check=True)
    measured = {}
    for process in map(int, found.stdout.split()):
        if reset:
            Path(f"/proc/{process}/clear_refs").write_text("5")
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        assert match
        measured[process] = int(match.group(1)) * 1024
    return measured


def test_a_document_that_is_deleted_meanwhile_does_not_look_whole(site: Site, admin: Person, collection: str) -> None:
    identifier = large(site, collection, LARGE)
    with admin.http.stream(
        "GET", source(str(identifier)), headers={"authorization": f"Bearer {admin.token}"}
    ) as answer:
        pieces = answer.iter_bytes()
        received = len(next(pieces))
        assert admin.call("DELETE", f"/api/v1/documents/{identifier}").status_code == 204
        with pytest.raises(Exception, match=r"peer closed|incomplete|disconnected"):
            received += sum(len(piece) for piece in pieces)

    assert received < LARGE
