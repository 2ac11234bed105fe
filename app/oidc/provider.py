"""The site's provider as it answers now: its description, its keys, and what it says for a code."""

import asyncio
import contextlib
import logging
import math
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc.jwk import KeySet

from app.oidc import token
from app.oidc.attempt import Attempt
from app.oidc.person import Person, person, wanted
from app.oidc.settings import Oidc

log = logging.getLogger(__name__)

# The description is asked for at every sign-in, so that one that cannot end does not begin; not more often than this.
DESCRIPTION_SECONDS = 30.0
KEYS_SECONDS = 600.0
# Who comes back makes us ask the provider: so many at a time, in each process.
AT_ONCE = 8
# Strangers make us ask too: what has just failed is told again, and tokens that no key signed fetch no keys meanwhile.
FAILED_SECONDS = 2.0
KEYS_AGAIN_SECONDS = 5.0


class ProviderSilentError(Exception):
    """The provider does not answer, or not as a provider does; the message says what, for the journal."""


class CodeRefusedError(Exception):
    """The provider does not take the code: it was spent before, is too old, or another's."""


@dataclass(frozen=True)
class Description:
    """What a provider's discovery document says of it."""

    authorization: str
    tokens: str
    keys: str
    userinfo: str
    end_session: str
    names_itself: bool
    """It puts its issuer beside every code."""
    takes_basic: bool
    at: float


class Provider:
    """One process's view of the provider."""

    def __init__(self, settings: Oidc, secret: str, domain: str) -> None:
        self.settings = settings
        self.redirect = f"https://{domain}/sign-in/oidc/callback"
        self.home = f"https://{domain}/sign-in"
        self._secret = secret
        trust = ssl.create_default_context(cafile=settings.ca_file or None)
        self._http = httpx.AsyncClient(verify=trust, timeout=settings.deadline_seconds, trust_env=False)
        # Whoever opens the sign-in needs none of these: its one question waits in a line of its own.
        self._places = asyncio.Semaphore(AT_ONCE)
        self._describing, self._fetching = asyncio.Lock(), asyncio.Lock()
        self._failed: dict[str, tuple[str, float]] = {}
        self._description: Description | None = None
        self._keys: tuple[KeySet, float] = (KeySet([]), 0.0)
        self._keys_again = -math.inf

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def begin(self, attempt: Attempt) -> str:
        """Where the browser goes to sign in."""
        described = await self._described(DESCRIPTION_SECONDS)
        return str(
            prepare_grant_uri(
                described.authorization,
                client_id=self.settings.client_id,
                response_type="code",
                redirect_uri=self.redirect,
                scope=self.settings.scopes,
                state=attempt.state,
                nonce=attempt.nonce,
                code_challenge=create_s256_code_challenge(attempt.verifier),
                code_challenge_method="S256",
            )
        )

    async def end(self, id_token: str = "") -> str:
        """Where the browser goes to sign out at the provider, as whom ``id_token`` says; empty without such a place."""
        described = await self._described(DESCRIPTION_SECONDS)
        if not described.end_session:
            return ""
        told = {"client_id": self.settings.client_id, "post_logout_redirect_uri": self.home}
        query = urlencode(told | ({"id_token_hint": id_token} if id_token else {}))
        return f"{described.end_session}{'&' if '?' in described.end_session else '?'}{query}"

    async def who(self, attempt: Attempt, code: str, issuer: str) -> Person:
        """Who signed in there, for the code that the browser brought back from ``issuer``, where that was named."""
        described = await self._described(KEYS_SECONDS)
        if (issuer or described.names_itself) and issuer != self.settings.issuer:
            raise token.TokenRefusedError("iss: the code is another issuer's")
        told = await self._exchanged(described, attempt, code)
        access = str(told.get("access_token", ""))
        id_token = str(told.get("id_token", ""))
        claims = await self._verified(described, attempt, id_token, access)
        if described.userinfo and wanted(self.settings, claims):
            more = await self._in_turn("GET", described.userinfo, headers={"Authorization": f"Bearer {access}"})
            if more.get("sub") != claims["sub"]:
                raise token.TokenRefusedError("sub: userinfo is somebody else's")
            claims = {**more, **claims}
        return replace(person(self.settings, claims), id_token=id_token)

    async def _exchanged(self, described: Description, attempt: Attempt, code: str) -> Mapping[str, Any]:
        name, secret = self.settings.client_id, self._secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": attempt.verifier,
        }
        if described.takes_basic:
            # RFC 6749, 2.3.1: both are written as in a form first.
            login = httpx.BasicAuth(quote_plus(name), quote_plus(secret))
            return await self._in_turn("POST", described.tokens, data=form, auth=login)
        return await self._in_turn("POST", described.tokens, data={**form, "client_id": name, "client_secret": secret})

    async def _verified(
        self, described: Description, attempt: Attempt, id_token: str, access: str
    ) -> Mapping[str, Any]:
        def read(keys: KeySet) -> Mapping[str, Any]:
            return token.verified(
                id_token,
                keys,
                issuer=self.settings.issuer,
                client_id=self.settings.client_id,
                nonce=attempt.nonce,
                access_token=access,
            )

        keys = await self._signing_keys(described)
        try:
            return read(keys)
        except token.UnknownKeyError:
            log.info("oidc.keys", extra={"asked_anew": "no key that is known has signed a token"})
        return read(await self._signing_keys(described, keys))

    async def _signing_keys(self, described: Description, refused: KeySet | None = None) -> KeySet:
        """The provider's keys; asked for anew, now and then, where those that are known were ``refused``."""
        async with self._fetching:
            keys, at = self._keys
            now = time.monotonic()
            if (
                keys
                and now - at < KEYS_SECONDS
                and (keys is not refused or now - self._keys_again < KEYS_AGAIN_SECONDS)
            ):
                return keys
            if keys is refused:
                self._keys_again = now
            with self._remembering("keys"):
                published = (await self._json("GET", described.keys)).get("keys")
                if not isinstance(published, list):
                    raise ProviderSilentError("keys: no list")
            self._keys = (token.key_set(published), time.monotonic())
            return self._keys[0]

    async def _described(self, no_older_than: float) -> Description:
        if known := self._young(no_older_than):
            return known
        async with self._describing:
            # Whoever was before us in the line may have asked.
            if known := self._young(no_older_than):
                return known
            with self._remembering("description"):
                said = await self._json("GET", f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
                self._description = _description(self.settings.issuer, said)
            return self._description

    def _young(self, no_older_than: float) -> Description | None:
        known = self._description
        return known if known and time.monotonic() - known.at < no_older_than else None

    @contextlib.contextmanager
    def _remembering(self, what: str) -> Iterator[None]:
        """Tell of a failure again for a moment: who waited in line for it would otherwise each wait for another."""
        reason, at = self._failed.get(what, ("", -math.inf))
        if time.monotonic() - at < FAILED_SECONDS:
            raise ProviderSilentError(reason)
        try:
            yield
        except ProviderSilentError as error:
            self._failed[what] = (str(error), time.monotonic())
            raise

    async def _in_turn(self, method: str, address: str, **sent: Any) -> dict[str, Any]:
        """The same in one of the places, for whoever came back from the provider."""
        try:
            async with asyncio.timeout(self.settings.deadline_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise ProviderSilentError(f"{method} {address.partition('?')[0]}: {AT_ONCE} others wait") from None
        try:
            return await self._json(method, address, **sent)
        finally:
            self._places.release()

    async def _json(self, method: str, address: str, **sent: Any) -> dict[str, Any]:
        """The JSON object that the provider answers with, in time."""
        try:
            # The client's own limit is for each piece of an answer, and pieces can come for ever.
            async with asyncio.timeout(self.settings.deadline_seconds):
                answer = await self._http.request(method, address, **sent)
            said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ProviderSilentError(f"{method} {address.partition('?')[0]}: {reason[:200]}") from None
        if not isinstance(said, dict):
            raise ProviderSilentError(f"{method} {address.partition('?')[0]}: no object")
        if answer.is_success:
            return said
        if said.get("error") == "invalid_grant":
            raise CodeRefusedError
        what = "".join(letter for letter in str(said.get("error", ""))[:60] if letter.isprintable())
        raise ProviderSilentError(f"{method} {address.partition('?')[0]}: {answer.status_code} {what}")


def _description(issuer: str, said: Mapping[str, Any]) -> Description:
    if said.get("issuer") != issuer:
        raise ProviderSilentError(f"issuer: the document is of {str(said.get('issuer'))[:200]}")
    methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return Description(
        authorization=_place(said, "authorization_endpoint"),
        tokens=_place(said, "token_endpoint"),
        keys=_place(said, "jwks_uri"),
        userinfo=_place(said, "userinfo_endpoint", needed=False),
        end_session=_place(said, "end_session_endpoint", needed=False),
        names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        takes_basic="client_secret_basic" in methods,
        at=time.monotonic(),
    )


def _place(said: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """An address that the provider names; what is told to it must not be read on the way."""
    place = str(said.get(name) or "")
    if not place.startswith("https://") and (needed or place):
        raise ProviderSilentError(f"{name}: no https address")
    return place
