"""Further text encoders by name, and vectors that somebody else made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made import write_pdf
from test_cli import Here

from pagelens import Library
from pagelens.encoders import load_text_encoder
from pagelens.encoders.text import WindowSettings, windows
from pagelens.errors import Missing, UsageError
from pagelens.ranking import FUSION, fuse
from pagelens.records import SparseVector
from pagelens.store.plan import Point, Where
from pagelens.weights import fetch

pytest.importorskip("sentence_transformers", reason="the extra `rerank` is not installed")

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["The lease of the harbour", "Rent is due in May", "Minutes of the board", "A chart of revenue"]
QUESTION = "when must the tenant pay?"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real weights of a dense model under a name of its own, and a random SPLADE."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    root = tmp_path_factory.mktemp("models")
    minilm = fetch("all-minilm-l6-v2")
    (root / "mini").symlink_to(minilm)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertForMaskedLM(config).save_pretrained(root / "splade")
    tokenizer.save_pretrained(root / "splade")
    return root


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_pdf(folder / "a.pdf", TEXTS)
    return folder


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, models: Path, scans: Path) -> Path:
    """A library in light, closed."""
    folder = tmp_path_factory.mktemp("ready") / "lib"
    with Library(folder, models=models) as opened:
        opened.ingest(scans, readers=1, regions=False)
    return folder


@pytest.fixture
def library(tmp_path: Path, models: Path, ready: Path) -> Iterator[Library]:
    """To be changed."""
    with Library(shutil.copytree(ready, tmp_path / "lib"), models=models) as opened:
        yield opened


def order(library: Library, stage: str) -> list[tuple[str, float]]:
    return library.rank(QUESTION, stage=stage)


def test_a_dense_model_by_name_is_the_built_in_one(library: Library, scans: Path) -> None:
    """The same weights through another library: a second implementation of every step."""
    report = library.ingest(scans, text="mini", regions=False)
    assert (report.pages, report.encoded) == (0, 4)  # nothing was read again
    own, theirs = order(library, "text"), order(library, "mini")
    assert [id for id, _ in own] == [id for id, _ in theirs]
    np.testing.assert_allclose([s for _, s in own], [s for _, s in theirs], atol=1e-5)
    assert {"text", "mini"} <= library.search(QUESTION)[0].stages.keys()
    library.weigh({"mini": 3})
    library.drop_encoder("mini")
    assert "mini" not in library.weights
    assert "mini" not in library.search(QUESTION)[0].stages and "mini" not in library.status()["signatures"]
    with pytest.raises(UsageError, match="no stage 'mini'"):
        order(library, "mini")


def test_the_next_process_goes_on_with_it(library: Library, scans: Path) -> None:
    library.ingest(scans, text="mini", regions=False)
    library.close()
    with Library(library.folder, models=library._models) as again:
        assert again.ingest(scans, regions=False).unchanged == 1


def test_terms_of_splade_are_those_of_its_paper(models: Path) -> None:
    """max over tokens of log(1 + relu(logit)), by transformers' own class; of a page over its windows."""
    from transformers import AutoTokenizer, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(models / "splade")
    model = BertForMaskedLM.from_pretrained(models / "splade").eval()

    def terms(text: str) -> np.ndarray:
        asked = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            weights: np.ndarray = torch.log1p(model(**asked).logits.relu())[0].amax(0).numpy()
        return weights

    encoder = load_text_encoder("splade", "cpu", "float32", models=models)
    long = " ".join(f"{TEXTS[n % 4]} {n}" for n in range(60))
    parts = windows(long, WindowSettings())
    assert len(parts) > 2
    expected = [np.max([terms(each) for each in parts], axis=0), terms(TEXTS[1])]
    found = encoder.encode_pages([long, TEXTS[1], " "])
    assert found[2] is None
    found[2] = encoder.encode_query(TEXTS[1])
    for sparse, dense in zip(found, [*expected, expected[1]], strict=True):
        assert isinstance(sparse, SparseVector)
        full = np.zeros_like(dense)
        full[sparse.indices] = sparse.values
        np.testing.assert_allclose(full, dense, atol=1e-5)


def test_splade_in_a_library(library: Library, scans: Path, models: Path) -> None:
    library.ingest(scans, text=["splade"], regions=False)
    encoder = load_text_encoder("splade", models=models)
    ids = [page["page_id"] for page in library.pages()]
    made = encoder.encode_pages([library.words(id).text for id in ids])
    asked = encoder.encode_query(QUESTION)
    assert isinstance(asked, SparseVector)
    weights = dict(zip(asked.indices.tolist(), asked.values.tolist(), strict=True))
    expected = []
    for page in made:
        assert isinstance(page, SparseVector)
        both = zip(page.indices.tolist(), page.values.tolist(), strict=True)
        expected.append(sum(weights.get(term, 0.0) * value for term, value in both))  # no idf
    found = dict(order(library, "splade"))
    np.testing.assert_allclose([found[id] for id in ids], expected, rtol=1e-4)
    library.ingest(scans, regions=False)  # it stays without being named
    assert len(order(library, "splade")) == 4


def test_other_weights_of_a_name_are_refused(library: Library, scans: Path) -> None:
    library.ingest(scans, text="splade", regions=False)
    library._save(signatures={**library.status()["signatures"], "splade": "splade@other"})
    with pytest.raises(UsageError, match="ingest` its files again with --text splade"):
        library.search(QUESTION)
    assert library.ingest(scans, regions=False).encoded == 0  # the pages' own signatures are right
    assert library.search(QUESTION)


def test_a_model_that_is_nowhere(library: Library, scans: Path) -> None:
    with pytest.raises(Missing, match=r"nobody/none .*cannot be downloaded.*put its files into DIR/none/"):
        library.ingest(scans, text="nobody/none", regions=False)
    assert library.search(QUESTION)


# vectors of one's own


def test_added_vectors_are_searched_with_an_array(library: Library, scans: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [page["page_id"] for page in library.pages()]
    flat = {id: rng.normal(size=8).astype(np.float32) for id in ids}
    several = {id: rng.normal(size=(3, 4)).astype(np.float32) for id in ids}
    for id in ids:
        library.add(id, {"mine": flat[id], "rows": several[id]})
    asked = {"mine": flat[ids[2]], "rows": several[ids[1]][:2]}
    hits = library.search(vectors={"mine": asked["mine"]}, stage="mine")
    lengths = {id: float(np.linalg.norm(each)) for id, each in flat.items()}
    cosines = {id: float(flat[id] @ asked["mine"]) / lengths[id] / lengths[ids[2]] for id in ids}
    assert [hit.page_id for hit in hits] == sorted(ids, key=lambda id: -cosines[id])
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
    assert library.search(vectors=asked, stage="rows")[0].page_id == ids[1]
    assert library.search(vectors=asked)[0].page_id in ids[1:3]
    both = library.search("rent", vectors=asked, rerank=None)[0].stages
    assert {"bm25", "text", "mine", "rows", "fused"} <= both.keys()
    assert "mine" not in library.search(QUESTION)[0].stages
    with Library(library.folder, models=library._models) as again:
        assert len(again.search(vectors=asked, stage="mine")) == 4


def test_a_page_read_anew_keeps_added_vectors(library: Library, scans: Path) -> None:
    page_id = list(library.pages())[1]["page_id"]
    library.add(page_id, {"mine": np.eye(4, dtype=np.float32)[0]})
    for point in library._store.scroll(Where({"kind": ("page", "document")}), payload=["signatures"]):
        made = point.payload["signatures"]  # as if another version had drawn the pages
        library._store.update([Point(point.id, {"signatures": made | {"image": "other"}})])
    assert library.ingest(scans, readers=1, regions=False).pages == 4
    [hit] = library.search(vectors={"mine": np.eye(4, dtype=np.float32)[0]}, stage="mine")
    assert hit.page_id == page_id and hit.score == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "vector", "said"),
    [
        ("text", np.ones(4, np.float32), "'text' are the library's own"),
        ("fused", np.ones(4, np.float32), "cannot be called 'fused'"),
        ("rerank", np.ones(4, np.float32), "cannot be called 'rerank'"),
        ("a/b", np.ones(4, np.float32), "cannot be called 'a/b'"),
        ("", np.ones(4, np.float32), "cannot be called ''"),
        ("n" * 300, np.ones(4, np.float32), "cannot be called 'nnn"),
        ("mine", np.float32(1), "of one or two dimensions"),
        ("mine", ["x"], "no array of numbers"),
        ("mine", np.array([1, np.nan], np.float32), "not finite"),
    ],
)
def test_what_cannot_be_added(library: Library, name: str, vector: np.ndarray, said: str) -> None:
    page_id = next(library.pages())["page_id"]
    with pytest.raises(UsageError, match=said):
        library.add(page_id, {name: vector})
    library.add(page_id, {"mine": np.ones(3, np.float32)})  # no name was taken by what was refused
    with pytest.raises(UsageError, match="nowhere#0 is not in this library"):
        library.add("nowhere#0", {"mine": np.ones(3, np.float32)})


def test_asking_wrongly_says_so(library: Library) -> None:
    page_id = next(library.pages())["page_id"]
    library.add(page_id, {"mine": np.ones(4, np.float32)})
    with pytest.raises(UsageError, match="size 4 .* in this library, dense of size 5"):
        library.add(page_id, {"mine": np.ones(5, np.float32)})
    with pytest.raises(UsageError, match="has size 5, 4 was declared"):
        library.search(vectors={"mine": np.ones(5, np.float32)})
    with pytest.raises(UsageError, match="no vectors yours were added here; there are mine"):
        library.search(vectors={"yours": np.ones(4, np.float32)})
    with pytest.raises(UsageError, match="stage 'mine' is asked with a vector"):
        library.search(QUESTION, stage="mine")


# weights


def test_weights_are_those_of_the_fusion(library: Library) -> None:
    lists = {name: dict(order(library, name)) for name in ("bm25", "text", "document")}
    for weights in ({}, {"text": 3.0}, {"bm25": 0.0}):
        library.weigh(weights)
        expected = fuse(lists, {**FUSION, **library.weights})
        found = dict(library.rank(QUESTION, stage="fused"))
        assert found == pytest.approx({id: each.score for id, each in expected.items()}, abs=1e-6)
    assert library.weights == {"bm25": 0.0, "text": 3.0, "document": 0.5}


def test_weights_on_the_command_line(
    library: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Here(monkeypatch, capsys)
    at = ("--library", library.folder)
    assert json.loads(here("weigh", "text=2", *at, "--json"))["weights"]["text"] == 2
    assert "     2  text\n" in here("weigh", *at)
    with pytest.raises(UsageError, match="no list 'other' to weigh; there are bm25, text, document"):
        library.weigh({"other": 1})
    with pytest.raises(UsageError, match="must be a number from 0"):
        library.weigh({"text": -1})
