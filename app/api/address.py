"""Where a request comes from, as the audit and the guard against guessing tell it."""

import ipaddress

from fastapi import Request


def address(request: Request) -> str:
    """Where the client is; the balancer says so, who alone reaches us and lets nobody else say it."""
    told = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    said = (told or (request.client.host if request.client else ""))[:64]
    try:
        parsed = ipaddress.ip_address(said)
    except ValueError:
        return said
    # A balancer that listens for both families writes an address of IPv4 as one of IPv6.
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
