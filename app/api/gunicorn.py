"""How gunicorn serves the API: gunicorn -c python:app.api.gunicorn 'app.api.main:application()'."""

import os
import tempfile
from pathlib import Path
from typing import Any

from app import log
from app.settings import load_or_refuse

_settings = load_or_refuse()

# Must stand before the first metric is made. systemd's RuntimeDirectory= is on memory and gone after a stop.
_runtime = os.environ.get("RUNTIME_DIRECTORY") or tempfile.mkdtemp(prefix="rag-api-")
_metrics = Path(os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", f"{_runtime}/metrics"))
_metrics.mkdir(parents=True, exist_ok=True)
for _left_over in _metrics.glob("*.db"):
    _left_over.unlink()
# Beside them, for the count of people that the processes keep together.
os.environ.setdefault("RAG_ACTIVE_USERS", f"{_runtime}/active")

bind = f"{_settings.listen.address}:{_settings.listen.api}"
workers = _settings.listen.processes
worker_class = "asgi"
# The libraries are loaded once for all processes, which halves the time to ready.
preload_app = True
# An answer may stream for as long as its deadline allows; a stop waits for it.
graceful_timeout = int(_settings.inference.deadline_seconds) + 5
timeout = 60
# A search's words are in the line; this is the longest that gunicorn takes.
limit_request_line = 8190
# A stop waits for idle connections too, until their keep-alive ends.
keepalive = 2
control_socket_disable = True
accesslog = None
# From its first line on, which is written before the application is loaded.
logconfig_dict = log.configuration()
# Workers prove that they live by touching a file, which must not wait for a disk.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes a private file there


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead process's gauges out of the sums."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - must come after the folder is set

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
