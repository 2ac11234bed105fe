"""The key of last resort: the site's age key, one line on paper, opens its secrets and every backup repository."""

import base64
import getpass
import hashlib
import hmac
import sys

import pyrage

MESSAGE = b"onprem-rag offline key"


def offline_password(age_key: str) -> str:
    """The password of a repository's offline key, from the line AGE-SECRET-KEY-1…; raise ValueError for any other."""
    line = age_key.strip().upper()
    try:
        pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:
        raise ValueError(
            f"age key = {len(line)} characters; the whole line AGE-SECRET-KEY-1… is needed, as it was written down"
        ) from None
    return base64.urlsafe_b64encode(hmac.digest(line.encode(), MESSAGE, hashlib.sha256)).decode()


def push_password(secret: str, machine: str) -> str:
    """The password of the repository that one machine pushes into; another machine's cannot be told from it."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), machine.encode(), hashlib.sha256)).decode()


def main() -> int:
    """`make offline-password`: the age key from standard input, the password on standard output; no file is read."""
    asked = getpass.getpass("age key: ") if sys.stdin.isatty() else sys.stdin.read()
    keys = [line for line in asked.splitlines() if line.strip().upper().startswith("AGE-SECRET-KEY-")]
    try:
        print(offline_password(keys[0] if keys else asked))
    except ValueError as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
