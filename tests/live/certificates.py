"""Certificates that the site's CA signed for the wrong machine, to see who lets them in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from inventories.certificates import Certificate
from inventories.settings import Machine, Site
from tasks.pki import authority_of, signed


@contextmanager
def forged(
    site: Site, run: Callable[[Machine | str, str], str], machine: Machine, name: str, service: str
) -> Iterator[str]:
    """On ``machine``, curl's words for ``name``'s certificate of a service, as if that one's key had been stolen."""
    folder = "/run/rag-test-pki"
    request = run(
        machine,
        f"umask 077; mkdir -p {folder}; cd {folder}; "
        "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key; "
        "openssl req -new -key key -subj /CN=x",
    )
    wanted = Certificate(service, "root", (name,), ())
    pem = signed(wanted, name, request, authority_of(site, "authority"), datetime.now(UTC)).decode()
    run(machine, f"cat > {folder}/crt <<'PEM'\n{pem}PEM")
    try:
        yield f"--cert {folder}/crt --key {folder}/key"
    finally:
        run(machine, f"rm -rf {folder}")
