"""A library's store on a server: what goes wrong, what is sent, and who sees what."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as messages
from qdrant_server import Server, broken, exhausted, serving, slow, unavailable

from pagelens.errors import LibraryBusy, PagelensError, UsageError
from pagelens.records import SparseVector
from pagelens.store import protobuf, rpc, server
from pagelens.store.plan import ListQuery, Point, Schema, VectorSpec, Where
from pagelens.store.server import ServerStore

SCHEMA = Schema((VectorSpec("bm25", "sparse"), VectorSpec("text", "multi", 8)), {"kind": "keyword"})
SECRET = "cheese-and-onions"


def page(n: int, words: int = 2) -> Point:
    """Term 0 is everywhere, term n + 1 on this page alone."""
    terms = SparseVector(np.array([0, n + 1], np.uint32), np.ones(2, np.float32))
    rows = np.random.default_rng(n).standard_normal((words, 8)).astype(np.float32)
    return Point(str(uuid.UUID(int=n)), {"kind": "page", "number": n}, {"bm25": terms, "text": rows})


def asked(term: int) -> ListQuery:
    return ListQuery("bm25", SparseVector(np.array([term], np.uint32), np.ones(1, np.float32)), 100)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(rpc, "PAUSES", (0.01, 0.1))
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    with serving() as made:
        yield made


@pytest.fixture
def store(running: Server) -> Iterator[ServerStore]:
    opened = ServerStore(running.url)
    opened.declare(SCHEMA)
    yield opened
    opened.close()


def called(running: Server, method: str) -> int:
    return sum(name == method for name, _ in running.faults.calls)


# what passes


@pytest.mark.parametrize("fault", [unavailable, exhausted], ids=lambda fault: fault.__name__)
def test_what_passes_is_asked_again(
    store: ServerStore, running: Server, fault: Callable[[Any], None]
) -> None:
    for ask in (
        lambda: store.upsert([page(1), page(2)]),
        lambda: store.update([Point(page(1).id, {"number": 11})]),
        lambda: store.delete(Where(ids=frozenset([page(2).id]))),
        lambda: store.query([asked(1)]),
        lambda: store.declare(SCHEMA),
    ):
        running.faults.coming = [fault]
        ask()
        assert not running.faults.coming
    assert [point.payload["number"] for point in store.scroll(Where())] == [11]


def test_a_server_that_says_how_long_to_wait_is_left_alone_so_long(
    store: ServerStore, running: Server
) -> None:
    running.faults.coming = [exhausted]
    started = time.monotonic()
    store.upsert([page(1)])
    assert time.monotonic() - started >= 1.0
    assert called(running, "Upsert") == 2


def test_pauses_grow(store: ServerStore, running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(rpc, "PAUSES", (0.1, 5.0))
    running.faults.coming = [unavailable] * 10
    store.count(Where())
    assert all(0.5 * w <= p <= w for p, w in zip(pauses, [0.1 * 2**n for n in range(6)], strict=False))
    assert all(2.5 <= pause <= 5.0 for pause in pauses[6:])


def test_a_slow_answer_is_given_more_time(
    store: ServerStore, running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "TIMEOUT", 0.2)
    running.faults.coming = [slow(0.3)] * 2  # the second time there is time enough
    store.upsert([page(1)])
    assert called(running, "Upsert") == 2
    assert store.count(Where()) == 1


def test_time_fits_the_message(store: ServerStore, running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large message has time where a small one has none."""
    monkeypatch.setattr(rpc, "TIMEOUT", 0.1)
    monkeypatch.setattr(rpc, "SLOWEST", 1e5)
    monkeypatch.setattr(rpc, "PATIENCE", 0.0)
    running.faults.coming = [slow(0.5)]
    with pytest.raises(LibraryBusy, match="DEADLINE_EXCEEDED"):
        store.upsert([page(1)])
    running.faults.coming = [slow(0.5)]
    store.upsert([page(1, words=8000)])  # 256 kB of vectors


def test_a_server_that_restarts_is_waited_for(store: ServerStore, running: Server) -> None:
    running.stop()
    threading.Timer(1.0, running.start).start()
    store.upsert([page(1)])
    assert store.count(Where()) == 1


def test_a_connection_dropped_inside_a_call(store: ServerStore, running: Server) -> None:
    """The answer is lost, and what was asked may have been done: it is asked again."""

    def drop(context: Any) -> None:
        threading.Thread(target=running.stop).start()
        time.sleep(0.3)
        threading.Timer(0.5, running.start).start()

    running.faults.coming = [drop]
    store.upsert([page(1)])
    assert called(running, "Upsert") == 2
    assert store.count(Where()) == 1


# what does not


def test_a_server_that_is_gone_is_said_so(
    store: ServerStore, running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "PATIENCE", 1.0)
    running.stop()
    started = time.monotonic()
    with pytest.raises(LibraryBusy, match=r"does not answer.*run the same command again") as error:
        store.upsert([page(1)])
    assert 0.5 < time.monotonic() - started < 5
    assert running.url in str(error.value)


def test_what_was_refused_is_not_asked_again(store: ServerStore, running: Server) -> None:
    running.faults.coming = [broken]
    with pytest.raises(PagelensError, match="segment is poisoned"):
        store.upsert([page(1)])
    assert called(running, "Upsert") == 1


def test_waiting_is_said_once(store: ServerStore, running: Server, caplog: pytest.LogCaptureFixture) -> None:
    running.faults.coming = [unavailable] * 2
    store.count(Where())
    assert not caplog.messages
    running.faults.coming = [unavailable] * 6
    store.count(Where())
    [said] = caplog.messages
    assert running.url in said and "asked again" in said


def test_no_server_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "PATIENCE_TO_OPEN", 0.5)
    monkeypatch.setattr(server, "PATIENCE_TO_OPEN", 0.5)
    with pytest.raises(LibraryBusy, match=r"127.0.0.1:1 .*gRPC port, by default 6334"):
        ServerStore("http://127.0.0.1:1")


def test_a_slip_between_http_and_https_is_named(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE_TO_OPEN", 0.5)
    with pytest.raises(LibraryBusy, match="it speaks TLS, or say http://"):
        ServerStore(running.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("url", "about"),
    [
        ("localhost:6334", "http://HOST:6334"),
        ("http://", "http://HOST:6334"),
        ("http://localhost:6334/pages", "http://HOST:6334"),
        ("http://localhost:port", "no URL"),
        (f"http://me:{SECRET}@localhost", "QDRANT_API_KEY"),
    ],
)
def test_what_is_no_address(url: str, about: str) -> None:
    with pytest.raises(UsageError, match=about) as error:
        ServerStore(url)
    assert SECRET not in str(error.value)


# the key


def test_the_key_comes_from_the_environment_and_is_never_told(
    running: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running.faults.key = "another"
    with pytest.raises(UsageError, match="QDRANT_API_KEY is not set"):
        ServerStore(running.url)
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    with pytest.raises(UsageError, match="the key in QDRANT_API_KEY is refused") as error:
        ServerStore(running.url)
    said = "".join(traceback.format_exception(error.value)) + caplog.text
    assert SECRET not in said
    running.faults.key = SECRET
    opened = ServerStore(running.url)
    opened.declare(SCHEMA)
    opened.upsert([page(1)])
    assert opened.count(Where()) == 1
    opened.close()


# the server and the collection


@pytest.mark.parametrize("version", ["1.19.1", "1.22.0", "2.0.0", ""])
def test_a_server_of_another_version_is_refused(version: str) -> None:
    with serving(version=version) as other, pytest.raises(UsageError, match=r"1\.20 to 1\.21") as error:
        ServerStore(other.url)
    assert version in str(error.value)


@pytest.mark.parametrize("version", ["1.20.7", "1.21.3-dev"])
def test_servers_like_ours_are_spoken_to(version: str) -> None:
    with serving(version=version) as other:
        ServerStore(other.url).close()


def test_a_collection_of_others_is_not_touched(running: Server) -> None:
    one_vector = messages.VectorsConfig(
        params=messages.VectorParams(size=4, distance=messages.Distance.Cosine)
    )
    dotted = protobuf.vectors_config(SCHEMA.vectors)
    dotted.params_map.map["text"].distance = messages.Distance.Dot
    ours = protobuf.to_payload({"pagelens": {"tenants": False}})
    with grpc.insecure_channel(running.url.removeprefix("http://")) as channel:
        for name, vectors, made in (
            ("others", protobuf.vectors_config(SCHEMA.vectors), {}),
            ("dotted", dotted, ours),
        ):
            messages.CollectionsStub(channel).Create(
                messages.CreateCollection(collection_name=name, vectors_config=vectors, metadata=made)
            )
            with pytest.raises(UsageError, match=f"{name}.*was not made by pagelens"):
                ServerStore(running.url, name)
    assert protobuf.specs_of(messages.CollectionParams(vectors_config=one_vector)) == {"": None}


def test_a_collection_made_beforehand_is_taken(running: Server) -> None:
    """As docs/server.md makes one whose shards and copies somebody chose."""
    with grpc.insecure_channel(running.url.removeprefix("http://")) as channel:
        messages.CollectionsStub(channel).Create(
            messages.CreateCollection(
                collection_name="pagelens",
                vectors_config=protobuf.vectors_config(()),
                shard_number=6,
                replication_factor=2,
                metadata=protobuf.to_payload({"pagelens": {"tenants": False}}),
            )
        )
    opened = ServerStore(running.url)
    opened.declare(SCHEMA)
    opened.upsert([page(1), page(2)])
    assert [len(each) for each in opened.query([asked(0), asked(2)])] == [2, 1]
    made = running.collections["pagelens"].request
    assert made.shard_number == 6
    assert made.vectors_config.params_map.map["text"].hnsw_config.m == 0
    opened.close()


def test_a_collection_that_is_deleted_meanwhile(store: ServerStore, running: Server) -> None:
    running.collections.clear()
    with pytest.raises(UsageError, match="deleted meanwhile"):
        store.count(Where())


def test_two_that_make_the_same_collection_at_once(running: Server) -> None:
    first, second = ServerStore(running.url), ServerStore(running.url)
    assert not (first.exists or second.exists)
    for each in (first, second):
        each.declare(SCHEMA)
        each.upsert([page(1)])
    assert first.count(Where()) == 1
    for each in (first, second):
        each.close()


def test_no_graph_is_built_over_multivectors(store: ServerStore, running: Server) -> None:
    store.declare(Schema((VectorSpec("image", "multi", 4), VectorSpec("picture", "dense", 4)), {}))
    made = running.collections["pagelens"].request.vectors_config.params_map.map
    assert {name: made[name].hnsw_config.HasField("m") for name in made} == {
        "text": True,
        "image": True,
        "picture": False,
    }
    assert made["text"].hnsw_config.m == made["image"].hnsw_config.m == 0


# what is sent


def test_batches_are_cut_by_bytes(
    store: ServerStore, running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BATCH", 20_000)
    pages = [page(n, words=100) for n in range(20)] + [page(20, words=1000)]  # 3 kB each, and one of 32 kB
    store.upsert(pages)
    sizes = [size for name, size in running.faults.calls if name == "Upsert"]
    assert len(sizes) == 5
    assert max(sizes[:-1]) < 21_000
    assert store.count(Where()) == 21
    store.update(pages)
    sizes = [size for name, size in running.faults.calls if name == "UpdateBatch"]
    assert len(sizes) == 6
    assert sorted(sizes)[-2] < 21_000


def test_a_scroll_of_many_answers(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SCROLL", {False: 7, True: 3})
    store.upsert([page(n) for n in range(30)])
    ids = [page(n).id for n in range(30)]
    assert [point.id for point in store.scroll(Where(), ["text"])] == ids
    assert [point.id for point in store.retrieve(ids[::-1])] == ids[::-1]


# tenants


@pytest.fixture
def tenants(running: Server) -> Iterator[tuple[ServerStore, ServerStore]]:
    """Of one collection; both hold pages 0 to 9, the second page 10 too."""
    first, second = (ServerStore(running.url, tenant=name) for name in ("archive", "museum"))
    for each in (first, second):
        each.declare(SCHEMA)
    first.upsert([page(n) for n in range(10)])
    second.upsert(
        [Point(page(n).id, {"kind": "page", "number": n + 100}, page(n).vectors) for n in range(11)]
    )
    yield first, second
    for each in (first, second):
        each.close()


def test_tenants_do_not_see_each_other(tenants: tuple[ServerStore, ServerStore], running: Server) -> None:
    first, second = tenants
    ids = [page(n).id for n in range(11)]
    assert (first.count(Where()), second.count(Where())) == (10, 11)
    assert first.count(Where(ids=frozenset(ids))) == 10
    assert {p.payload["number"] for p in first.scroll(Where())} == set(range(10))
    assert [p.payload["number"] for p in first.retrieve(ids)] == list(range(10))
    assert [len(each) for each in first.query([asked(0), asked(11)])] == [10, 0]
    assert [len(each) for each in second.query([asked(0), asked(11)])] == [11, 1]
    assert "tenant" not in first.retrieve(ids)[0].payload
    stored = running.collections["pagelens"].engine.count(messages.Filter())
    assert stored == 21  # the same ids are not the same points


def test_tenants_do_not_change_each_other(tenants: tuple[ServerStore, ServerStore]) -> None:
    first, second = tenants
    before = sorted((p.id, p.payload["number"]) for p in second.scroll(Where()))
    first.update([Point(page(n).id, {"number": 7}) for n in range(11)])
    first.delete(Where({"kind": "page"}, frozenset(page(n).id for n in range(5, 11))))
    assert first.count(Where({"number": 7})) == 5
    assert sorted((p.id, p.payload["number"]) for p in second.scroll(Where())) == before


def test_scores_do_not_tell_of_other_tenants(running: Server) -> None:
    """How rare a word is counts among one's own pages."""
    alone = ServerStore(running.url, "alone")
    alone.declare(SCHEMA)
    first, second = (ServerStore(running.url, "shared", name) for name in ("archive", "museum"))
    for each in (first, second):
        each.declare(SCHEMA)
    for each in (alone, first):
        each.upsert([page(n) for n in range(10)])
    second.upsert([page(1 if n % 2 else n) for n in range(100, 200)])
    for ours, theirs in zip(
        first.query([asked(0), asked(2)]), alone.query([asked(0), asked(2)]), strict=True
    ):
        assert dict(ours) == pytest.approx(dict(theirs), abs=1e-6)
    for each in (alone, first, second):
        each.close()


def test_the_tenant_goes_with_every_call(
    tenants: tuple[ServerStore, ServerStore], running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message about points, as the server got it, names the tenant's filter or its ids alone."""
    first, _ = tenants
    seen: list[tuple[str, Any]] = []
    meet = running.faults.meet

    def look(method: str, request: Any, context: Any) -> None:
        seen.append((method, request))
        meet(method, request, context)

    monkeypatch.setattr(running.faults, "meet", look)
    first.upsert([page(3)])
    first.update([Point(page(3).id, {"number": 4}, page(3).vectors)])
    first.query([asked(0), ListQuery("text", np.ones((1, 8), np.float32), 3, Where({"kind": "page"}))])
    first.retrieve([page(3).id])
    list(first.scroll(Where({"kind": "page"}), ["text"]))
    first.count(Where(ids=frozenset([page(3).id])))
    first.delete(Where({"number": 4}))
    own = {first._own(page(n).id).uuid for n in range(11)}
    for method, request in seen:
        match method:
            case "Upsert":
                assert all(point.payload["tenant"].string_value == "archive" for point in request.points)
            case "UpdateBatch":
                for operation in request.operations:
                    ids = operation.set_payload.points_selector.points.ids
                    points = operation.update_vectors.points
                    assert {id.uuid for id in (*ids, *(p.id for p in points))} <= own
            case "QueryBatch":
                assert all(names(each.filter) for each in request.query_points)
                assert names(request.query_points[0].params.idf.corpus)
            case "Delete":
                assert names(request.points.filter)
            case _:
                assert names(request.filter), method
    assert {"Upsert", "UpdateBatch", "QueryBatch", "Scroll", "Count", "Delete"} == {name for name, _ in seen}


def names(condition: messages.Filter) -> bool:
    """Whether it holds for the tenant's points alone."""
    return any(
        must.field.key == "tenant" and must.field.match.keyword == "archive" for must in condition.must
    )


def test_a_tenant_cannot_be_asked_for(tenants: tuple[ServerStore, ServerStore]) -> None:
    for where in (Where({"tenant": "museum"}), Where({"tenant": ("archive", "museum")})):
        with pytest.raises(UsageError, match="not the caller's"):
            tenants[0].count(where)


def test_a_collection_has_tenants_or_has_none(
    tenants: tuple[ServerStore, ServerStore], running: Server
) -> None:
    with pytest.raises(UsageError, match="shared by tenants"):
        ServerStore(running.url)
    ServerStore(running.url, "single").declare(SCHEMA)
    with pytest.raises(UsageError, match="name no tenant"):
        ServerStore(running.url, "single", "archive")
    with pytest.raises(UsageError, match="no name"):
        ServerStore(running.url, "other", "")
