"""The routes: what Ollama answers, with its words and its shapes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from . import store
from .answers import Answering, TooLongError, context_of, vectors
from .apart import ApartError
from .environment import FOREVER, DurationError, Environment, seconds
from .reply import Body, Client, Reply, ReplyError, nanoseconds, stamp
from .runners import BusyError, Loaded, Runners
from .writer import Writer, WriterError, Written


@dataclass
class Knobs:
    """Trouble on demand, for rehearsals: fail = 503, hang or midstream; delay in seconds."""

    fail: str = ""
    delay: float = 0.0


@dataclass
class Site:
    environment: Environment
    version: str
    runners: Runners
    answering: Answering
    knobs: Knobs = field(default_factory=Knobs)


def _tags(site: Site, client: Client, _: Body) -> None:
    client.whole(200, {"models": [_card(one) for one in store.models(site.environment.models)]})


def _ps(site: Site, client: Client, _: Body) -> None:
    client.whole(200, {"models": [_card(one.model) | _running(one) for one in site.runners.loaded()]})


def _show(site: Site, client: Client, body: Body) -> None:
    model = _model(site, body, "model '{}' not found")
    parameters = "\n".join(f"{key:<30} {value}" for key, value in model.parameters.items())
    plain = {key: value for key, value in model.weights.metadata.items() if not isinstance(value, list)}
    client.whole(
        200,
        {
            "license": model.text("license"),
            "modelfile": f"FROM {model.weights.path}\nTEMPLATE {model.text('template')!r}\n",
            "parameters": parameters,
            "template": model.text("template"),
            "details": _details(model),
            "model_info": plain,
            "capabilities": ["embedding"] if model.embeds else ["completion"],
            "modified_at": model.modified_at,
        },
    )


def _pull(_: Site, client: Client, body: Body) -> None:
    refusal = (
        f"pull model manifest: {body.get('model')} = not here; the stand-in has no registry; copy it into OLLAMA_MODELS"
    )
    if body.get("stream") is False:
        raise ReplyError(500, refusal)
    client.begin_lines()
    client.line({"status": "pulling manifest"})
    client.line({"error": refusal})
    client.end_lines()


def _embed(site: Site, client: Client, body: Body) -> None:
    model = _model(site, body, 'model "{}" not found, try pulling it first')
    given = body.get("input")
    texts = [given] if isinstance(given, str) else list(given or [])
    if not all(isinstance(text, str) for text in texts):
        raise ReplyError(400, "invalid input type")
    if not model.embeds:
        raise ReplyError(501, "This server does not support embeddings. Start it with `--embeddings`")
    _trouble(site, client)
    began = time.monotonic()
    with _using(site, model, body) as (loaded, load_seconds):
        try:
            found = vectors(loaded, [text for text in texts if text], truncate=body.get("truncate") is not False)
        except TooLongError as error:
            raise ReplyError(400, str(error)) from None
        except ApartError as error:
            raise ReplyError(500, str(error)) from None
    client.whole(
        200,
        {
            "model": model.name,
            "embeddings": found.embeddings,
            "total_duration": nanoseconds(time.monotonic() - began),
            "load_duration": nanoseconds(load_seconds),
            "prompt_eval_count": found.tokens,
        },
    )


def _chat(site: Site, client: Client, body: Body) -> None:
    messages = [one for one in body.get("messages") or [] if isinstance(one, dict)]
    _write(site, client, body, messages, "message")


def _generate(site: Site, client: Client, body: Body) -> None:
    roles = {"system": body.get("system"), "user": body.get("prompt")}
    _write(site, client, body, [{"role": role, "content": text} for role, text in roles.items() if text], "response")


def _write(site: Site, client: Client, body: Body, messages: list[Body], key: str) -> None:
    model = _model(site, body, "model '{}' not found")
    if model.embeds:
        raise ReplyError(400, f'"{model.name}" does not support {"chat" if key == "message" else "generate"}')
    _trouble(site, client)
    reply = Reply(
        client, model.name, key, streams=body.get("stream") is not False, breaks=site.knobs.fail == "midstream"
    )
    began = time.monotonic()
    with _using(site, model, body) as (loaded, load_seconds):
        writer = loaded.runner
        assert isinstance(writer, Writer)
        if not messages:
            return reply.end(Written(reason="load" if loaded.keep_alive else "unload"), 0, 0)
        with _place(writer, client):
            options = model.parameters | (body.get("options") or {})
            try:
                written = site.answering.chat(writer, messages, options, reply.piece, client.gone)
            except WriterError as error:
                raise ReplyError(500, str(error)) from None
    return reply.end(written, time.monotonic() - began, load_seconds)


def _knobs(site: Site, client: Client, body: Body) -> None:
    site.knobs = Knobs(str(body.get("fail", "")), float(body.get("delay", 0)))
    client.whole(200, asdict(site.knobs))


def _trouble(site: Site, client: Client) -> None:
    if site.knobs.fail == "503":
        raise ReplyError(503, str(BusyError()))
    end = time.monotonic() + (3600 if site.knobs.fail == "hang" else site.knobs.delay)
    while time.monotonic() < end:
        if client.gone():
            raise ConnectionError
        time.sleep(0.05)


def _model(site: Site, body: Body, unknown: str) -> store.Model:
    name = str(body.get("model") or body.get("name") or "")
    if not name:
        raise ReplyError(400, "model is required")
    model = store.find(site.environment.models, name)
    if model is None:
        raise ReplyError(404, unknown.format(name))
    return model


@contextmanager
def _using(site: Site, model: store.Model, body: Body) -> Iterator[tuple[Loaded, float]]:
    given = body.get("keep_alive")
    try:
        keep_alive = site.environment.keep_alive if given is None else seconds(given)
    except DurationError as error:
        raise ReplyError(400, str(error)) from None
    context = context_of(model, body.get("options") or {}, site.environment)
    try:
        with site.runners.using(model, context, keep_alive) as held:
            yield held
    except BusyError as error:
        raise ReplyError(503, str(error)) from None


@contextmanager
def _place(writer: Writer, client: Client) -> Iterator[None]:
    # Ollama lets everybody wait here, without bound; whoever hangs up leaves the queue.
    while not writer.places.acquire(timeout=0.25):
        if client.gone():
            raise ConnectionError
    try:
        yield
    finally:
        writer.places.release()


def _card(model: store.Model) -> Body:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": model.digest,
        "details": _details(model),
    }


def _details(model: store.Model) -> Body:
    return {
        "parent_model": "",
        "format": model.config["model_format"],
        "family": model.config["model_family"],
        "families": model.config["model_families"],
        "parameter_size": model.config["model_type"],
        "quantization_level": model.config["file_type"],
    }


def _running(loaded: Loaded) -> Body:
    # Ollama's for ever is some three hundred years.
    expires = time.time() + 1e10 if loaded.expires_at == FOREVER else loaded.expires_at
    return {"expires_at": stamp(expires), "size_vram": 0, "context_length": loaded.context}


Route = Callable[[Site, Client, Body], None]
ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/"): lambda _site, client, _body: client.whole(200, "Ollama is running"),
    ("GET", "/api/version"): lambda site, client, _body: client.whole(200, {"version": site.version}),
    ("GET", "/api/tags"): _tags,
    ("GET", "/api/ps"): _ps,
    ("POST", "/api/show"): _show,
    ("POST", "/api/pull"): _pull,
    ("POST", "/api/embed"): _embed,
    ("POST", "/api/chat"): _chat,
    ("POST", "/api/generate"): _generate,
    # Ours, not Ollama's. HAProxy's list of paths keeps it on this machine.
    ("POST", "/standin/knobs"): _knobs,
}
