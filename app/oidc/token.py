"""The provider's word about a person: an id_token is believed when everything about it fits, and not otherwise."""

from collections.abc import Iterable, Mapping
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry

# Signatures by a key that the provider alone has; none of a shared secret, and not the absence of one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# Clocks differ.
LEEWAY_SECONDS = 30
LONGEST_SUBJECT = 255


class TokenRefusedError(Exception):
    """The token is not to be believed; the message says why, for the journal."""


class UnknownKeyError(TokenRefusedError):
    """No key among these has signed it; the provider may have a new one."""


def key_set(published: Iterable[Any]) -> KeySet:
    """The published keys that we can read; one of a kind unknown to us takes none from the others."""
    keys = []
    for one in published:
        try:
            keys.append(JWKRegistry.import_key(one))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return KeySet(keys)


def verified(
    token: str, keys: KeySet, *, issuer: str, client_id: str, nonce: str, access_token: str
) -> Mapping[str, Any]:
    """The claims of an id_token that this provider made for us and for this try; raise TokenRefusedError otherwise."""
    try:
        read = jwt.decode(token, keys, registry=JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False))
        claims = CodeIDToken(
            read.claims,
            read.header,
            {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}},
            {"nonce": nonce, "client_id": client_id, "access_token": access_token},
        )
        claims.validate(leeway=LEEWAY_SECONDS)
    except (InvalidKeyIdError, BadSignatureError) as error:
        # A provider with one key may leave out what it is called by, and then have another.
        raise UnknownKeyError(str(error)) from None
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise TokenRefusedError(" ".join(str(error).split())[:200]) from None
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        raise TokenRefusedError("azp: made for somebody else")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise TokenRefusedError(f"sub: 1 to {LONGEST_SUBJECT} characters")
    return dict(claims)
