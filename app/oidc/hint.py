"""The provider's word about who signed in, kept by the browser until its sign-out: there it says who is to go.

Without it providers ask whether one means it, or do not know the way back.
"""

from starlette.requests import Request
from starlette.responses import Response

# With a path of its own it goes along with no other request.
NAME, PATH = "__Secure-rag-out", "/sign-out"
# A cookie holds four kilobytes, and browsers drop a larger one without a word.
LONGEST = 3800


def put(response: Response, id_token: str, seconds: int) -> None:
    """Keep the word for as long as a sign-in may last; one that fits no cookie is left, and asked for nowhere."""
    if len(id_token) > LONGEST:
        take_away(response)
        return
    response.set_cookie(NAME, id_token, max_age=seconds, path=PATH, secure=True, httponly=True, samesite="lax")


def read(request: Request) -> str:
    """The word that this browser keeps; empty without one."""
    return request.cookies.get(NAME, "")[:LONGEST]


def take_away(response: Response) -> None:
    """It is good for one sign-out."""
    response.delete_cookie(NAME, path=PATH, secure=True, httponly=True, samesite="lax")
