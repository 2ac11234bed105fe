"""The platform's name over TLS, as a balancer gives it: each connection goes to the next app host."""

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.app.idp import write_certificate


@contextlib.contextmanager
def front(folder: Path, name: str, ports: list[int]) -> Iterator[int]:
    """A port of loopback with a certificate of this name, before the hosts at these ports."""
    write_certificate(folder, name)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "crt.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    turns = itertools.cycle(ports)
    threading.Thread(target=_accept, args=(listener, tls, turns), daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def _accept(listener: socket.socket, tls: ssl.SSLContext, turns: Iterator[int]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, tls, next(turns)), daemon=True).start()


def _serve(client: socket.socket, tls: ssl.SSLContext, port: int) -> None:
    with (
        contextlib.suppress(OSError),
        tls.wrap_socket(client, server_side=True) as near,
        socket.create_connection(("127.0.0.1", port)) as far,
    ):
        threading.Thread(target=_copy, args=(near, far), daemon=True).start()
        _copy(far, near)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
