"""Documents as they were uploaded, a piece at a time: no process holds more than one piece of a large one."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from app.api.context import Context
from app.api.problems import MEDIA_TYPE, Problem, ProblemDocument
from app.store import documents
from app.store.database import reading
from app.store.documents import Document

PIECE_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": _BINARY},
    206: {"description": "The part that ``Range`` asked for.", "content": _BINARY},
    416: {
        "description": "The document has no such part.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
    },
}


def downloaded(request: Request, here: Context, document: Document) -> Response:
    """The document, or the one part of it that was asked for (RFC 9110); always as an attachment."""
    tag = f'"{document.sha256}"'
    headers = {
        # A hostile page must not run under our name.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(document.file_name)}",
        "Accept-Ranges": "bytes",
        "ETag": tag,
    }
    part = wanted_part(request.headers.get("range", ""), document.size)
    if part is None or request.headers.get("if-range", tag) != tag:
        part, status = range(document.size), 200
    elif not part:
        told = f"Range = {request.headers['range'][:100]}; a part of {document.size} bytes"
        raise Problem(416, told, "ask without a Range", headers={"Content-Range": f"bytes */{document.size}"})
    else:
        status = 206
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{document.size}"
    headers["Content-Length"] = str(len(part))
    return StreamingResponse(_pieces(here, document, part), status, headers, "application/octet-stream")


def wanted_part(asked: str, size: int) -> range | None:
    """Which bytes are asked for; none that are there: empty; None: all, also when it is more than one part."""
    match = _RANGE.fullmatch(asked.replace(" ", ""))
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        return range(max(size - int(last), 0), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def _pieces(here: Context, document: Document, part: range) -> Iterator[bytes]:
    for start in range(part.start, part.stop, PIECE_BYTES):
        length = min(PIECE_BYTES, part.stop - start)

        def work(connection: Connection, start: int = start, length: int = length) -> bytes | None:
            return documents.piece(connection, document.id, start, length)

        # A connection for each piece: whoever reads slowly keeps none.
        piece = reading(here.replica, work) or here.fresh(work)
        if piece is None or len(piece) != length:
            # The head promised more, so the client sees that this is not all.
            raise RuntimeError(f"document = {document.id}; deleted while it was downloaded")
        yield piece
