"""Ollama: a pinned archive and pinned models on loopback; HAProxy is its only door."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from gevent.lock import BoundedSemaphore
from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation
from pyinfra.api.exceptions import OperationError, PyinfraError

from inventories.network import OLLAMA
from inventories.settings import Inference, Machine, Model, Site, Ssh
from tasks.archives import checksum, sha256_of, stream, unpacked
from tasks.operations import Commands, call, ensure
from tasks.wants import Check, Directory, File, Unit, User, rendered

HOME = "/var/lib/ollama"
MODELS = f"{HOME}/models"
USER = "ollama"
UNIT = "/etc/systemd/system/ollama.service"
URL = f"http://127.0.0.1:{OLLAMA.backend}"
# curl's: refused by the server, no ranges there, draft longer than the file.
CANNOT_GO_ON = {22, 33, 36}

_fetching = BoundedSemaphore(1)


@deploy("Ollama")
def ollama(site: Site, machine: Machine) -> None:
    """The models come after the service, which names what it holds by checksum."""
    settings = site.inference
    unpacked(
        name="Unpack Ollama",
        folder="/opt/ollama",
        release=settings.archive_sha256[:16],
        archive=lambda: verified_archive(settings),
        ssh=site.ssh,
        machine=machine,
    )

    ensure(
        name="Run Ollama",
        users=[User(USER, home=HOME, groups=("render", "video") if machine.gpu else ())],
        # Only what lies in root's own folder: a link that Ollama's user put deeper would be followed.
        directories=[Directory(HOME, "750", USER, USER)],
        files=[
            File(
                UNIT,
                rendered(
                    "ollama/ollama.service.j2",
                    machine=machine,
                    settings=settings,
                    release=settings.archive_sha256[:16],
                    home=HOME,
                    models=MODELS,
                    port=OLLAMA.backend,
                ),
            )
        ],
        units=[Unit("ollama.service", reads=(UNIT,), in_turn=True)],
        check=Check(f"curl --fail --silent {URL}/api/version", seconds=90),
    )

    models_present(
        name="Hold the models",
        models=list(settings.models),
        store=settings.model_store,
        ssh=site.ssh,
        machine=machine,
    )


def verified_archive(settings: Inference) -> Path:
    """Ollama's archive on the controller, fetched once when it is missing; any other checksum is refused."""
    path = settings.archive
    # Every inference host asks for it at the same time.
    with _fetching:
        if not path.is_file():
            _fetch(settings, path.with_suffix(".part"))
    if sha256_of(path) != settings.archive_sha256:
        raise PyinfraError(
            f"inference.archive = {path} with sha256 {sha256_of(path)}; "
            f"{settings.archive_sha256} is needed; remove the file or correct inference.archive_sha256"
        )
    return path


def _fetch(settings: Inference, draft: Path) -> None:
    path, url = settings.archive, settings.archive_url
    if not url:
        raise PyinfraError(f"inference.archive = {path}; the file is needed; make stand-in builds the lab's")
    path.parent.mkdir(parents=True, exist_ok=True)
    fetch = ["curl", "--fail", "--location", "--silent", "--show-error", "--continue-at", "-"]
    done = subprocess.run([*fetch, "--output", str(draft), url], check=False)
    if done.returncode:
        # An interrupted draft is gone on with; one that the server does not go on with would fail for ever.
        if done.returncode in CANNOT_GO_ON:
            draft.unlink(missing_ok=True)
        raise PyinfraError(f"inference.archive_url = {url}; not fetched; put the file at {path}")
    found = checksum(draft)
    if found != settings.archive_sha256:
        draft.unlink()
        raise PyinfraError(
            f"inference.archive_url = {url} with sha256 {found}; {settings.archive_sha256} is needed; "
            "correct inference.archive_url or inference.archive_sha256"
        )
    draft.replace(path)


class Models(FactBase[dict[str, str]]):
    """The models that Ollama holds: name to the sha256 of its manifest."""

    @staticmethod
    def default() -> dict[str, str]:
        """None."""
        return {}

    def command(self) -> str:
        """Ollama's own list."""
        return f"curl --fail --silent {URL}/api/tags || true"

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Name to digest."""
        text = "".join(output)
        return {model["name"]: model["digest"] for model in json.loads(text)["models"]} if text else {}


def lacking(models: Iterable[Model], held: dict[str, str]) -> list[Model]:
    """The models that are missing or have another content than the site pinned."""
    return [model for model in models if model.name not in held or model.digest not in {None, held[model.name]}]


@operation()
def models_present(models: list[Model], store: Path | None, ssh: Ssh, machine: Machine) -> Commands:
    """
    Push the models that the machine lacks from the controller's store; without a store the machine pulls them.

    + models: what the site names
    + store: folder with manifests/ and blobs/, as Ollama lays them out
    + ssh, machine: how to reach the machine
    """
    absent = lacking(models, host.get_fact(Models))
    if not absent:
        host.noop(f"{len(models)} models are there")
        return
    for model in absent:
        if store:
            yield call(_push_model, model, store, ssh, machine)
        else:
            yield StringCommand(
                f"OLLAMA_HOST=127.0.0.1:{OLLAMA.backend} /opt/ollama/current/bin/ollama pull {model.name}"
            )
    yield call(_verify, models)


def _push_model(model: Model, store: Path, ssh: Ssh, machine: Machine) -> None:
    manifest = store / model.manifest
    if not manifest.is_file():
        raise OperationError(f"model {model.name} = not in {store}; its manifest is needed at {manifest}; ls {store}")
    described = json.loads(manifest.read_text())
    blobs = [f"blobs/{layer['digest'].replace(':', '-')}" for layer in (described["config"], *described["layers"])]
    # Blobs first: a manifest without its blobs is a broken model, blobs without one are nothing yet.
    paths = [*dict.fromkeys(blobs), str(model.manifest)]
    # As the user to whom the folder belongs: root would follow a link in it.
    script = f"cd /; runuser -u {USER} -- sh -c 'umask 027; mkdir -p {MODELS} && tar --extract -C {MODELS}'"
    stream(["tar", "--create", "--dereference", "-C", str(store), *paths], script, ssh, machine)


def _verify(models: list[Model]) -> None:
    wrong = lacking(models, host.get_fact(Models, _sudo=True))
    if wrong:
        raise OperationError(
            f"model {wrong[0].name} on {host.name} = missing or with another content; "
            f"sha256 {wrong[0].digest} is needed; curl -s {URL}/api/tags"
        )
