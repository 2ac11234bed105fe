"""Questions that belong together, and what their asker thinks of the answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.store import questions
from app.store.questions import Question
from tests.app import formats
from tests.app.servers import wait_for
from tests.app.site import Person, Site

QUESTION = "How long is the notice period of the Halden contract?"
FOLLOW_UP = "And how long exactly?"


@pytest.fixture
def filled(site: Site, admin: Person, collection: str) -> str:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    return collection


def on_record(person: Person, conversation: str, turns: int = 1) -> None:
    path = f"/api/v1/conversations/{conversation}"

    def there() -> bool:
        answer = person.call("GET", path)
        return answer.status_code == 200 and len(answer.json()["turns"]) == turns

    wait_for(f"{turns} turns are on record", there)


def test_a_question_that_says_little_is_understood_by_the_one_before(site: Site, admin: Person, filled: str) -> None:
    first = admin.ask(filled, QUESTION)
    on_record(admin, first["conversation"])
    site.ollama.says = "The notice period is 90 days."

    alone = admin.ask(filled, FOLLOW_UP)
    second = admin.ask(filled, FOLLOW_UP, conversation=first["conversation"])

    assert alone["refused"]
    assert second["supported"]
    assert "90 days" in second["answer"]
    assert second["conversation"] == first["conversation"] != alone["conversation"]
    prompt = site.ollama.prompts[-1]
    assert (
        prompt.index(f"asked: {QUESTION}") < prompt.index(f"answered: {first['answer']}") < prompt.index("<passage 1")
    )


def test_a_conversation_is_listed_shown_and_taken_away(site: Site, admin: Person, filled: str) -> None:
    first = admin.ask(filled, QUESTION)
    on_record(admin, first["conversation"])
    admin.ask(filled, FOLLOW_UP, conversation=first["conversation"])
    on_record(admin, first["conversation"], 2)
    other = admin.ask(filled, "Who signed the contract?")
    on_record(admin, other["conversation"])

    listed = admin.get("/api/v1/conversations", params={"limit": 1})
    following = admin.get("/api/v1/conversations", params={"limit": 1, "after": listed["next"]})
    shown = admin.get(f"/api/v1/conversations/{first['conversation']}")

    assert listed["items"][0]["id"] == other["conversation"]
    conversation = following["items"][0]
    assert (conversation["id"], conversation["title"], conversation["collection"]) == (
        first["conversation"],
        QUESTION,
        filled,
    )
    assert [turn["question"] for turn in shown["turns"]] == [QUESTION, FOLLOW_UP]
    assert shown["turns"][0] == {
        "id": first["id"],
        "conversation": first["conversation"],
        "question": QUESTION,
        "answer": first["answer"],
        "supported": True,
        "citations": first["citations"],
        "closest": [],
        "closest_gone": 0,
        "asked_at": shown["turns"][0]["asked_at"],
        "feedback": None,
    }
    path = f"/api/v1/conversations/{first['conversation']}"
    assert [admin.call("DELETE", path).status_code for _ in range(2)] == [204, 204]
    assert admin.call("GET", path).status_code == 404
    asked = [one["id"] for one in admin.get("/api/v1/questions")["items"]]
    assert other["id"] in asked
    assert first["id"] not in asked
    body = {"collection": filled, "question": FOLLOW_UP, "conversation": first["conversation"]}
    assert admin.call("POST", "/api/v1/questions", json=body).status_code == 404


def test_another_persons_conversation_does_not_exist_for_me(site: Site, admin: Person, filled: str) -> None:
    answer = admin.ask(filled, QUESTION)
    on_record(admin, answer["conversation"])
    stranger = site.add_user()
    other = stranger.make_collection()
    path = f"/api/v1/conversations/{answer['conversation']}"

    body = {"collection": other, "question": QUESTION, "conversation": answer["conversation"]}
    refused = [
        stranger.call("GET", path),
        stranger.call("DELETE", path),
        stranger.call("POST", "/api/v1/questions", json=body),
        stranger.call("PUT", f"/api/v1/questions/{answer['id']}/feedback", json={"verdict": "up"}),
    ]

    assert [one.status_code for one in refused] == [404] * 4
    assert stranger.get("/api/v1/conversations")["items"] == []
    assert len(admin.get(path)["turns"]) == 1


def test_a_conversation_stays_with_its_collection(admin: Person, filled: str) -> None:
    answer = admin.ask(filled, QUESTION)
    on_record(admin, answer["conversation"])
    body = {"collection": admin.make_collection(), "question": "Why?", "conversation": answer["conversation"]}

    refused = admin.call("POST", "/api/v1/questions", json=body)

    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(f"conversation = {answer['conversation']}; one of the collection ")


def test_without_a_primary_a_conversation_goes_on_by_what_the_client_knows(
    site: Site, admin: Person, filled: str
) -> None:
    site.ollama.says = "The notice period is 90 days."
    site.postgresql.demote()
    try:
        first = admin.ask(filled, QUESTION)
        known = [{"id": first["id"], "question": QUESTION, "answer": first["answer"]}]
        forgot = admin.ask(filled, FOLLOW_UP)
        second = admin.ask(filled, FOLLOW_UP, conversation=first["conversation"], previous=known)
        refused = admin.call("PUT", f"/api/v1/questions/{first['id']}/feedback", json={"verdict": "up"})
    finally:
        site.postgresql.promote()

    assert forgot["refused"]
    assert second["supported"]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    on_record(admin, first["conversation"], 2)
    # What is on record and in the request is one turn.
    admin.ask(filled, FOLLOW_UP, conversation=first["conversation"], previous=known)
    assert site.ollama.prompts[-1].count(f"asked: {QUESTION}") == 1


def test_turns_that_are_written_late_find_their_place_and_bring_no_deleted_conversation_back(
    site: Site, admin: Person, filled: str
) -> None:
    now = datetime.now(UTC)
    me = UUID(admin.get("/api/v1/me")["id"])
    conversation = uuid4()
    second = Question(uuid4(), conversation, me, uuid4(), "And Ruda?", "No.", False, [], [], "m", 1.0, now)
    first = replace(second, id=uuid4(), question="How long is Halden's?", asked_at=now - timedelta(minutes=1))
    late = replace(second, id=uuid4(), question="And Kolm?")
    strange = replace(second, id=uuid4(), user_id=UUID(site.add_user().get("/api/v1/me")["id"]))

    with site.database.begin() as connection:
        for question in (second, first, second, strange):
            questions.record(connection, question)
    shown = admin.get(f"/api/v1/conversations/{conversation}")
    admin.call("DELETE", f"/api/v1/conversations/{conversation}")
    with site.database.begin() as connection:
        questions.record(connection, late)

    assert shown["title"] == "How long is Halden's?"
    assert [turn["question"] for turn in shown["turns"]] == ["How long is Halden's?", "And Ruda?"]
    assert admin.call("GET", f"/api/v1/conversations/{conversation}").status_code == 404
    assert str(late.id) not in [one["id"] for one in admin.get("/api/v1/questions")["items"]]


def test_feedback_is_the_askers_last_word(site: Site, admin: Person, filled: str) -> None:
    answer = admin.ask(filled, QUESTION)
    on_record(admin, answer["conversation"])
    path = f"/api/v1/questions/{answer['id']}/feedback"
    down = site.metric('rag_feedback_total{verdict="down"}')

    admin.call("PUT", path, json={"verdict": "up"})
    kept = admin.call("PUT", path, json={"verdict": "down", "comment": "That was the old contract."})
    bad = admin.call("PUT", path, json={"verdict": "sideways"})
    long = admin.call("PUT", path, json={"verdict": "up", "comment": "x" * 2001})

    assert (kept.status_code, kept.json()["verdict"]) == (200, "down")
    turn = admin.get(f"/api/v1/conversations/{answer['conversation']}")["turns"][0]
    assert turn["feedback"] == kept.json()
    assert turn["feedback"]["comment"] == "That was the old contract."
    assert [one.status_code for one in (bad, long)] == [422, 422]
    assert site.metric('rag_feedback_total{verdict="down"}') == down + 1


def test_all_questions_come_in_pages(admin: Person, filled: str) -> None:
    asked = [admin.ask(filled, f"What is item {n}?")["id"] for n in range(3)]
    wait_for(
        "all are on record",
        lambda: set(asked) <= {one["id"] for one in admin.get("/api/v1/questions")["items"]},
    )

    page = admin.get("/api/v1/questions", params={"limit": 2})
    following = admin.get("/api/v1/questions", params={"limit": 2, "after": page["next"]})

    found = [one["id"] for one in page["items"] + following["items"]]
    assert found[:3] == asked[::-1]
    refused = admin.call("GET", "/api/v1/questions", params={"after": "nowhere"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "after = nowhere; the next of an earlier answer")


def test_what_came_close_is_there_later_until_it_is_gone(site: Site, admin: Person, filled: str) -> None:
    site.ollama.says = "Penguins guard the archive."
    with admin.asking(filled, "Who guards the crane?") as events:
        told = {name: data for name, data in events if name in {"passages", "answer"}}
    path = f"/api/v1/conversations/{told['answer']['conversation']}"
    on_record(admin, told["answer"]["conversation"])

    (turn,) = admin.get(path)["turns"]
    assert (turn["supported"], turn["closest_gone"]) == (False, 0)
    assert turn["closest"] == told["passages"]["passages"] != []
    assert next(one for one in admin.get("/api/v1/questions")["items"] if one["id"] == turn["id"]) == turn

    for document in {one["document_id"] for one in turn["closest"]}:
        assert admin.call("DELETE", f"/api/v1/documents/{document}").status_code == 204
    (later,) = admin.get(path)["turns"]
    assert (later["closest"], later["closest_gone"]) == ([], len(turn["closest"]))


def test_what_came_close_is_not_shown_to_whom_it_was_taken_from(site: Site, admin: Person, filled: str) -> None:
    person = site.add_user()
    grant = f"/api/v1/collections/{filled}/grants/users/{person.get('/api/v1/me')['name']}"
    assert admin.call("PUT", grant, json={"permission": "read"}).status_code < 300
    site.ollama.says = "Penguins guard the archive."
    conversation = person.ask(filled, "Who guards the crane?")["conversation"]
    on_record(person, conversation)
    assert person.get(f"/api/v1/conversations/{conversation}")["turns"][0]["closest"]

    assert admin.call("DELETE", grant).status_code < 300

    (turn,) = person.get(f"/api/v1/conversations/{conversation}")["turns"]
    assert (turn["closest"], turn["closest_gone"] > 0) == ([], True)
