"""Public keys as OpenSSH writes them (RFC 4253, 6.6): a type, and base64 of fields that begin with it."""

import base64

KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def is_public_key(line: str) -> bool:
    """Whether sshd would take the line of an authorized_keys file for a key."""
    # Options may stand before the type; sshd passes over a line that it does not understand without a word.
    words = line.split(" ")
    place = next((place for place, word in enumerate(words) if word in KEY_TYPES), len(words))
    if not line.isprintable() or line.startswith("#") or len(words) < place + 2:
        return False
    try:
        rest = base64.b64decode(words[place + 1], validate=True)
    except ValueError:
        return False
    parts: list[bytes] = []
    while len(rest) >= 4:
        end = 4 + int.from_bytes(rest[:4])
        parts, rest = [*parts, rest[4:end] if end <= len(rest) else b""], rest[end:]
    return not rest and len(parts) > 1 and all(parts) and parts[0] == words[place].encode()
