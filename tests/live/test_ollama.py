"""Ollama: the pinned archive and models, on loopback, reached from app hosts through their pool."""

import json
from collections.abc import Callable

from inventories.settings import Machine, Site

Run = Callable[[Machine | str, str], str]


def test_every_inference_host_holds_the_pinned_models(site: Site, run: Run) -> None:
    for machine in site.having("inference"):
        said = json.loads(run(machine, "curl -fsS http://127.0.0.1:11434/api/tags"))
        held = {model["name"]: model["digest"] for model in said["models"]}
        for model in (site.inference.chat_model, site.inference.embedding_model):
            assert held[model.name] == (model.digest or held[model.name])
        version = json.loads(run(machine, "curl -fsS http://127.0.0.1:11434/api/version"))["version"]
        assert version == site.inference.version
        assert ("standin" in version) == site.inference.stand_in
        assert run(machine, "ss -Hltn 'sport = 11434'").split()[3] == "127.0.0.1:11434"
        # Nobody who looks at the unit takes the stand-in for the real thing.
        described = run(machine, "systemctl show -P Description ollama")
        assert ("stand-in" in described) == site.inference.stand_in


def test_an_app_host_gets_embeddings_of_the_right_length_through_its_pool(site: Site, run: Run) -> None:
    asked = json.dumps({"model": site.inference.embedding_model.name, "input": ["one", "two"]})
    for machine in site.having("app"):
        said = json.loads(run(machine, f"curl -fsS --max-time 60 http://127.0.0.1:11435/api/embed -d '{asked}'"))
        assert [len(vector) for vector in said["embeddings"]] == [site.inference.embedding_dimension] * 2


def test_an_app_host_gets_an_answer_through_its_pool(site: Site, run: Run) -> None:
    said = {"role": "user", "content": "Say hello."}
    asked = json.dumps({"model": site.inference.chat_model.name, "stream": False, "messages": [said],
                        "options": {"num_predict": 16, "num_ctx": site.inference.context_tokens}})  # fmt: skip
    for machine in site.having("app"):
        answer = json.loads(run(machine, f"curl -fsS --max-time 90 http://127.0.0.1:11435/api/chat -d '{asked}'"))
        assert answer["done"] is True
        assert answer["message"]["content"].strip()
