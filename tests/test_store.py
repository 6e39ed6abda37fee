"""One contract for every store, held against plain loops over dictionaries."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from exact_store import ExactStore
from qdrant_client import grpc as messages
from qdrant_server import serving

from pagelens.errors import UsageError
from pagelens.records import SparseVector
from pagelens.store import client, server
from pagelens.store.client import EdgeStore
from pagelens.store.edge import EdgeEngine
from pagelens.store.plan import ListQuery, Point, Range, Schema, Scored, Store, Vector, VectorSpec, Where
from pagelens.store.server import ServerStore

SCHEMA = Schema(
    (
        VectorSpec("bm25", "sparse"),
        VectorSpec("document_bm25", "sparse"),
        VectorSpec("picture", "dense", 8),
        VectorSpec("text", "multi", 6),
    ),
    {
        "kind": "keyword",
        "language": "keyword",
        "number": "integer",
        "date": "float",
        "metadata.box": "keyword",
    },
)
LATER = Schema(
    (VectorSpec("image", "multi", 4), VectorSpec("letters", "sparse", idf=False)), {"box": "keyword"}
)
TERMS = 40
WHERE = {
    "all": Where(),
    "keyword": Where({"kind": "page"}),
    "any of several": Where({"language": ("deu", "fra")}),
    "any of several numbers": Where({"number": (3, 4, 50)}),
    "a number": Where({"number": 7}),
    "no such value": Where({"language": "lat"}),
    "a key within": Where({"metadata.box": "A 1"}),
    "range": Where({"number": Range(3, 9)}),
    "open range": Where({"date": Range(None, 12.5)}),
    "ids": Where(ids=frozenset(str(uuid.UUID(int=n)) for n in range(0, 60, 7))),
    "ids of nothing": Where(ids=frozenset([str(uuid.UUID(int=999))])),
    "empty ids": Where(ids=frozenset()),
    "empty tuple": Where({"kind": "page", "language": ()}),
    "all of it": Where(
        {"kind": "page", "language": ("eng", "deu"), "number": Range(2, 20)},
        frozenset(str(uuid.UUID(int=n)) for n in range(30)),
    ),
}


class EdgeInProcess(EdgeEngine):
    """The engine without its worker; a scroll is its pages one after another."""

    def scroll(
        self, where: Where, vectors: tuple[str, ...] = (), payload: bool | list[str] = True
    ) -> Iterator[Point]:
        offset = None
        while True:
            points, offset = self.scroll_page(where, vectors, payload, offset, 7)
            yield from points
            if offset is None:
                return


@contextlib.contextmanager
def on_edge(folder: Path) -> Iterator[Store]:
    store = EdgeInProcess(folder / "points")
    yield store  # type: ignore[misc]
    store.close()


@contextlib.contextmanager
def through_a_worker(folder: Path) -> Iterator[Store]:
    store = EdgeStore(folder)
    yield store
    store.close()


@contextlib.contextmanager
def on_a_server(folder: Path | None) -> Iterator[Store]:
    """qdrant-client's own servicers over loopback: over Edge in a folder, or in memory."""
    with serving(folder) as running:
        store = ServerStore(running.url)
        yield store
        store.close()


class Tenant(ServerStore):
    """One whose ids rise as it calls them."""

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        yield from sorted(super().scroll(where, vectors, payload), key=lambda point: point.id)


@contextlib.contextmanager
def beside_a_tenant(folder: Path) -> Iterator[Store]:
    """A tenant, in a collection that holds the same pages and others of another one."""
    with serving(folder) as running:
        other = ServerStore(running.url, tenant="museum")
        other.declare(SCHEMA)
        other.upsert([*PAGES, *(page(n, seed=1) for n in range(30, 90))])
        store = Tenant(running.url, tenant="archive")
        yield store
        store.close()
        assert other.count(Where()) == 90
        other.close()


class RealServer(ServerStore):
    """One that cannot be told when to clean."""

    def optimize(self) -> None:
        pytest.skip("a server cleans replaced points when it chooses, and counts them until then")


@contextlib.contextmanager
def on_a_real_server(folder: Path) -> Iterator[Store]:
    url = os.environ.get("QDRANT_URL")
    if not url:
        pytest.skip("QDRANT_URL names no Qdrant server (its gRPC interface, such as http://localhost:6334)")
    name = f"pagelens-test-{uuid.uuid4()}"
    store = RealServer(url, name)
    yield store
    store._server.call(store._collections.Delete, messages.DeleteCollection(collection_name=name))
    store.close()


STORES: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "edge": on_edge,
    "edge through its worker": through_a_worker,
    "server over qdrant-client in memory": lambda folder: on_a_server(None),
    "server over edge": on_a_server,
    "tenant of a server over edge": beside_a_tenant,
    "real server": on_a_real_server,
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with STORES[request.param](tmp_path) as opened:
        opened.declare(SCHEMA)
        yield opened


@pytest.fixture(scope="module", params=STORES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Holds the pages; not to be changed."""
    with STORES[request.param](tmp_path_factory.mktemp("filled")) as opened:
        opened.declare(SCHEMA)
        opened.upsert(PAGES)
        yield opened


@pytest.fixture(scope="module")
def truth() -> ExactStore:
    """The same pages."""
    opened = ExactStore()
    opened.declare(SCHEMA)
    opened.upsert(PAGES)
    return opened


@pytest.fixture
def exact() -> ExactStore:
    opened = ExactStore()
    opened.declare(SCHEMA)
    return opened


def sparse(rng: np.random.Generator) -> SparseVector:
    """A few terms out of many, common ones more often."""
    count = rng.integers(1, 12)
    odds = 1 / np.arange(1, TERMS + 1)
    terms = rng.choice(TERMS, count, replace=False, p=odds / odds.sum())
    return SparseVector(terms.astype(np.uint32), rng.uniform(0.1, 2, count).astype(np.float32))


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def page(n: int, seed: int = 0) -> Point:
    """A page like others: one in five has no words, no date is whole."""
    rng = np.random.default_rng([n, seed])
    vectors: dict[str, Vector] = {"picture": rows(rng, 8)}
    if n % 5:
        vectors |= {"bm25": sparse(rng), "text": rows(rng, int(rng.integers(1, 6)), 6)}
    payload = {
        "kind": "page",
        "language": ["eng", "deu", "fra"][n % 3],
        "number": n,
        "date": n + 0.25,
        "files": [{"path": "ä/b.pdf", "size": n}],
        "confidence": None,
        "metadata": {"box": f"A {n % 4}", "ähnlich wie": "x"} if n % 2 else {},
    }
    return Point(str(uuid.UUID(int=n)), payload, vectors)


def document(n: int) -> Point:
    rng = np.random.default_rng([n, 1])
    return Point(str(uuid.UUID(int=1000 + n)), {"kind": "document"}, {"document_bm25": sparse(rng)})


PAGES = [page(n) for n in range(60)]


def queries(where: Where, limit: int = 100, seed: int = 5) -> list[ListQuery]:
    """One of each kind, and one of several rows."""
    rng = np.random.default_rng(seed)
    return [
        ListQuery("bm25", sparse(rng), limit, where),
        ListQuery("picture", rows(rng, 8), limit, where),
        ListQuery("text", rows(rng, 1, 6), limit, where),
        ListQuery("text", rows(rng, 4, 6), limit, where),
    ]


def agree(found: list[list[Scored]], expected: list[list[Scored]]) -> None:
    """The same ids and scores, each list in order by what it says itself."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == sorted(ours, key=lambda hit: (-hit.score, hit.id))
        assert {hit.id: hit.score for hit in ours} == pytest.approx(dict(theirs), abs=1e-5)


def same_points(found: list[Point], expected: list[Point]) -> None:
    assert [point.id for point in found] == [point.id for point in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.payload == theirs.payload
        assert set(ours.vectors) == set(theirs.vectors)
        for name, vector in theirs.vectors.items():
            other = ours.vectors[name]
            if isinstance(vector, SparseVector):
                assert isinstance(other, SparseVector)
                weights = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
                assert dict(zip(other.indices.tolist(), other.values.tolist(), strict=True)) == pytest.approx(
                    weights
                )
            else:
                assert isinstance(other, np.ndarray)
                np.testing.assert_allclose(other, vector, atol=1e-6)


def fill(*stores: Store) -> None:
    for each in stores:
        each.upsert(PAGES)


@pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)
def test_lists_under_every_filter(filled: Store, truth: ExactStore, where: Where) -> None:
    expected = truth.query(queries(where))
    agree(filled.query(queries(where)), expected)
    matching = truth.count(where)
    assert filled.count(where) == matching
    assert all(len(each) <= matching for each in expected)
    if matching > 20:
        agree(filled.query(queries(where, limit=5)), truth.query(queries(where, limit=5)))


def test_filters_of_this_suite_divide_the_pages(truth: ExactStore) -> None:
    """Or the test above would show nothing."""
    counts = {name: truth.count(where) for name, where in WHERE.items()}
    assert counts == {
        "all": 60,
        "keyword": 60,
        "any of several": 40,
        "any of several numbers": 3,
        "a number": 1,
        "no such value": 0,
        "a key within": 15,
        "range": 7,
        "open range": 13,
        "ids": 9,
        "ids of nothing": 0,
        "empty ids": 0,
        "empty tuple": 0,
        "all of it": 12,
    }


def test_many_lists_as_one_batch(filled: Store, truth: ExactStore) -> None:
    batch = [each for seed, where in enumerate(WHERE.values()) for each in queries(where, seed=seed)]
    agree(filled.query(batch), truth.query(batch))


def test_ties_are_ordered_by_id(store: Store, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["store"] == "server over qdrant-client in memory":
        pytest.skip("its sums of equal rows differ in the last digit")
    twin = page(1)
    ids = [str(uuid.UUID(int=n * 7919 % 101)) for n in range(1, 31)]
    store.upsert([Point(id, twin.payload, twin.vectors) for id in ids])
    for found in store.query(queries(Where())):
        scores = {hit.score for hit in found}
        assert len(scores) <= 1
        assert [hit.id for hit in found] == (sorted(ids) if scores else [])


def test_a_sparse_list_holds_only_what_shares_a_term(filled: Store) -> None:
    nowhere = SparseVector(np.array([TERMS + 1], np.uint32), np.ones(1, np.float32))
    assert filled.query([ListQuery("bm25", nowhere, 10)]) == [[]]


def test_retrieve_keeps_the_order_asked(filled: Store, truth: ExactStore) -> None:
    ids = [str(uuid.UUID(int=n)) for n in (30, 4, 999, 12, 0)]
    vectors = ["bm25", "picture", "text"]
    same_points(filled.retrieve(ids, vectors), truth.retrieve(ids, vectors))
    for payload in (True, False, ["number", "nothing"], []):
        same_points(filled.retrieve(ids, (), payload), truth.retrieve(ids, (), payload))


def test_scroll_goes_through_all_by_id(
    filled: Store, truth: ExactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SCROLL", {False: 7, True: 3})
    monkeypatch.setattr(server, "SCROLL", {False: 7, True: 3})
    for where in (WHERE["all"], WHERE["any of several"], WHERE["empty ids"]):
        same_points(list(filled.scroll(where)), list(truth.scroll(where)))
        same_points(
            list(filled.scroll(where, ["text"], ["kind"])), list(truth.scroll(where, ["text"], ["kind"]))
        )


def test_delete_what_matches(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    for name in ("empty ids", "no such value", "a number", "ids", "range", "all of it", "any of several"):
        for each in (store, exact):
            each.delete(WHERE[name])
        same_points(list(store.scroll(Where())), list(exact.scroll(Where())))
        store.optimize()  # until then Edge's document frequencies count what was deleted
        agree(store.query(queries(Where())), exact.query(queries(Where())))
    assert store.count(Where()) == 11


def test_delete_without_a_condition_is_refused(filled: Store) -> None:
    with pytest.raises(UsageError, match="condition"):
        filled.delete(Where())
    assert filled.count(Where()) == 60


def test_update_sets_what_it_carries_and_leaves_the_rest(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    new = page(2, seed=9)
    changes = [
        Point(PAGES[1].id, {"number": 101, "fresh": {"a": [1]}}),
        Point(PAGES[2].id, {"number": 102}, {"text": new.vectors["text"]}),
        Point(PAGES[5].id, {"number": 105}, {"text": new.vectors["text"], "bm25": new.vectors["bm25"]}),
        Point(str(uuid.UUID(int=999)), {"number": 999}, {"text": new.vectors["text"]}),
    ]
    for each in (store, exact):
        each.update(changes)
    vectors = ["bm25", "picture", "text"]
    same_points(list(store.scroll(Where(), vectors)), list(exact.scroll(Where(), vectors)))
    store.optimize()
    agree(store.query(queries(Where())), exact.query(queries(Where())))


def test_vectors_are_stripped_of_some_points_alone(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    some = [PAGES[n].id for n in (1, 2, 30)] + [str(uuid.UUID(int=999))]
    for each in (store, exact):
        each.strip(some, ["text", "bm25"])
        each.strip([], ["picture"])
        each.strip([PAGES[4].id], [])
    vectors = ["bm25", "picture", "text"]
    same_points(list(store.scroll(Where(), vectors)), list(exact.scroll(Where(), vectors)))
    store.optimize()
    agree(store.query(queries(Where())), exact.query(queries(Where())))


def test_upsert_replaces_whole_points(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    again = [page(n, seed=3) for n in range(20)] + [Point(PAGES[30].id, {"kind": "failure"})]
    for each in (store, exact):
        for _ in range(3):
            each.upsert(again)
    vectors = ["bm25", "picture", "text"]
    same_points(list(store.scroll(Where(), vectors)), list(exact.scroll(Where(), vectors)))
    store.optimize()
    agree(store.query(queries(Where())), exact.query(queries(Where())))


def test_document_vectors_leave_the_idf_of_pages_alone(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    before = store.query(queries(Where()))
    for each in (store, exact):
        each.upsert([document(n) for n in range(200)])
        each.upsert([Point(str(uuid.UUID(int=5000 + n)), {"kind": "failure"}) for n in range(50)])
    agree(store.query(queries(Where())), before)
    asked = [ListQuery("document_bm25", sparse(np.random.default_rng(5)), 300)]
    agree(store.query(asked), exact.query(asked))


def test_vectors_and_fields_added_later(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    rng = np.random.default_rng(2)
    richer = [
        Point(
            p.id, {**p.payload, "box": "A"}, {**p.vectors, "image": rows(rng, 5, 4), "letters": sparse(rng)}
        )
        for p in PAGES[:10]
    ]
    for each in (store, exact):
        each.declare(LATER)  # alone: what was declared before stays
        same_points(list(each.scroll(Where(), ["text"])), list(exact.scroll(Where(), ["text"])))
        each.upsert(richer)
        each.optimize()
    asked = [
        *queries(Where({"box": "A"})),
        ListQuery("image", rows(rng, 3, 4), 100),
        ListQuery("letters", sparse(rng), 100),
    ]
    agree(store.query(asked), exact.query(asked))


def test_a_dropped_vector_is_gone_and_can_be_declared_anew(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    if isinstance(store, Tenant):
        with pytest.raises(UsageError, match="other tenants"):
            store.drop(["text", "nothing"])
        pytest.skip("a tenant may not take from all")
    for each in (store, exact):
        each.drop(["text", "nothing"])
    rest = [query for query in queries(Where()) if query.using != "text"]
    agree(store.query(rest), exact.query(rest))
    same_points(list(store.scroll(Where(), ["picture"])), list(exact.scroll(Where(), ["picture"])))
    with pytest.raises(UsageError, match="no vector 'text' is declared"):
        store.query(queries(Where()))
    asked = [ListQuery("text", rows(np.random.default_rng(3), 2, 3), 10)]
    for each in (store, exact):
        each.declare(Schema((VectorSpec("text", "multi", 3),), {}))
    assert store.query(asked) == exact.query(asked) == [[]]
    for each in (store, exact):
        each.update([Point(PAGES[1].id, {}, {"text": np.eye(3, dtype=np.float32)})])
    agree(store.query(asked), exact.query(asked))
    store.optimize()
    agree(store.query(asked), exact.query(asked))


def test_what_is_declared_is_told(store: Store) -> None:
    lossy = Schema((VectorSpec("half", "multi", 4, "float16"), VectorSpec("byte", "dense", 4, "turbo8")), {})
    for more in (LATER, lossy):
        store.declare(more)
    told = store.schema()
    assert set(told.vectors) == {*SCHEMA.vectors, *LATER.vectors, *lossy.vectors}
    if told.fields:  # qdrant-client in memory has no indexes
        assert told.fields == {**SCHEMA.fields, **LATER.fields}


def test_declaring_again_changes_nothing(store: Store, exact: ExactStore) -> None:
    fill(store, exact)
    for schema in (SCHEMA, Schema(SCHEMA.vectors[:1], {})):
        store.declare(schema)
        agree(store.query(queries(Where())), exact.query(queries(Where())))


@pytest.mark.parametrize(
    "other",
    [
        VectorSpec("text", "multi", 7),
        VectorSpec("text", "dense", 6),
        VectorSpec("picture", "multi", 8),
        VectorSpec("bm25", "dense", 6),
        VectorSpec("picture", "sparse"),
        VectorSpec("text", "multi", 6, "turbo8"),
    ],
    ids=str,
)
def test_declaring_another_kind_or_size_is_refused(
    store: Store, exact: ExactStore, other: VectorSpec
) -> None:
    fill(store, exact)
    with pytest.raises(UsageError, match=other.name):
        store.declare(Schema((VectorSpec("image", "multi", 4), other), {}))
    agree(store.query(queries(Where())), exact.query(queries(Where())))


WRONG: dict[str, tuple[str, Vector]] = {
    "not a number": ("picture", np.array([1, np.nan, *[0] * 6], np.float32)),
    "infinite": ("text", np.array([[1, np.inf, 0, 0, 0, 0]], np.float32)),
    "sparse and not a number": ("bm25", SparseVector(np.array([1]), np.array([np.nan]))),
    "another size": ("picture", np.ones(9, np.float32)),
    "another row size": ("text", np.ones((2, 5), np.float32)),
    "one row where many were declared": ("text", np.ones(6, np.float32)),
    "many rows where one was declared": ("picture", np.ones((2, 8), np.float32)),
    "no row": ("text", np.ones((0, 6), np.float32)),
    "more than a server takes": ("text", np.ones((200_000, 6), np.float32)),
    "unknown": ("sound", np.ones(8, np.float32)),
    "dense where sparse was declared": ("bm25", np.ones(8, np.float32)),
    "sparse where dense was declared": ("picture", SparseVector(np.array([1]), np.array([1.0]))),
    "an index twice": ("bm25", SparseVector(np.array([1, 1]), np.array([1.0, 2.0]))),
    "more indices than values": ("bm25", SparseVector(np.array([1, 2]), np.array([1.0]))),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_vectors_are_refused_and_nothing_is_written(filled: Store, name: str) -> None:
    vector, value = WRONG[name]
    wrong = Point(str(uuid.UUID(int=700)), {}, {vector: value})
    for write in (filled.upsert, filled.update):
        with pytest.raises(UsageError, match=f"{wrong.id}.*{vector}"):
            write([page(800), wrong])
    with pytest.raises(UsageError, match=vector):
        filled.query([ListQuery(vector, value, 10)])
    assert filled.count(Where()) == 60


def test_a_truth_value_is_no_filter() -> None:
    """Edge would find nothing, and qdrant-client would find it."""
    with pytest.raises(UsageError, match="blank"):
        Where({"blank": True})


def test_nothing_asked(filled: Store) -> None:
    filled.upsert([])
    filled.update([])
    assert filled.query([]) == []
    assert filled.retrieve([]) == []
    assert filled.count(Where()) == 60
