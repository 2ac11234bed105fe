"""Requests that wait as long as they are told to, answer with a Problem when they are refused, and are made once."""

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
from pydantic import BaseModel

# Asked to come back later; nothing was done.
LATER = frozenset({429, 503})
# Where the answer does not say how much later.
PAUSE_SECONDS = 2.0
# The longest answer; a stream is never silent for so long, because heartbeats fill it.
ANSWER_SECONDS = 180.0
CONNECT_SECONDS = 5.0
Kind = TypeVar("Kind", bound=BaseModel)

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class UnreachableError(Exception):
    """Nobody answers at the platform's address, or not with its certificate."""


class Problem(Exception):  # noqa: N818 - it is an answer, as the API names it
    """An answer other than success (RFC 9457)."""

    def __init__(self, status: int, detail: str, help: str, request_id: str) -> None:  # noqa: A002 - as the API names it
        super().__init__(f"{detail}; {help}" if help else detail)
        self.status = status
        self.detail = detail
        self.help = help
        self.request_id = request_id


class Transport:
    """One platform, as one person; ``patience`` is how long a 429 or 503 is answered by coming again."""

    def __init__(self, url: str, secret: str, ca: Path | None, patience: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError(f"url = {url}; one that begins with https://, since it carries secrets")
        if ca and not ca.is_file():
            raise ValueError(f"ca = {ca}; a file with the site's authority")
        self._patience = patience
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            # The system's store unless told otherwise; no proxy from the environment sees the secrets.
            verify=ssl.create_default_context(cafile=ca),
            trust_env=False,
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )
        self._url = url

    @property
    def http(self) -> httpx.Client:
        """The connection itself."""
        return self._http

    def call(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer to one request; raise Problem when it is none of success."""
        with self.open(method, path, **sent) as response:
            self._read(response)
            return response

    def one(self, kind: type[Kind], method: str, path: str, **sent: Any) -> Kind:
        """The answer as a result of that kind."""
        return kind.model_validate_json(self.call(method, path, **sent).content)

    def pages(self, path: str, kind: type[Kind], **params: str) -> Iterator[Kind]:
        """Every item of a list, fetched page by page as they are read."""
        after: str | None = ""
        while after is not None:
            page = self.call("GET", path, params={**params, **({"after": after} if after else {})}).json()
            yield from (kind.model_validate(item) for item in page["items"])
            after = page["next"]

    @contextmanager
    def open(self, method: str, path: str, *, also: int = 0, **sent: Any) -> Iterator[httpx.Response]:
        """The same, with a body that is still to be read; ``also`` is another status than success that is none."""
        # The same key at each try: what was made by one whose answer got lost is not made again.
        headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
        deadline = time.monotonic() + self._patience
        while True:
            request = self._http.build_request(method, path, headers=headers, **sent)
            response = self._sent(request)
            try:
                if response.is_success or response.status_code == also:
                    yield response
                    return
                self._read(response)
            finally:
                response.close()
            pause = _pause(response.headers)
            if response.status_code not in LATER or time.monotonic() + pause > deadline:
                raise _problem(response)
            time.sleep(pause)

    def lines(self, response: httpx.Response) -> Iterator[str]:
        """The lines of an open answer as they come."""
        try:
            yield from response.iter_lines()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def close(self) -> None:
        """Give the connections up."""
        self._http.close()

    def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _read(self, response: httpx.Response) -> None:
        try:
            response.read()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return UnreachableError(f"{self._url} = a certificate of nobody known here; --ca with the site's authority")
        return UnreachableError(f"{self._url} = no answer; a platform that can be reached ({reason})")


def part(name: str) -> str:
    """The name as one part of a path."""
    return quote(name, safe="")


def _pause(headers: Mapping[str, str]) -> float:
    told = headers.get("retry-after", "")
    return float(told) if told.isdigit() else PAUSE_SECONDS


def _problem(response: httpx.Response) -> Problem:
    try:
        told = json.loads(response.text)
    except ValueError:
        told = None
    if not isinstance(told, dict) or "detail" not in told:
        return Problem(response.status_code, f"answer = {response.status_code} {response.reason_phrase}", "", "")
    return Problem(
        response.status_code, str(told["detail"]), str(told.get("help", "")), str(told.get("request_id", ""))
    )
