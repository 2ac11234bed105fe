"""The inference hosts under more questions than they have places: the bound holds over all who ask."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.inference import BusyError, InferencePool, InferenceUnavailableError, embed_documents, worker_client
from app.settings_of_models import Embedder, Inference
from tests.app import formats
from tests.app.doors import HAPROXY, PLACES, Doors, chat, doors
from tests.app.hosts import another_host
from tests.app.ollama_standin import CHAT, DIMENSION, EMBED
from tests.app.servers import wait_for
from tests.app.site import Person, Site

pytestmark = pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with doors(tmp_path_factory.mktemp("doors"), patience=2) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(way: Doors) -> Iterator[None]:
    yield
    for ollama in way.ollamas:
        ollama.reset()
        wait_for("nothing is being made", lambda ollama=ollama: ollama.in_flight == 0)
        ollama.most_in_flight = 0


def models(way: Doors) -> Inference:
    return Inference(url=way.pool, chat_model=CHAT, embedding_model=EMBED, embedding_dimension=DIMENSION)


def test_twenty_askers_are_answered_in_turn_and_never_more_at_a_time_than_there_are_places(way: Doors) -> None:
    for ollama in way.ollamas:
        ollama.answer_seconds = 0.3

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: chat(way.pool).status_code, range(20)))

    assert answers == [200] * 20
    assert [ollama.most_in_flight for ollama in way.ollamas] == [PLACES, PLACES]


def test_who_finds_no_place_on_any_host_hears_that_they_are_busy(way: Doors) -> None:
    for ollama in way.ollamas:
        ollama.holds = True

    async def ask() -> list[object]:
        return [piece async for piece in InferencePool(models(way)).answer("Rules.", "Question: Why?")]

    with ThreadPoolExecutor(20) as pool:
        others = [pool.submit(chat, way.pool) for _ in range(2 * PLACES)]
        wait_for("every place is taken", lambda: sum(one.in_flight for one in way.ollamas) == 2 * PLACES)
        raw = pool.submit(chat, way.pool)
        with pytest.raises(BusyError, match="every place on the inference hosts is taken"):
            asyncio.run(ask())
        refused = raw.result()
        for ollama in way.ollamas:
            ollama.holds = False
        answered = [other.result().status_code for other in others]

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["error"].startswith("server busy, please try again")
    assert answered == [200] * 2 * PLACES


def test_a_host_that_others_have_filled_costs_a_wait_and_no_answer(way: Doors) -> None:
    way.ollamas[0].holds = True
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(chat, way.other[0]) for _ in range(PLACES)]
        wait_for("one host is full", lambda: way.ollamas[0].in_flight == PLACES)
        # This app host knows nothing of those: half of its own go to the full one first.
        answers = list(pool.map(lambda _: chat(way.pool).status_code, range(4)))
        way.ollamas[0].holds = False
        for other in others:
            other.result()

    assert answers == [200] * 4


def test_a_long_prompt_finds_the_other_host_too(way: Doors) -> None:
    way.ollamas[0].holds = way.ollamas[1].holds = True
    long = [{"role": "user", "content": "word " * 8000}]
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(chat, way.other[0]) for _ in range(PLACES)]
        wait_for("one host is full", lambda: way.ollamas[0].in_flight == PLACES)
        way.ollamas[1].holds = False
        answers = list(pool.map(lambda _: chat(way.pool, messages=long).status_code, range(4)))
        way.ollamas[0].holds = False
        for other in others:
            other.result()

    assert answers == [200] * 4


def test_a_questions_embedding_goes_before_those_of_documents(way: Doors) -> None:
    host = way.ollamas[0]
    host.holds = host.holds_embeddings = True
    body = {"model": EMBED, "input": "document"}
    ingestion = {"x-rag-work": "ingestion"}
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(way.other[0].post, "/api/embed", json=body, headers=ingestion) for _ in range(PLACES + 3)]
        wait_for("three documents wait", lambda: way.queued(0, "embeddings") == 3)
        calls.append(pool.submit(way.other[0].post, "/api/embed", json={**body, "input": "question"}))
        wait_for("the question waits too", lambda: way.queued(0, "embeddings") == 4)
        host.embeds.clear()
        host.holds = False
        assert {call.result().status_code for call in calls} == {200}

    # Those that are held say what they embed when they are let go.
    assert "question" in host.embeds[: PLACES + 2]


ONE = Embedder(EMBED, DIMENSION)


def test_documents_wait_while_their_door_is_busy_and_count_it_as_nobodys_mistake(way: Doors) -> None:
    for ollama in way.ollamas:
        ollama.holds = ollama.holds_embeddings = True
    client = worker_client(models(way))
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(embed_documents, client, models(way), ONE, ["one"]) for _ in range(2 * PLACES)]
        wait_for("every place is taken", lambda: sum(one.embedding for one in way.ollamas) == 2 * PLACES)
        with pytest.raises(InferenceUnavailableError):
            embed_documents(client, models(way), ONE, ["two"])
        for ollama in way.ollamas:
            ollama.holds = False
        for other in others:
            other.result()


def test_who_hangs_up_leaves_the_line_and_ends_the_work(way: Doors) -> None:
    host = way.ollamas[0]
    host.holds = True
    closed, chats = sum(one.closed for one in way.ollamas), len(host.chats)
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(chat, way.other[0]) for _ in range(PLACES)]
        wait_for("one host is full", lambda: host.in_flight == PLACES)
        leaving = pool.submit(way.other[0].post, "/api/chat", json={"model": "m", "messages": []}, timeout=1)
        wait_for("one more waits", lambda: way.queued(0, "answers") == 1)
        with pytest.raises(httpx.ReadTimeout):
            leaving.result()
        wait_for("nobody waits", lambda: way.queued(0, "answers") == 0)
        host.holds = False
        for other in others:
            other.result()
    assert len(host.chats) == chats + PLACES

    for ollama in way.ollamas:
        ollama.holds = True
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{way.pool}/api/chat", json={"model": "m", "messages": [{"content": ""}]}, timeout=0.5)
    wait_for("the model has stopped", lambda: sum(one.closed for one in way.ollamas) == closed + 1)


def test_a_host_whose_ollama_is_gone_is_told_from_one_that_is_busy(way: Doors) -> None:
    way.ollamas[0].stop()

    def said() -> int:
        return chat(way.other[0]).status_code

    wait_for("the door says so", lambda: said() == 425)
    began = time.monotonic()
    answers = [chat(way.pool).status_code for _ in range(4)]

    assert answers == [200] * 4
    assert time.monotonic() - began < 10


def test_fifty_colleagues_get_an_answer_or_an_honest_503(
    site: Site, admin: Person, collection: str, way: Doors
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    for ollama in way.ollamas:
        ollama.answer_seconds = 0.3
    body = {"collection": collection, "question": "How long is the notice period of the Halden contract?"}
    inference = {"url": f'"{way.pool}"', "max_in_flight": 2 * PLACES, "queue_seconds": 2}
    with another_host(site, **inference) as client, ThreadPoolExecutor(50) as pool:
        there = Person(client, admin.token)
        answers = list(pool.map(lambda _: there.call("POST", "/api/v1/questions", json=body), range(50)))

    assert {answer.status_code for answer in answers} <= {200, 503}
    answered = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(answered) >= 2 * PLACES
    assert all(answer["supported"] for answer in answered)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.headers["retry-after"] for answer in refused} <= {"2"}
    assert max(ollama.most_in_flight for ollama in way.ollamas) <= PLACES


def test_whoever_waits_for_a_place_that_others_hold_is_told_so_and_then_answered(
    site: Site, admin: Person, collection: str, way: Doors
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    for ollama in way.ollamas:
        ollama.holds = True
    question = "How long is the notice period of the Halden contract?"
    with another_host(site, url=f'"{way.pool}"') as client, ThreadPoolExecutor(8) as pool:
        there = Person(client, admin.token)
        others = [pool.submit(chat, way.pool) for _ in range(2 * PLACES - 1)]
        wait_for("one place is left", lambda: sum(one.in_flight for one in way.ollamas) == 2 * PLACES - 1)
        last = pool.submit(there.ask, collection, question)
        wait_for("every place is taken", lambda: sum(one.in_flight for one in way.ollamas) == 2 * PLACES)
        with there.asking(collection, question) as events:
            told = [next(events)[0] for _ in range(2)]
            for ollama in way.ollamas:
                ollama.holds = False
            told += [name for name, _ in events]
        assert {other.result().status_code for other in others} == {200}
        assert last.result()["supported"]

    assert told[:2] == ["passages", "waiting"]
    assert told[-1] == "answer"
    assert set(told[2:-1]) == {"token"}


def test_places_that_another_host_has_taken_are_told_as_such(
    site: Site, admin: Person, collection: str, way: Doors
) -> None:
    admin.settled(admin.upload(collection, "contract.txt", formats.contract("contract.txt")))
    site.wait_until_in_step()
    for ollama in way.ollamas:
        ollama.holds = True
    body = {"collection": collection, "question": "How long is the notice period of the Halden contract?"}
    with another_host(site, url=f'"{way.pool}"') as client, ThreadPoolExecutor(8) as pool:
        others = [pool.submit(chat, way.pool) for _ in range(2 * PLACES)]
        wait_for("every place is taken", lambda: sum(one.in_flight for one in way.ollamas) == 2 * PLACES)
        there = Person(client, admin.token)
        with there.asking(**body) as events:
            told = list(events)
        refused = there.call("POST", "/api/v1/questions", json=body)
        for ollama in way.ollamas:
            ollama.holds = False
        assert {other.result().status_code for other in others} == {200}

    assert [name for name, _ in told] == ["passages", "waiting", "error"]
    problem = told[-1][1]
    assert (problem["status"], problem["retry_after"]) == (503, 2)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    for one in (problem, refused.json()):
        assert one["detail"] == "answer = every place on the inference hosts is taken; a moment with fewer questions"
