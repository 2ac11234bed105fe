"""What the API says when it cannot do what was asked: what stands there, what is needed, and where to look."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.inference import BusyError, InferenceRefusedError, InferenceUnavailableError

log = logging.getLogger(__name__)

RETRY_SECONDS = 2


class Problem(Exception):  # noqa: N818 - it is an answer to the caller more than an error of ours
    """An answer other than success."""

    def __init__(self, status: int, error: str, help: str, retry: bool = False) -> None:  # noqa: A002
        super().__init__(error)
        self.status = status
        self.error = error
        self.help = help
        self.retry = retry


def not_found(thing: str, name: object) -> Problem:
    """One answer for what is not there and what the caller may not see, so that neither can be told."""
    return Problem(404, f"{thing} = {name}; one that exists and that you may read", "GET /api/collections lists yours")


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


def response(problem: Problem) -> Response:
    """The problem as every error body looks."""
    headers = {"Retry-After": str(RETRY_SECONDS)} if problem.retry else {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": problem.error, "help": problem.help}, problem.status, headers)


def install(app: FastAPI) -> None:
    """Let every failure leave the API in this form."""

    async def failed(_: Request, error: Exception) -> Response:
        return response(translated(error))

    async def http(_: Request, error: Exception) -> Response:
        status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
        return response(Problem(status, f"request = {detail}", "docs/api.md lists what there is"))

    async def unfit(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
        key = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return response(Problem(422, f"{key} = {first['msg']}", "docs/api.md shows the request"))

    for kind in (Problem, BusyError, InferenceUnavailableError, InferenceRefusedError, DBAPIError, PoolTimeoutError):
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, unfit)
