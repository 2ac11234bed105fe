"""A provider that is broken, slow or somebody else: in time one reason for the journal, and no sign-in."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from app.oidc import attempt
from app.oidc import provider as provider_module
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
        self.answers.setdefault("asked", []).append(self.path)
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


def answers(settings: Oidc, begun: attempt.Attempt, signing: ECKey, published: ECKey, **claims: Any) -> dict[str, Any]:
    """A provider with one key, which it does not call anything."""
    now = int(time.time())
    told = {"iss": settings.issuer, "aud": "rag", "sub": "1", "iat": now, "exp": now + 60, "nonce": begun.nonce}
    key = {name: value for name, value in published.as_dict(private=False).items() if name != "kid"}
    return {
        WELL_KNOWN: (200, described(settings)),
        "/token": (200, {"id_token": jwt.encode({"alg": "ES256"}, {**told, **claims}, signing), "access_token": "a"}),
        "/keys": (200, {"keys": [key]}),
    }


@pytest.mark.parametrize("subject", [248289761001, 5.5, True, ["1"], {"sub": "1"}])
def test_a_subject_that_is_no_text_is_refused_by_name(
    broken: Callable[[dict[str, Any]], Oidc], subject: object
) -> None:
    settings, key = broken({}), ECKey.generate_key("P-256")

    async def way() -> None:
        begun, there = attempt.begun(KEY, "/"), Provider(settings, "secret", "rag.test")
        broken(answers(settings, begun, key, key, sub=subject))
        with pytest.raises(TokenRefusedError, match="'sub' must be"):
            await there.who(begun, "code", "")
        await there.close()

    asyncio.run(way())


def test_another_key_that_is_called_nothing_is_asked_for_and_a_stranger_s_is_not_for_ever(
    broken: Callable[[dict[str, Any]], Oidc],
) -> None:
    settings = broken({})
    old, new, stranger = (ECKey.generate_key("P-256") for _ in range(3))

    async def way() -> list[str]:
        begun, there = attempt.begun(KEY, "/"), Provider(settings, "secret", "rag.test")
        for key in (old, new):
            broken(answers(settings, begun, key, key))
            assert (await there.who(begun, "code", "")).subject == "1"
        told = answers(settings, begun, stranger, new)
        broken(told)
        for _ in range(5):
            with pytest.raises(TokenRefusedError, match="bad_signature"):
                await there.who(begun, "code", "")
        await there.close()
        asked: list[str] = told["asked"]
        return asked

    assert asyncio.run(way()).count("/keys") <= 1


@pytest.mark.parametrize("answer", [(500, b"{}"), (200, {"issuer": "https://evil.test"}), (200, FOREVER)])
def test_a_crowd_asks_a_provider_that_is_broken_once_in_a_while(
    broken: Callable[[dict[str, Any]], Oidc], monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(provider_module, "FAILED_SECONDS", 60.0)
    told = {WELL_KNOWN: answer}
    settings = broken(told)

    async def crowd() -> list[Any]:
        there, begun = Provider(settings, "secret", "rag.test"), attempt.begun(KEY, "/")
        found = await asyncio.gather(*(there.begin(begun) for _ in range(30)), return_exceptions=True)
        await there.close()
        return found

    assert {type(one) for one in asyncio.run(crowd())} == {ProviderSilentError}
    assert told["asked"] == [WELL_KNOWN]


def test_who_comes_back_does_not_wait_behind_a_crowd_that_begins(
    broken: Callable[[dict[str, Any]], Oidc], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "DESCRIPTION_SECONDS", 0.0)
    settings, key = broken({}), ECKey.generate_key("P-256")

    async def way() -> str:
        begun, there = attempt.begun(KEY, "/"), Provider(settings, "secret", "rag.test")
        told = answers(settings, begun, key, key)
        broken(told)
        await there.begin(begun)
        broken({**told, WELL_KNOWN: (200, FOREVER)})
        crowd = [asyncio.create_task(there.begin(begun)) for _ in range(30)]
        await asyncio.sleep(0)
        subject = (await there.who(begun, "code", "")).subject
        # They wait still.
        assert not [one for one in crowd if one.done()]
        await asyncio.gather(*crowd, return_exceptions=True)
        await there.close()
        return subject

    assert asyncio.run(way()) == "1"
