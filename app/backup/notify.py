"""What `systemctl status` shows of a running service."""

import os
import socket


def notify(**words: str) -> None:
    """Tell systemd, as sd_notify(3) does; outside of a unit nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    message = "\n".join(f"{key.upper()}={' '.join(value.split())}" for key, value in words.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        told.sendall(message.encode())
