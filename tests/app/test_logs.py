"""What the programs write for the operator: JSON lines that tell whose request it was and never what was asked."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from tests.app import formats
from tests.app.servers import Process, free_port, ours, wait_for
from tests.app.site import PASSWORD, Person, Site

QUESTION = "Does the zebra's wallpaper cost ninety farthings?"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(site: Site) -> Lines:
    """What the API has written since the test began."""
    return since_now(site.api)


def since_now(process: Process) -> Lines:
    before = process.log.stat().st_size if process.log.exists() else 0

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in process.log.read_bytes()[before:].decode().splitlines()]

    return read


def lines_of(lines: Lines, request_id: str) -> list[dict[str, Any]]:
    """Those of one request; they are written after its answer was sent."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines() if line.get("request_id") == request_id]

    wait_for("a line of the request", found)
    return found()


def test_every_line_of_every_program_is_one_json_object(site: Site, admin: Person, collection: str) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))

    for process in (site.api, site.worker, site.index):
        written = [json.loads(line) for line in process.log.read_text().splitlines()]
        assert all({"event", "level", "logger"} <= set(line) for line in written)
        assert not any("timestamp" in line for line in written)
    assert '"logger": "gunicorn.error"' in site.api.log.read_text()
    assert '"event": "indexed document=' in site.worker.log.read_text()


def test_the_request_id_of_an_answer_finds_its_line_which_names_the_person(
    site: Site, admin: Person, lines: Lines
) -> None:
    answer = admin.call("GET", "/api/v1/collections/nowhere")
    user = admin.get("/api/v1/me")["id"]

    (line,) = lines_of(lines, answer.json()["request_id"])
    assert (line["event"], line["method"], line["status"]) == ("request", "GET", 404)
    assert line["route"] == "/api/v1/collections/{name}"
    assert line["user"] == user


def test_an_id_that_the_caller_chose_cannot_break_a_line(site: Site, admin: Person, lines: Lines) -> None:
    chosen = '", "user": "somebody else'
    site.http.get("/api/v1/me", headers={"x-request-id": chosen})

    (line,) = lines_of(lines, chosen)
    assert line["event"] == "request"
    assert "user" not in line


def test_neither_questions_nor_documents_nor_passwords_nor_tokens_are_written(
    site: Site, admin: Person, collection: str, lines: Lines
) -> None:
    worker = since_now(site.worker)
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    failed = admin.settled(admin.upload(collection, "secret-plan.pdf", b"%PDF-1.4 the wallpaper is not a PDF"))
    admin.ask(collection, QUESTION)
    admin.search(collection, QUESTION)
    site.ollama.stop()
    admin.search(collection, QUESTION)
    site.http.post("/api/v1/token", data={"username": "admin", "password": "wrong horse battery"})

    assert failed["state"] == "failed"
    written = json.dumps([*lines(), *worker()])
    for secret in ("zebra", "wallpaper", "farthings", "notice period", PASSWORD, "wrong horse", admin.token):
        assert secret not in written


def test_a_failure_is_one_line_with_its_traceback_and_without_the_values_of_the_statement(
    site: Site, admin: Person, collection: str, lines: Lines
) -> None:
    with site.database.begin() as connection:
        connection.execute(text("alter table passages rename to passages_away"))
    try:
        params = {"collection": collection, "q": QUESTION}
        answer = admin.call("GET", "/api/v1/search", params=params)
    finally:
        with site.database.begin() as connection:
            connection.execute(text("alter table passages_away rename to passages"))

    assert answer.status_code == 500
    told = [line for line in lines() if "exception" in line]
    assert {line["level"] for line in told} == {"error"}
    assert all("ProgrammingError" in line["exception"] and "\n  File " in line["exception"] for line in told)
    assert answer.json()["request_id"] in {line.get("request_id") for line in told}
    assert "zebra" not in json.dumps(lines())


def test_a_site_may_want_the_questions_in_the_journal(site: Site, admin: Person, collection: str) -> None:
    port = free_port()
    configuration = site.folder / "asking.toml"
    told = (site.folder / "rag.toml").read_text().replace("[listen]\napi = ", f"[listen]\napi = {port}\n# ")
    configuration.write_text(f"{told}\n[logging]\nquestions = true\n")
    environment = {**site.environment, "RAG_CONFIG": str(configuration), "RUNTIME_DIRECTORY": str(site.folder / "run2")}
    command = site.api.command[2:]
    api = ours(command, environment, site.folder / "asking.log", f"http://127.0.0.1:{port}/health/live")
    api.start()
    try:
        body = {"collection": collection, "question": QUESTION}
        answer = admin.call("POST", f"http://127.0.0.1:{port}/api/v1/questions", json=body)
    finally:
        api.stop()

    assert answer.status_code == 200
    asked = [json.loads(line) for line in api.log.read_text().splitlines() if '"event": "asked"' in line]
    assert [(line["question"], line["user"]) for line in asked] == [(QUESTION, admin.get("/api/v1/me")["id"])]
