"""The Python client has a method for every call of the API."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.api.main import application
from app.client import Client
from app.client.embedding import Embedding
from app.client.people import People

SITE = """
domain = "rag.test"
[database]
hosts = ["127.0.0.1"]
[inference]
chat_model = "chat"
embedding_model = "embed"
embedding_dimension = 4
"""
# What a balancer, Prometheus, browsers and clients of OpenAI's API ask for, and what the module's `sign_in` does.
BROWSERS = {("GET", "/sign-in/oidc"), ("GET", "/sign-in/oidc/callback"), ("GET", "/sign-out/oidc")}
OTHERS = {("GET", "/health/live"), ("GET", "/metrics"), ("POST", "/api/v1/token"), *BROWSERS}
SOME = {UUID: UUID(int=1), str: "x", "Kind": "group", list[str]: ["read"], int: 1}


class HeardError(Exception):
    """The request was heard; there is no answer."""


def test_every_call_of_the_api_has_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rag.toml").write_text(SITE)
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag.toml"))
    # This process has its own logs.
    monkeypatch.setattr("app.log.configure", lambda: None)
    paths = application().openapi()["paths"]
    every = {
        (method.upper(), path) for path, methods in paths.items() for method in methods if not path.startswith("/v1/")
    }
    patterns = {(method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))): (method, path) for method, path in every}

    found = set()
    for sent in requests():
        # `/keys/x` is no collection's name: the route with fewest open places is meant.
        fitting = [of for (method, path), of in patterns.items() if method == sent[0] and path.fullmatch(sent[1])]
        assert fitting, f"{sent} is no route"
        found.add(min(fitting, key=lambda of: of[1].count("{")))

    assert every - found == OTHERS


def requests() -> Iterator[tuple[str, str]]:
    """What each method of the client asks for."""
    heard: list[tuple[str, str]] = []

    @contextmanager
    def hear(method: str, path: str, **_: object) -> Iterator[None]:
        heard.append((method, path))
        raise HeardError
        yield

    with pytest.MonkeyPatch.context() as patch, Client("http://127.0.0.1:1") as client:
        patch.setattr(client._transport, "open", hear)
        for method in (*methods(client), *methods(client.people), *methods(client.embedding)):
            with pytest.raises(HeardError):
                list(method(**dict(wanted(method))))
        people: People = client.people
        variants: tuple[Callable[[], Any], ...] = (
            lambda: list(people.keys("ada")),
            lambda: people.delete_key("1", "ada"),
            lambda: people.sign_out(everywhere=True),
            lambda: people.grant("x", "user", "ada", "read"),
            lambda: people.revoke("x", "user", "ada"),
        )
        for variant in variants:
            with pytest.raises(HeardError):
                variant()
    yield from heard


def methods(of: Client | People | Embedding) -> list[Callable[..., Any]]:
    return [
        method
        for name, method in inspect.getmembers(of, inspect.ismethod)
        if not name.startswith("_") and name != "close"
    ]


def wanted(method: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The arguments that it cannot do without."""
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            kind = parameter.annotation
            yield name, b"" if name == "content" else "group" if name == "kind" else SOME[kind]
