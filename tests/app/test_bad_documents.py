"""Files that cannot be read: each ends in a state with one line that says what to do."""

import zlib

import pytest

from tests.app import formats, office
from tests.app.site import PROBLEM, Person

BOMB = zlib.compress(b"0" * 300_000_000, 9)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"", "empty.txt = 0 bytes; a file with content"),
        (
            "locked.pdf",
            formats.pdf(["secret"], password="x"),
            "locked.pdf = an encrypted PDF; a copy that opens",
        ),
        ("script.pdf", b"#!/bin/sh\necho hello\n", "script.pdf = no PDF in spite of its name"),
        ("broken.pdf", b"%PDF-1.7\nnothing more", "broken.pdf = a damaged PDF"),
        ("scan.pdf", formats.pdf([""]), "scan.pdf = a PDF that has no text, only pictures"),
        ("archive.docx", b"PK\x03\x04\0\0\0", "archive.docx = a damaged file"),
        ("locked.xlsx", office.ole("EncryptedPackage"), "locked.xlsx = an encrypted Office file"),
        ("../../etc/old.doc", office.ole("WordDocument"), "old.doc = a Word file of before 2007"),
        ("..\\..\\a\u202e.exe", b"MZ\0", "a.exe = binary data"),
        ("picture.html", b"<html><body><img src=x></body></html>", "picture.html = no text"),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" not in value else "",
)
def test_an_unreadable_file_fails_with_one_clear_line(
    admin: Person, collection: str, name: str, content: bytes, says: str
) -> None:
    document = admin.settled(admin.upload(collection, name, content))

    assert document["state"] == "failed"
    assert document["error"].startswith(says)
    assert "\n" not in document["error"]


def test_a_file_that_unfolds_beyond_the_limits_fails_and_the_worker_lives(admin: Person, collection: str) -> None:
    bomb = formats.pdf(["x"]).replace(b"/Length", b"/Filter /FlateDecode /Length", 1)
    start = bomb.index(b"stream\n") + len(b"stream\n")
    bomb = bomb[:start] + BOMB + bomb[bomb.index(b"\nendstream") :]

    document = admin.settled(admin.upload(collection, "bomb.pdf", bomb))
    after = admin.settled(admin.upload(collection, "after.txt", b"All is well."))

    assert (document["state"], after["state"]) == ("failed", "indexed")


def test_a_file_over_the_limit_is_turned_away_at_the_door(admin: Person, collection: str) -> None:
    path = f"/api/v1/collections/{collection}/documents"

    for size in (1_000_001, 20_000_000):
        answer = admin.call("POST", path, files={"file": ("large.txt", b"x" * size)})
        assert answer.status_code == 413
        assert set(answer.json()) == PROBLEM
    assert admin.get(path)["items"] == []


def test_a_failed_file_may_be_tried_again(admin: Person, collection: str) -> None:
    first = admin.settled(admin.upload(collection, "empty.txt", b""))
    again = admin.upload(collection, "empty.txt", b"")

    assert again["id"] == first["id"]
    assert admin.settled(again)["state"] == "failed"
