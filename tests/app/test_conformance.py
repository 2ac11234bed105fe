"""Whatever is sent to the API, the answer is one that its own description names: /api/v1/openapi.json."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.app import formats
from tests.app.site import Person, Site

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

# Half of the requests are about things that exist, the others about anything.
CONFIGURATION = """
headers = {{ Authorization = "Bearer ${{RAG_TOKEN}}" }}
seed = 20
[generation]
max-examples = 12
no-shrink = true
deterministic = true
[cache]
enabled = false
[dictionaries.names]
values = [{names}]
[dictionaries.documents]
values = [{documents}]
[dictionaries.questions]
values = [{questions}]
[dictionaries.conversations]
values = [{conversations}]
[dictionaries.ordinals]
values = [0]
[parameters]
"path.name" = {{ dictionary = "names", probability = 0.5 }}
"path.user" = {{ dictionary = "names", probability = 0.5 }}
"path.group" = {{ dictionary = "names", probability = 0.5 }}
"path.document_id" = {{ dictionary = "documents", probability = 0.7 }}
"path.ordinal" = {{ dictionary = "ordinals", probability = 0.7 }}
"path.question_id" = {{ dictionary = "questions", probability = 0.7 }}
"path.conversation_id" = {{ dictionary = "conversations", probability = 0.5 }}
"query.collection" = {{ dictionary = "names", probability = 0.7 }}
"body.collection" = {{ dictionary = "names", probability = 0.7 }}
"""


@pytest.mark.parametrize("role", ["admin", "ordinary", "in person"])
def test_every_answer_is_one_that_the_description_names(site: Site, role: str, tmp_path: Path) -> None:
    person = site.sign_in() if role == "admin" else site.add_user()
    # A key may not do what is one's own in person; there nothing may end the session among the requests.
    only = ["--include-path-regex", "^/api/v1/(keys|me)", "--exclude-path", "/api/v1/me/sessions"]
    if role != "in person":
        person, only = by_key(person, role), []
    known = {kind: ", ".join(f'"{value}"' for value in values) for kind, values in stocked(person).items()}
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION.format(**known))
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [
        program,
        "--no-color",
        "--config-file",
        str(configuration),
        "run",
        str(site.http.base_url.join("/api/v1/openapi.json")),
    ]
    command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", *only]

    done = subprocess.run(
        command,
        env={**site.environment, "RAG_TOKEN": person.token, "HOME": str(tmp_path), "NO_PROXY": "*"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]


def by_key(person: Person, role: str) -> Person:
    """The same person, whom no sign-out among the requests shuts out."""
    wanted = {"name": "conformance", "scopes": ["read", "write", *(["admin"] if role == "admin" else [])]}
    made = person.call("POST", "/api/v1/keys", json=wanted)
    assert made.status_code == 201, made.text
    return Person(person.http, made.json()["secret"])


def stocked(person: Person) -> dict[str, list[str]]:
    """Collections with documents, and questions about them, to be read and deleted."""
    known: dict[str, list[str]] = {"names": [], "documents": [], "questions": [], "conversations": []}
    for _ in range(3):
        name = person.make_collection()
        stored = person.settled(person.upload(name, "contract.txt", formats.contract("contract.txt")))
        asked = person.ask(name, "How long is the notice period?")
        known["names"].append(name)
        known["documents"].append(stored["id"])
        known["questions"].append(asked["id"])
        known["conversations"].append(asked["conversation"])
    return known
