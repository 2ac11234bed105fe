"""What a client of OpenAI's API gets: by the shapes that OpenAI publishes."""

import json
from typing import Any

import httpx
import pytest

from tests.app import formats
from tests.app.servers import wait_for
from tests.app.site import Person, Site

QUESTION = "How long is the notice period of the Halden contract?"


@pytest.fixture
def filled(site: Site, admin: Person, collection: str) -> str:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    return collection


def chat(person: Person, model: str, *said: str, **more: Any) -> httpx.Response:
    roles = ("user", "assistant") * len(said)
    messages = [{"role": role, "content": words} for role, words in zip(roles, said, strict=False)]
    return person.call("POST", "/v1/chat/completions", json={"model": model, "messages": messages, **more})


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_collection_is_a_model(site: Site, admin: Person, collection: str) -> None:
    listed = admin.get("/v1/models")
    one = admin.get(f"/v1/models/{collection}")
    stranger = site.add_user()

    assert listed["object"] == "list"
    assert one in listed["data"]
    assert (one["id"], one["object"]) == (collection, "model")
    assert stranger.get("/v1/models")["data"] == []
    assert stranger.call("GET", f"/v1/models/{collection}").status_code == 404


def test_the_last_message_is_answered_with_citations_and_what_it_took(site: Site, admin: Person, filled: str) -> None:
    answer = chat(admin, filled, QUESTION, temperature=0.7, tools=[], user="somebody", n=1)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", filled)
    choice = body["choices"][0]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    assert choice["message"]["content"].endswith("90 days [1].")
    assert "90 days" in choice["message"]["citations"][0]["quote"]
    usage = body["usage"]
    assert usage["prompt_tokens"] > 100
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_ends_with_the_citations_and_on_demand_with_what_it_took(admin: Person, filled: str) -> None:
    streamed = chunks(chat(admin, filled, QUESTION, stream=True, stream_options={"include_usage": True}))
    plain = chunks(chat(admin, filled, QUESTION, stream=True))

    assert {chunk["object"] for chunk in streamed} == {"chat.completion.chunk"}
    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed[:-1])
    assert said.endswith("90 days [1].")
    last, usage = streamed[-2:]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["delta"]["citations"][0]["number"] == 1
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert all("usage" not in chunk for chunk in plain)


def test_a_chat_that_goes_on_is_remembered_and_stays_one_conversation(site: Site, admin: Person, filled: str) -> None:
    first = chat(admin, filled, QUESTION).json()["choices"][0]["message"]["content"]
    wait_for(
        "the first is on record",
        lambda: QUESTION in [one["title"] for one in admin.get("/api/v1/conversations")["items"]],
    )
    site.ollama.says = "The notice period is 90 days."
    before = len(admin.get("/api/v1/conversations")["items"])

    second = chat(admin, filled, QUESTION, first, "And how long exactly?").json()

    assert "90 days" in second["choices"][0]["message"]["content"]
    latest = admin.get("/api/v1/conversations")["items"][0]["id"]
    wait_for("both are one", lambda: len(admin.get(f"/api/v1/conversations/{latest}")["turns"]) == 2)
    assert len(admin.get("/api/v1/conversations")["items"]) == before


def test_a_message_may_come_in_parts_and_rules_of_a_client_count_for_nothing(
    site: Site, admin: Person, filled: str
) -> None:
    parts = [{"type": "text", "text": "How long is the notice period"}, {"type": "text", "text": "of Halden?"}]
    messages = [{"role": "system", "content": "Answer as a pirate."}, {"role": "user", "content": parts}]

    answer = admin.call("POST", "/v1/chat/completions", json={"model": filled, "messages": messages})

    assert "90 days" in answer.json()["choices"][0]["message"]["content"]
    assert "pirate" not in str(site.ollama.chats[-1]["messages"])


@pytest.mark.parametrize(
    ("body", "status", "begins"),
    [
        ({"model": "nothing-here", "messages": [{"role": "user", "content": "Why?"}]}, 404, "model = nothing-here; "),
        ({"messages": [{"role": "system", "content": "Why?"}]}, 400, "messages = none of role user; "),
        ({"messages": [{"role": "user", "content": "a" * 4001}]}, 400, "messages = String should have at most 4000"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "messages = String should have at least 1"),
        ({"messages": []}, 400, "messages = List should have at least 1 item"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "messages.content.type = image_url; text",
        ),
        ({"messages": [{"role": "user", "content": "a" * 2_000_000}]}, 413, "body = more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_answered_is_told_in_openais_shape(
    admin: Person, collection: str, body: dict[str, Any], status: int, begins: str
) -> None:
    answer = admin.call("POST", "/v1/chat/completions", json={"model": collection, **body})

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith(begins)


def test_who_is_nobody_and_who_comes_in_vain_hear_it_in_openais_shape(site: Site, admin: Person, filled: str) -> None:
    nobody = chat(Person(site.http, "forged"), filled, QUESTION)
    site.ollama.stop()
    whole = chat(admin, filled, QUESTION)
    streamed = chat(admin, filled, QUESTION, stream=True)

    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (whole.status_code, whole.headers["retry-after"]) == (503, "2")
    assert whole.json()["error"]["type"] == "server_error"
    last = [line for line in streamed.text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
