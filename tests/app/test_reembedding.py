"""From one embedding model to another on two hosts: nothing fails meanwhile, and it can be taken back until the end."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.app.ollama_standin import CHAT
from tests.app.reembedding import OTHER, Pair, Stream, held, pair, words
from tests.app.servers import wait_for
from tests.app.test_command import Shell

DOCUMENTS = 60


@pytest.fixture(scope="module")
def hosts() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def two(hosts: Pair) -> Iterator[Pair]:
    """Both hosts with documents, and a next model in the site's file."""
    if not hosts.passages():
        collection = hosts.admin.make_collection()
        contents = [words(number).encode() for number in range(DOCUMENTS)]
        documents = [hosts.admin.upload(collection, f"{n}.txt", content) for n, content in enumerate(contents)]
        for document in documents:
            hosts.admin.settled(document)
    now = hosts.served()
    assert "refused" not in hosts.deploy(embedding_model=now, next_embedding_model=OTHER[now])
    yield hosts
    hosts.site.ollama.reset()
    for process in (hosts.site.chroma, hosts.second.chroma, *hosts.second.processes):
        if not process.running:
            process.launch()
    state = hosts.status()["state"]
    if state == "switched":
        hosts.step(path="/back")
    if state in {"switched", "embedding", "held"}:
        hosts.step("DELETE")
    hosts.wait_for_state("none")
    hosts.wait_until_ready()


@pytest.fixture
def stream(two: Pair) -> Stream:
    """Searches for documents that were there before."""
    [collection] = [one["name"] for one in two.admin.get("/api/v1/collections")["items"]]
    items, after = [], ""
    while after is not None:
        page = two.admin.get(f"/api/v1/collections/{collection}/documents", params={"after": after} if after else {})
        items, after = items + page["items"], page["next"]
    known = {one["file_name"]: one["id"] for one in items}
    return Stream(two, collection, [known[f"{number}.txt"] for number in range(DOCUMENTS)])


def kill_and_start(two: Pair) -> None:
    """The workers and the followers of both hosts, one after the other."""
    for process in (two.site.worker, two.second.index, two.second.worker, two.site.index):
        process.stop(signal.SIGKILL)
        process.launch()


def test_nothing_fails_while_every_passage_is_embedded_anew_and_both_hosts_go_over(
    two: Pair, stream: Stream, tmp_path: Path
) -> None:
    old, new = two.served(), OTHER[two.served()]
    [slot] = two.in_indexes()[0]
    shell = Shell(tmp_path)
    assert shell("sign-in", two.site.base, "--user", "admin", says="correct horse battery staple\n").returncode == 0
    with stream.running():
        two.site.ollama.embed_seconds = 0.1
        wait_for("searches run", lambda: len(stream.seconds) > 50)
        before = len(stream.seconds)
        assert shell("reembed", "start").returncode == 0
        wait_for("some are done", lambda: two.status()["done"] > DOCUMENTS / 4)
        kill_and_start(two)
        assert two.served() == old
        two.wait_for_state("switched")
        after = len(stream.seconds)
        two.site.ollama.embed_seconds = 0.0
        wait_for("searches go on", lambda: len(stream.seconds) > after + 100)
        assert two.served() == new
        shown = shell("reembed", "status").stdout
        assert f"questions are embedded with\t{new} (" in shown
        assert "index of app2\tcomplete" in shown
        assert shell("reembed", "finish").returncode == 0
        two.wait_for_state("none")
        wait_for("no index holds the old model's vectors", lambda: all(slot not in one for one in two.in_indexes()))
        # Nobody needs it any more, whatever the site's file still says.
        two.site.ollama.models = {CHAT, new}
        after = len(stream.seconds)
        wait_for("searches go on", lambda: len(stream.seconds) > after + 100)
    assert stream.failed == []
    assert before < after
    for document in stream.uploaded:
        assert two.admin.settled(document)["state"] == "indexed"
    assert two.vectors() == {new: two.passages()}
    wait_for("both hold every passage", lambda: [sum(one.values()) for one in two.in_indexes()] == [two.passages()] * 2)
    assert {two.admin.call("GET", f"/api/v1/documents/{one}").status_code for one in stream.deleted} == {404}
    two.wait_until_ready()
    refused = two.deploy(embedding_model=old)
    assert refused.startswith(f"inference.embedding_model = {old}; {new} (")
    assert refused.count("\n") == 1
    assert two.deploy(embedding_model=new) == "unchanged\n"
    assert two.site.run("app.store.migrate", "--check").returncode == 0


def test_cancelled_midway_it_leaves_the_old_model_and_nothing_of_the_new_one(two: Pair, stream: Stream) -> None:
    old = two.served()
    with stream.running():
        two.site.ollama.embed_seconds = 0.1
        two.step()
        wait_for("some are done", lambda: two.status()["done"] > DOCUMENTS / 4)
        two.step("DELETE")
        two.wait_for_state("none")
    assert stream.failed == []
    for document in stream.uploaded:
        assert two.admin.settled(document)["state"] == "indexed"
    assert two.served() == old
    assert two.vectors() == {old: two.passages()}
    wait_for("nothing is left in an index", lambda: [len(one) for one in two.in_indexes()] == [1, 1])


def test_an_index_emptied_midway_is_waited_for(two: Pair, stream: Stream) -> None:
    new = OTHER[two.served()]
    two.site.ollama.embed_seconds = 0.1
    two.step()
    wait_for("some are done", lambda: two.status()["done"] > DOCUMENTS / 4)
    two.second.index.stop(signal.SIGKILL)
    two.second.chroma.stop(signal.SIGKILL)
    for path in sorted((two.second.folder / "chroma").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    two.second.chroma.start()
    two.site.ollama.embed_seconds = 0.0
    wait_for("all are embedded", lambda: two.status()["done"] == two.status()["passages"], 60)
    wait_for("app1 is complete", lambda: two.indexes()["app1"] == "complete")
    assert two.status()["state"] == "embedding"
    assert two.indexes()["app2"] != "complete"
    two.second.index.start()
    two.wait_for_state("switched")
    two.wait_until_ready()
    assert two.served() == new
    wait_for("both hold both", lambda: [sum(one.values()) for one in two.in_indexes()] == [2 * two.passages()] * 2)


def test_a_host_whose_index_lacks_vectors_of_the_served_model_is_not_ready(two: Pair) -> None:
    # Long enough for the host to tell that it has begun before all is done.
    two.site.ollama.embed_seconds = 1.0
    two.step()
    wait_for("its index has begun", two.has_begun)
    two.second.index.stop(signal.SIGKILL)
    two.site.ollama.embed_seconds = 0.0
    wait_for("all are embedded", lambda: two.status()["done"] == two.status()["passages"], 60)
    wait_for("app1 is complete", lambda: two.indexes()["app1"] == "complete")
    with two.site.database.begin() as connection:
        connection.execute(text("update reembedding set state = 'switched'"))
    wait_for("it says so", lambda: "being filled" in two.second.http.get("/health/ready").json()["parts"]["index"])
    two.site.wait_until_ready()
    two.second.index.start()
    two.wait_until_ready()


def test_the_old_model_is_back_in_one_step_with_all_that_came_in_meanwhile(two: Pair, stream: Stream) -> None:
    old, new = two.served(), OTHER[two.served()]
    with stream.running():
        two.step()
        two.wait_for_state("switched")
        number = len(stream.uploaded)
        wait_for("documents come in", lambda: len(stream.uploaded) > number + 6)
        two.site.ollama.models = {CHAT, old, new}
        assert two.step(path="/back")["served"].startswith(old)
        number = len(stream.seconds)
        wait_for("searches go on", lambda: len(stream.seconds) > number + 100)
        assert two.step()["state"] == "embedding"
        two.wait_for_state("switched")
        assert two.served() == new
        two.step(path="/back")
    assert stream.failed == []
    for document in stream.uploaded:
        assert two.admin.settled(document)["state"] == "indexed"
    assert two.vectors() == {old: two.passages(), new: two.passages()}


def test_a_search_that_began_before_the_old_vectors_went_ends_with_the_new_ones(two: Pair, stream: Stream) -> None:
    two.step()
    two.wait_for_state("switched")
    [slot] = [one for one in held(two.second.chroma_port) if one != slot_of_new(two)]
    two.step(path="/back")
    params = {"collection": stream.collection, "q": words(7), "mode": "vector"}
    two.hosts[1].get("/api/v1/search", params=params)
    two.site.ollama.holds = two.site.ollama.holds_embeddings = True
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(two.hosts[1].call, "GET", "/api/v1/search", params=params)
        wait_for("it has begun", lambda: two.site.ollama.embedding == 1)
        two.step()
        two.wait_for_state("switched")
        two.step(path="/finish")
        two.wait_for_state("none")
        wait_for("the old vectors are gone", lambda: slot not in held(two.second.chroma_port))
        two.site.ollama.holds = False
        answer = late.result().json()
    assert answer["degraded"] is None
    assert stream.known[7] in [hit["document_id"] for hit in answer["results"]]


def slot_of_new(two: Pair) -> str:
    with two.site.database.connect() as connection:
        return f"m{connection.execute(text('select new_slot from reembedding')).scalar_one()}"


def test_a_model_that_no_inference_host_has_holds_the_change_up_and_nothing_else(two: Pair, stream: Stream) -> None:
    old, new = two.served(), OTHER[two.served()]
    two.site.ollama.models = {CHAT, old}
    assert new in two.refused()
    two.site.ollama.models = {CHAT, old, new}
    two.site.ollama.embed_seconds = 0.2
    two.step()
    two.site.ollama.models = {CHAT, old}
    wait_for("it says so", lambda: "not found" in (two.status()["problem"] or ""))
    with stream.running():
        wait_for("documents come in", lambda: len(stream.uploaded) > 4)
    assert stream.failed == []
    for document in stream.uploaded:
        assert two.admin.settled(document)["state"] == "indexed"
    two.site.ollama.reset()
    two.wait_for_state("switched")
    assert two.vectors() == {old: two.passages(), new: two.passages()}


def test_a_passage_that_the_new_model_cannot_embed_is_named_and_holds_no_other_up(two: Pair) -> None:
    old, new = two.served(), OTHER[two.served()]
    [collection] = [one["name"] for one in two.admin.get("/api/v1/collections")["items"]]
    bad = two.admin.upload(collection, "bad.txt", b"The milk is curdled.")
    two.admin.settled(bad)
    two.site.ollama.chokes_on, two.site.ollama.chokes = "curdled", 1_000_000
    two.step()
    wait_for("it is named", lambda: f"document = {bad['id']}" in (two.status()["problem"] or ""), 60)
    assert two.status()["state"] == "embedding"
    assert two.vectors() == {old: two.passages(), new: two.passages() - 1}
    two.admin.call("DELETE", f"/api/v1/documents/{bad['id']}")
    two.wait_for_state("switched")
    assert two.status()["problem"] is None


def test_of_a_document_that_is_half_embedded_nothing_is_missing(two: Pair) -> None:
    old = two.served()
    [collection] = [one["name"] for one in two.admin.get("/api/v1/collections")["items"]]
    long = two.admin.upload(collection, "long.txt", "\n\n".join(words(n) * 20 for n in range(3)).encode())
    two.admin.settled(long)
    two.site.ollama.embed_seconds = 3.0
    two.step()
    two.site.ollama.models = {CHAT, old}
    wait_for("its index has begun", two.has_begun)
    with two.site.database.begin() as connection:
        first = text(
            "insert into embeddings select cast(:document as uuid), 0, new_model, new_dimension,"
            " decode(repeat('0000803f', new_dimension), 'hex') from reembedding"
        )
        connection.execute(first, {"document": long["id"]})
    found = two.site.run("app.index.reconcile").stdout
    two.admin.call("DELETE", f"/api/v1/documents/{long['id']}")
    assert found == "0 orphans removed, 0 missing put back\n"


def test_what_may_not_be_done_now_is_refused_in_one_line(two: Pair) -> None:
    old, new = two.served(), OTHER[two.served()]
    assert two.refused("DELETE") == two.refused(path="/back") == two.refused(path="/finish")
    # Slower than the deploys that follow.
    two.site.ollama.embed_seconds = 15.0
    two.step()
    assert two.step()["state"] == "embedding"
    assert two.refused(path="/finish") == "reembedding = embedding; switched"
    assert two.deploy(embedding_model=old).startswith(f"inference.next_embedding_model = none; {new} (")
    assert two.deploy(embedding_model=new).startswith(f"inference.embedding_model = {new}; {old} (")
    # Which of the two stands where does not matter as long as both are kept.
    assert two.deploy(embedding_model=new, next_embedding_model=old) == "unchanged\n"
    assert two.deploy(embedding_model=old, next_embedding_model=new) == "unchanged\n"
    two.site.ollama.embed_seconds = 0.0
    assert two.step("DELETE")["state"] == "cancelling"
    two.wait_for_state("none")
    assert two.deploy(embedding_model=old) == "unchanged\n"
    assert two.refused() == "inference.next_embedding_model = none; the model to go to"


def test_the_steps_are_in_the_audit_with_who_took_them(two: Pair) -> None:
    two.step()
    two.step("DELETE")
    two.wait_for_state("none")
    entries = two.admin.get("/api/v1/audit", params={"action": "reembedding"})["items"]
    assert [(one["actor"], one["action"]) for one in entries[:2]] == [
        ("admin", "reembedding.cancel"),
        ("admin", "reembedding.start"),
    ]
