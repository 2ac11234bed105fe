"""What an upload sends, read only once it is known who sends it and that they may: nobody else's bytes are taken in."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from app.api.context import Here, Me, found_in
from app.api.limits import an_upload
from app.api.problems import Problem

# As FastAPI would describe the parameter that it would read before it asks who is there.
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            }
        },
    }
}
_MISSING = Problem(422, "file = missing; one file in a form (multipart/form-data)", "docs/api.md shows the request")


@contextlib.asynccontextmanager
async def _sent(request: Request) -> AsyncIterator[UploadFile]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _MISSING
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise _MISSING
        yield file


async def sent_file(
    request: Request, me: Me, here: Here, name: str, _: Annotated[None, Depends(an_upload)]
) -> AsyncIterator[UploadFile]:
    """The file, from somebody who may write to the collection; raise 401, 403, 404 or 429 before any of it is read."""
    await run_in_threadpool(here.fresh, lambda connection: found_in(connection, me, name, write=True))
    async with _sent(request) as file:
        yield file


SentFile = Annotated[UploadFile, Depends(sent_file)]
