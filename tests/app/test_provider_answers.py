"""A provider that is broken, slow or somebody else: in time one reason for the journal, and no sign-in."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.oidc import attempt
from app.oidc.provider import Provider, ProviderSilentError
from app.oidc.settings import Oidc
from app.oidc.token import ALGORITHMS, TokenRefusedError, key_set
from tests.app.idp import write_certificate

KEY = "k" * 40
FOREVER = object()


class Broken(BaseHTTPRequestHandler):
    """Answers with what the test laid down for the path."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        status, content = self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("location", "/elsewhere")
        self.end_headers()
        if content is FOREVER:
            # Who listens always gets a little more, until they hang up.
            with contextlib.suppress(OSError):
                while not threading.Event().wait(0.05):
                    self.wfile.write(b" ")
            return
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Oidc]]:
    write_certificate(tmp_path, "localhost")
    handler = type("Handler", (Broken,), {"answers": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "crt.pem", tmp_path / "key.pem")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    issuer = f"https://localhost:{server.server_port}"

    def with_answers(answers: dict[str, Any]) -> Oidc:
        handler.answers = answers
        return Oidc(issuer=issuer, client_id="rag", ca_file=str(tmp_path / "crt.pem"), deadline_seconds=1)

    yield with_answers
    server.shutdown()
    server.server_close()


WELL_KNOWN = "/.well-known/openid-configuration"


def described(settings: Oidc, **other: Any) -> dict[str, Any]:
    issuer = settings.issuer
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        **other,
    }


def signed_in(settings: Oidc, code: str = "code") -> object:
    """The whole way, without a browser; never longer than the test may take."""

    async def way() -> object:
        there = Provider(settings, "secret", "rag.test")
        begun = attempt.begun(KEY, "/")
        try:
            async with asyncio.timeout(30):
                await there.begin(begun)
                return await there.who(begun, code, "")
        finally:
            await there.close()

    return asyncio.run(way())


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (200, b"<html>Welcome", "GET"),
        (200, b"", "GET"),
        (200, b"[" * 100_000, "GET"),
        (200, [], "no object"),
        (200, {}, "issuer: the document is of None"),
        (500, {"error": "down"}, "500 down"),
        (302, b"{}", "302"),
        (200, FOREVER, "GET"),
    ],
)
def test_a_description_that_is_none_is_told_in_time(
    broken: Callable[[dict[str, Any]], Oidc], status: int, content: Any, reason: str
) -> None:
    settings = broken({WELL_KNOWN: (status, content)})

    with pytest.raises(ProviderSilentError, match=reason) as told:
        signed_in(settings)

    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "other",
    [
        {"issuer": "https://evil.test"},
        {"authorization_endpoint": "http://localhost/auth"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "http://localhost/token"},
        {"token_endpoint": None},
        {"jwks_uri": ["https://localhost"]},
        {"userinfo_endpoint": "http://localhost/me"},
        {"end_session_endpoint": "javascript:alert(1)"},
    ],
)
def test_nothing_is_told_to_an_address_that_others_can_read_on_the_way(
    broken: Callable[[dict[str, Any]], Oidc], other: dict[str, Any]
) -> None:
    settings = broken({})
    broken({WELL_KNOWN: (200, described(settings, **other))})

    with pytest.raises(ProviderSilentError):
        signed_in(settings)


@pytest.mark.parametrize(
    ("token", "keys", "refusal"),
    [
        ((500, b"oops"), (200, {"keys": []}), ProviderSilentError),
        ((401, {"error": "invalid_client", "error_description": "secret"}), (200, {"keys": []}), ProviderSilentError),
        ((200, {}), (200, {"keys": []}), TokenRefusedError),
        ((200, {"id_token": 5}), (200, {"keys": []}), TokenRefusedError),
        ((200, {"id_token": "a.b.c"}), (200, {"keys": []}), TokenRefusedError),
        ((200, {"id_token": "a.b.c"}), (200, {"keys": {}}), ProviderSilentError),
        ((200, {"id_token": "a.b.c"}), (200, {"keys": [5, None, {}, {"kty": "?"}]}), TokenRefusedError),
        ((200, {"id_token": "a.b.c"}), (503, b""), ProviderSilentError),
        ((200, FOREVER), (200, {"keys": []}), ProviderSilentError),
    ],
)
def test_whatever_stands_in_the_place_of_token_and_keys_signs_nobody_in(
    broken: Callable[[dict[str, Any]], Oidc], token: Any, keys: Any, refusal: type[Exception]
) -> None:
    settings = broken({})
    broken({WELL_KNOWN: (200, described(settings)), "/token": token, "/keys": keys})

    with pytest.raises(refusal) as told:
        signed_in(settings)

    assert "secret" not in str(told.value)


def test_neither_a_shared_secret_nor_no_signature_is_among_what_is_believed() -> None:
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name == "none"]
    good = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "1"}
    # A key of a kind that is not known yet takes none from the others.
    assert [key.kid for key in key_set([{"kty": "AKP", "kid": "0"}, good])] == ["1"]
