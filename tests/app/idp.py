"""A real OpenID provider on loopback, its people, and platforms that let people sign in there."""

import contextlib
import datetime
import ipaddress
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.app.hosts import another_host
from tests.app.servers import ROOT, Process, free_port, listens
from tests.app.site import Site

PLATFORM = "https://rag.test"
CLIENT = "rag"
SECRET = "a secret: of 50% & more"
LABEL = "Work"
MODULES = ROOT / "build/provider/node_modules"
TRY = "__Host-rag-oidc"
MAPPING = {
    "label": LABEL,
    "create": True,
    "admin_groups": ["rag-admins"],
    "editor_groups": ["writers"],
    "reader_groups": ["staff"],
    "email_domains": ["example.org"],
    "deadline_seconds": 2,
}


def write_certificate(folder: Path, *names: str) -> None:
    """A certificate for these names and loopback, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [*map(x509.DNSName, names), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@dataclass
class Provider:
    """The provider: its people are known by a subject, and have what claims the tests give them."""

    process: Process
    issuer: str
    certificate: Path

    def knows(self, **people: dict[str, Any]) -> None:
        """Nobody else is known."""
        self._set(people=people)

    def forges(self, **how: Any) -> None:
        """From now on every id_token is another: with these ``claims`` or ``header``, by that ``key``."""
        self._set(tamper=how or None)

    def asked(self) -> dict[str, int]:
        """How often each of its paths was asked for since it started."""
        return self._set()

    def _set(self, **what: Any) -> dict[str, int]:
        trust = ssl.create_default_context(cafile=str(self.certificate))
        answer = httpx.post(f"{self.issuer}/test", json=what, verify=trust, trust_env=False)
        counts: dict[str, int] = answer.json()
        return counts

    def lines(self, **settings: Any) -> str:
        """What a platform's configuration says of it."""
        given = {"issuer": self.issuer, "client_id": CLIENT, "ca_file": str(self.certificate), **MAPPING, **settings}
        written = "\n".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
        return f"\n[oidc]\n{written}\n"

    def answers(self, address: str, login: str) -> dict[str, str]:
        """What the browser brings back from the provider's page of who enters there, or with no ``login`` gives up."""
        trust = ssl.create_default_context(cafile=str(self.certificate))
        with httpx.Client(verify=trust, trust_env=False, timeout=10) as browser:
            answer = browser.get(address)
            while not answer.headers.get("location", "").startswith(PLATFORM):
                assert answer.status_code < 400, answer.text
                place = answer.url.join(answer.headers["location"]) if answer.is_redirect else None
                if place and "/interaction/" in place.path:
                    answer = browser.post(place, data={"login": login} if login else {"abort": "1"})
                elif place:
                    answer = browser.get(place)
                else:
                    pytest.fail(answer.text)
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in query.items()}


@contextlib.contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """The provider, running."""
    if not MODULES.is_dir():
        pytest.fail(f"{MODULES} = not there; the provider of the tests; make app-test")
    write_certificate(folder, "localhost")
    port = free_port()
    issuer = f"https://localhost:{port}"
    given = {
        "issuer": issuer,
        "port": port,
        "platform": PLATFORM,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "modules": str(MODULES),
        "key": str(folder / "key.pem"),
        "certificate": str(folder / "crt.pem"),
    }
    (folder / "provider.json").write_text(json.dumps(given))
    command = ["node", str(ROOT / "tests/app/provider/provider.js"), str(folder / "provider.json")]
    process = Process(command, {"PATH": os.environ["PATH"]}, folder / "provider.log", lambda: listens(port))
    process.start()
    try:
        yield Provider(process, issuer, folder / "crt.pem")
    finally:
        process.stop()


@contextlib.contextmanager
def platform(site: Site, there: Provider, secret: str = SECRET, **settings: Any) -> Iterator[httpx.Client]:
    """An app host of the site that lets people sign in there."""
    (site.folder / "oidc-client-secret").write_text(secret)
    limits = {name: settings.pop(name) for name in tuple(settings) if name.endswith("_per_minute")}
    with another_host(site, more=there.lines(**settings), **limits) as http:
        yield http


@dataclass
class Try:
    """A sign-in that a browser began: where it was sent, and the cookie that it keeps."""

    address: str
    cookie: str

    @property
    def sent(self) -> dict[str, str]:
        """What the provider is told."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.address).query).items()}

    def comes_back(self, http: httpx.Client, answer: dict[str, str], **headers: str) -> httpx.Response:
        """The browser at the platform again, as a person's unless ``accept`` says otherwise."""
        told = {"accept": "text/html", "cookie": f"{TRY}={self.cookie}", **headers}
        return http.get("/sign-in/oidc/callback", params=answer, headers=told)


def begin(http: httpx.Client, next_path: str = "/") -> Try:
    """A browser goes to the provider."""
    answer = http.get("/sign-in/oidc", params={"next": next_path})
    assert answer.status_code == 303, answer.text
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{TRY}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(cookie.split("; "))
    return Try(answer.headers["location"], cookie.partition("=")[2].partition(";")[0])


def enter(http: httpx.Client, there: Provider, login: str, **headers: str) -> httpx.Response:
    """The whole way of a person, to the provider and back."""
    begun = begin(http)
    return begun.comes_back(http, there.answers(begun.address, login), **headers)


def token_of(answer: httpx.Response) -> str:
    """The session's token that the browser got."""
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-rag=")]
    return str(cookie.partition("=")[2].partition(";")[0])
