"""What the API says when it cannot do what was asked (RFC 9457): what stands there, what is needed, the next step."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.inference import BusyError, InferenceRefusedError, InferenceUnavailableError

log = logging.getLogger(__name__)

RETRY_SECONDS = 2
MEDIA_TYPE = "application/problem+json"
LINE = {"type": "string"}


class ProblemDocument(BaseModel):
    """Every error body."""

    type: str = Field(description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What stands there, and what is needed.")
    help: str = Field(description="The next step.")
    request_id: str = Field(default="", description="What the operator finds the request by.")
    retry_after: int | None = Field(default=None, description="Seconds to wait, where the same may go through later.")


class Problem(Exception):  # noqa: N818 - it is an answer to the caller more than an error of ours
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        error: str,
        help: str,  # noqa: A002 - as the body names it
        retry: bool = False,
        seconds: int = RETRY_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.help = help
        self.retry = retry
        self.seconds = seconds
        self.headers = dict(headers or {})


UNREADABLE = Problem(
    400, "body = not what its Content-Type says; JSON or a form, whole", "docs/api.md shows the request"
)


def not_found(thing: str, name: object, lists: str = "collections") -> Problem:
    """One answer for what is not there and what the caller may not see, so that neither can be told."""
    return Problem(404, f"{thing} = {name}; one that exists and that you may read", f"GET /api/v1/{lists} lists yours")


def key_of_another_request() -> Problem:
    """What an Idempotency-Key gets that came with another request before."""
    return Problem(422, "Idempotency-Key = used for another request; one of its own", "send the request with a new key")


def translated(error: Exception) -> Problem:
    """The answer to a failure somewhere below."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, (BusyError, InferenceUnavailableError, InferenceRefusedError)):
        return _of_inference(error)
    if isinstance(error, DataError) or (isinstance(error, ValueError) and "NUL" in str(error)):
        # A number beyond PostgreSQL's, or the one character that its text cannot hold.
        return Problem(422, "request = a value that cannot be stored; another one", "docs/api.md shows the request")
    ours = isinstance(error, (IntegrityError, ProgrammingError))
    if isinstance(error, (DBAPIError, PoolTimeoutError)) and not ours:
        log.warning("database = %s", str(error).splitlines()[0])
        help_ = "try again in a moment; GET /health/ready names what is not ready"
        return Problem(503, "database = no server for this request; one that accepts it", help_, retry=True)
    log.error("request", exc_info=error)
    return Problem(
        500, f"request = {type(error).__name__}; a case we have met", "tell the operator: journalctl -u rag-api"
    )


def _of_inference(error: Exception) -> Problem:
    if isinstance(error, InferenceRefusedError):
        return Problem(502, str(error), "tell the operator: journalctl -u rag-api")
    where = "" if isinstance(error, BusyError) else "; GET /health/ready names what is not ready"
    return Problem(503, str(error), f"ask again in a moment{where}", retry=True)


def described(problem: Problem, request_id: str = "") -> dict[str, Any]:
    """The problem as a document (RFC 9457); ``help`` is the next step, ``request_id`` what the operator finds it by."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.error,
        "help": problem.help,
    }
    if problem.retry:
        # A stream that has begun can send no header any more.
        body["retry_after"] = problem.seconds
    return {**body, "request_id": request_id} if request_id else body


def as_openai(problem: Problem) -> dict[str, Any]:
    """The problem as OpenAI's clients read one."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(problem.status)
    message = f"{problem.error}. {problem.help}"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def documented() -> dict[int | str, dict[str, Any]]:
    """The problems of every route, for the API's own description."""
    examples = (
        UNREADABLE,
        Problem(401, "token = missing, expired or forged; one from POST /api/v1/token", "sign in again"),
        Problem(403, "role = reader; admin", "ask an administrator"),
        not_found("collection", "manuals"),
        Problem(409, "name = manuals; one not taken yet", "choose another name"),
        Problem(413, "body = more than 52428800 bytes; a smaller one", "split the document"),
        Problem(422, "name = Field required", "docs/api.md shows the request"),
        Problem(429, "questions = 31 in a minute; at most 30", "ask again in a moment"),
        Problem(502, "inference = refused; a request it accepts", "tell the operator: journalctl -u rag-api"),
        Problem(503, "database = no server for this request; one that accepts it", "try again in a moment"),
    )
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    found: dict[int | str, dict[str, Any]] = {
        problem.status: {
            "description": HTTPStatus(problem.status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema, "example": described(problem, "5f0c…")}},
        }
        for problem in examples
    }
    # Said by gunicorn, which the request does not get past.
    return {**found, 414: {"description": "The query is too long.", "content": {"text/plain": {"schema": LINE}}}}


def response(problem: Problem, request_id: str = "", path: str = "") -> Response:
    """The problem as every error body looks, also below the paths of OpenAI's API."""
    headers = problem.headers | ({"Retry-After": str(problem.seconds)} if problem.retry else {})
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path.startswith("/v1/"):
        # Its clients know no 422.
        return JSONResponse(as_openai(problem), 400 if problem.status == 422 else problem.status, headers)
    return JSONResponse(described(problem, request_id), problem.status, headers, MEDIA_TYPE)


def _describe(app: FastAPI) -> None:
    describe = app.openapi

    def with_problems() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas[ProblemDocument.__name__] = ProblemDocument.model_json_schema()
        return document

    # As FastAPI has it changed; a response's `model` would stand there as application/json.
    app.openapi = with_problems  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Let every failure leave the API in this form, and its description say so."""
    _describe(app)

    async def failed(request: Request, error: Exception) -> Response:
        return _shown(request, translated(error))

    async def http(request: Request, error: Exception) -> Response:
        status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
        if status == UNREADABLE.status:
            return _shown(request, UNREADABLE)
        return _shown(request, Problem(status, f"request = {detail}", "docs/api.md lists what there is"))

    async def unfit(request: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
        key = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return _shown(request, Problem(422, f"{key} = {first['msg']}", "docs/api.md shows the request"))

    for kind in (Problem, BusyError, InferenceUnavailableError, InferenceRefusedError, DBAPIError, PoolTimeoutError):
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, unfit)


def _shown(request: Request, problem: Problem) -> Response:
    return response(problem, str(request.scope.get("request_id", "")), request.url.path)
