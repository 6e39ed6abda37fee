"""Pages by their looks: encoded from stored images, found, shown, refused, taken out again."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from exact_store import ExactStore
from made import fill, write_pdf
from qdrant_server import serving
from test_cli import Here
from test_straight_line import made_page
from tiny_encoders import write_colmodernvbert, write_colpali, write_colqwen2, write_qwen3_embedding

from pagelens import Library
from pagelens.encoders import load_encoder, pooling
from pagelens.encoders.heatmap import maxsim, similarities
from pagelens.encoders.sparse import Bm25Encoder
from pagelens.encoders.visual import VisualEncoder
from pagelens.errors import DocumentError, Missing, UsageError
from pagelens.evaluation.asking import known_pages, store
from pagelens.evaluation.evaluate import Evaluation, evaluate
from pagelens.evaluation.runs import Question
from pagelens.looks import LookSettings
from pagelens.ranking import OTHER
from pagelens.records import Query, SparseVector
from pagelens.scores import standardised
from pagelens.searching import LooksCounts, Searcher
from pagelens.store.plan import Point, Schema, VectorSpec, Where
from pagelens.store.points import FIELDS, page_point_id
from pagelens.weights import MODELS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXTS = ["The lease of the harbour", "Rent is due in May", "Minutes of the board", "A chart of revenue"]
QUESTION = "rent of the harbour"
TURBO = 0.03
"""How far MaxSim over what the store keeps in about a byte a number may be off, by a token of a question."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a model, as `--models` takes it."""
    root = tmp_path_factory.mktemp("models")
    write_colqwen2(root / "colqwen2")
    write_colmodernvbert(root / "colmodernvbert")
    write_qwen3_embedding(root / "qwen3-vl-embedding-2b")
    return root


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of two pages."""
    folder = tmp_path_factory.mktemp("scans")
    write_pdf(folder / "a.pdf", TEXTS[:2])
    write_pdf(folder / "b.pdf", TEXTS[2:])
    return folder


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory, models: Path, scans: Path) -> Iterator[Library]:
    """With two visual encoders. Not to be changed."""
    torch.set_num_threads(1)
    with Library(tmp_path_factory.mktemp("looked") / "lib", profile="words", models=models) as library:
        library.ingest(scans, readers=1, image=["colqwen2", "qwen3-vl-embedding-2b"])
        yield library


@pytest.fixture
def library(tmp_path: Path, models: Path, scans: Path) -> Iterator[Library]:
    """Words alone, to be changed."""
    with Library(tmp_path / "lib", profile="words", models=models) as opened:
        opened.ingest(scans, readers=1)
        yield opened


def page_ids(library: Library) -> list[str]:
    return [page["page_id"] for page in library.pages()]


def vectors(library: Library, page_id: str, name: str) -> np.ndarray:
    [point] = library._store.retrieve([page_point_id(page_id)], [name])
    found = point.vectors[name]
    assert isinstance(found, np.ndarray)
    return found


def words_alone(library: Library) -> list[Any]:
    """What an ingest without looks stores of the pages."""
    kept = []
    for point in library._store.scroll(Where({"kind": "page"}), vectors=["bm25"]):
        bm25 = point.vectors["bm25"]
        assert isinstance(bm25, SparseVector)
        payload = {key: value for key, value in point.payload.items() if key != "signatures"}
        kept.append((point.id, payload, sorted(zip(bm25.indices, bm25.values, strict=True))))
    return kept


# ingest


def test_an_encoder_added_later_reads_stored_images_and_touches_nothing_else(
    library: Library, models: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagelens.ingest import pool

    def never(*_: object) -> None:
        raise AssertionError("a page was read again")

    before = words_alone(library)
    said: list[str] = []
    monkeypatch.setattr(pool.ReaderPool, "submit", never)
    report = library.ingest(scans, image="colqwen2", say=said.append)
    assert (report.pages, report.encoded, report.unchanged, report.failed) == (0, 4, 2, [])
    assert words_alone(library) == before
    assert any("colqwen2: " in line and "vectors" in line and "the 4 that are there" in line for line in said)
    encoder = load_encoder("colqwen2", models / "colqwen2", "cpu", "float32")
    for page_id in page_ids(library):
        [expected] = encoder.encode_images([library.image(page_id)])
        stored = vectors(library, page_id, "colqwen2")
        assert stored.shape == expected.vectors.shape
        assert (stored * expected.vectors).sum(axis=1).min() > 0.999  # cosine: turbo8 rounds
        pooled = pooling.rows_and_columns(expected.vectors, expected.grid)
        np.testing.assert_allclose(vectors(library, page_id, "colqwen2.pooled"), pooled, atol=2e-3)
        blocks = pooling.blocks(expected.vectors, expected.grid)
        np.testing.assert_allclose(vectors(library, page_id, "colqwen2.blocks"), blocks, atol=2e-3)
    assert library.ingest(scans).encoded == 0  # and it stays, though nobody names it


def test_a_new_page_is_encoded_as_it_is_read(library: Library, scans: Path, tmp_path: Path) -> None:
    library.ingest(scans, readers=1, image="qwen3-vl-embedding-2b")
    write_pdf(tmp_path / "more" / "c.pdf", ["One more page"])
    report = library.ingest(tmp_path / "more", readers=1)
    assert (report.pages, report.encoded) == (1, 0)
    for page_id in page_ids(library):
        assert vectors(library, page_id, "qwen3-vl-embedding-2b").shape == (32,)
    assert list(library.check()) == [] and library.status()["stale"] == {}


def test_no_graph_is_built_and_full_patches_take_a_byte_a_number(library: Library, scans: Path) -> None:
    library.ingest(scans, image="colqwen2", look_settings=LookSettings(pooling="hierarchical"))
    [path] = [path for path in library.folder.rglob("edge_config.json")]
    config = json.loads(path.read_text())["vectors"]
    for suffix in ("", ".pooled", ".blocks"):
        assert config[f"colqwen2{suffix}"]["hnsw_config"]["m"] == 0
    assert config["colqwen2"]["datatype"] == "turbo8" and config["colqwen2.pooled"]["datatype"] == "float16"
    full, pooled = (vectors(library, page_ids(library)[0], f"colqwen2{each}") for each in ("", ".pooled"))
    assert len(pooled) == -(-len(full) // 3)


def test_an_interrupted_encoding_goes_on_where_it_stopped(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VisualEncoder.encode_images
    done: list[PIL.Image.Image] = []

    def until_the_third(self: VisualEncoder, images: Sequence[PIL.Image.Image]) -> Any:
        done.extend(images)
        if len(done) > 3:  # the blank page that is timed, and the first file's two
            raise KeyboardInterrupt
        return whole(self, images)

    monkeypatch.setattr(VisualEncoder, "encode_images", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        library.ingest(scans, image="colqwen2")
    monkeypatch.setattr(VisualEncoder, "encode_images", whole)
    meanwhile = library.search("harbour")
    assert meanwhile.hits and "colqwen2 is not whole yet: `pagelens ingest` goes on" in meanwhile.notes[-1]
    assert library.status()["unfinished"] == ["colqwen2"]
    with pytest.raises(UsageError, match="colqwen2 is not whole yet: `pagelens ingest` goes on"):
        library.search(image=made_page(60, 60))
    with pytest.raises(UsageError, match="colqwen2 is not whole yet"):
        library.similar(page_ids(library)[0])
    report = library.ingest(scans, image="colqwen2")
    assert report.encoded == 2
    assert len(library.search("harbour", stage="colqwen2")) == 4


def test_a_full_disk_while_pages_are_encoded_leaves_a_sound_index(
    disk: Path, models: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VisualEncoder.encode_images
    theirs: list[Path] = []

    def until_it_is_full(self: VisualEncoder, images: Sequence[PIL.Image.Image]) -> Any:
        if len(images) == 2:  # no blank page that is timed
            theirs.append(fill(disk, left=50 * 2**20))
        return whole(self, images)

    with Library(disk / "lib", profile="words", models=models) as library:
        library.ingest(scans, readers=1, regions=False)
        monkeypatch.setattr(VisualEncoder, "encode_images", until_it_is_full)
        with pytest.raises(OSError, match="free some space") as told:
            library.ingest(scans, image="colqwen2", regions=False)
        assert told.value.errno == errno.ENOSPC
        monkeypatch.setattr(VisualEncoder, "encode_images", whole)
        assert library.search("harbour").hits and list(library.check()) == []
        theirs[0].unlink()
        assert library.ingest(scans, image="colqwen2", regions=False).encoded == 4
        assert len(library.search("harbour", stage="colqwen2")) == 4


def test_a_page_that_an_encoder_does_not_take_is_a_record(
    library: Library, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pdf(tmp_path / "more" / "c.pdf", ["A page to be refused", "A page like others"])
    whole = VisualEncoder.encode_images
    refused: list[bytes] = []

    def fussy(self: VisualEncoder, images: Sequence[PIL.Image.Image]) -> Any:
        for place, image in enumerate(images):
            if image.tobytes() in refused:
                raise DocumentError("encode", "colqwen2 takes no such image: too odd", place)
        return whole(self, images)

    monkeypatch.setattr(VisualEncoder, "encode_images", fussy)
    refused.append(library.image(page_ids(library)[1]).tobytes())
    report = library.ingest(scans, image="colqwen2")
    assert [(Path(each.path).name, each.page, each.stage) for each in report.failed] == [
        ("a.pdf", 2, "encode")
    ]
    assert len(library.search("rent", stage="colqwen2")) == 3 and library.search("rent due")[0].page == 2
    assert [each.reason for each in library.ingest(scans).failed] == ["colqwen2 takes no such image: too odd"]
    assert library.ingest(scans).encoded == 0  # not tried again unless asked

    report = library.ingest(scans, retry=True)
    assert len(report.failed) == 1
    refused.clear()
    report = library.ingest(scans, retry=True)
    assert report.failed == [] and library.failures() == []
    assert len(library.search("rent", stage="colqwen2")) == 4

    with Library(tmp_path / "other", profile="words", models=library._models) as fresh:
        fresh.ingest(tmp_path / "more", readers=1)
        refused.append(fresh.image(page_ids(fresh)[0]).tobytes())
    with Library(tmp_path / "third", profile="words", models=library._models) as fresh:
        report = fresh.ingest(tmp_path / "more", readers=1, image="colqwen2")
        assert (report.pages, [each.page for each in report.failed]) == (2, [1])
        assert len(fresh.search("page", stage="colqwen2")) == 1
        shutil.copytree(tmp_path / "more", tmp_path / "copied")
        fresh.ingest(tmp_path / "copied")
        (tmp_path / "more" / "c.pdf").unlink()
        fresh.ingest(tmp_path, prune=True)  # the page stays by its other name, and is still refused
        assert len(page_ids(fresh)) == 2 and len(fresh.failures()) == 1
        refused.clear()
        fresh.ingest(tmp_path, retry=True)
        assert fresh.failures() == [] and len(fresh.search("page", stage="colqwen2")) == 2
        refused.append(fresh.image(page_ids(fresh)[0]).tobytes())
        fresh.drop_encoder("colqwen2")
        assert len(fresh.ingest(tmp_path, image="colqwen2").failed) == 1
        fresh.drop_encoder("colqwen2")
        assert fresh.failures() == []


def test_another_encoder_has_its_own_vectors_and_is_taken_out_alone(library: Library, scans: Path) -> None:
    library.ingest(scans, image=["colqwen2", "colmodernvbert"])
    before = library.search("harbour", stage="colmodernvbert").hits
    library.drop_encoder("colqwen2")
    assert [hit.page_id for hit in library.search("harbour", stage="colmodernvbert")] == [
        hit.page_id for hit in before
    ]
    [path] = [path for path in library.folder.rglob("edge_config.json")]
    kept = json.loads(path.read_text())["vectors"]
    assert {name.split(".")[0] for name in kept} == {"colmodernvbert", "text"}
    assert not [each for each in library.folder.rglob("*colqwen2*")]  # its space is free
    with pytest.raises(UsageError, match="no stage 'colqwen2'"):
        library.search("harbour", stage="colqwen2")
    with pytest.raises(
        UsageError, match="no encoder 'colqwen2' that could be taken out; it has colmodernvbert"
    ):
        library.drop_encoder("colqwen2")
    assert library.ingest(scans, image="colqwen2").encoded == 4


def test_an_estimate_counts_what_looks_take(library: Library, scans: Path) -> None:
    without = library.estimate(scans, readers=1)
    found = library.estimate(scans, readers=1, image="colqwen2")
    more = found.bytes["vectors"] - without.bytes["vectors"]
    patches = len(
        load_encoder("colqwen2", library._models / "colqwen2").encode_query(  # type: ignore[operator]
            library.image(page_ids(library)[0])
        )
    )
    assert 4 * patches * 16 * 1.1 < more < 4 * patches * 16 * 2
    assert "colqwen2" not in library.status()["signatures"]


# search


def exact_scores(library: Library, question: np.ndarray, name: str = "colqwen2") -> dict[str, float]:
    return {each: maxsim(question, vectors(library, each, name)) for each in page_ids(library)}


def test_a_list_of_late_interaction_is_maxsim(looked: Library) -> None:
    asked = looked.encoder("colqwen2").encode_query(QUESTION)
    expected = exact_scores(looked, asked)
    found = looked.search(QUESTION, stage="colqwen2")
    assert {hit.page_id: hit.score for hit in found} == pytest.approx(expected, abs=TURBO * len(asked))
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_the_counts_are_the_users_to_set(looked: Library) -> None:
    with Library(looked.folder, models=looked._models, counts=LooksCounts(4, 4, 2)) as few:
        found = few.search(QUESTION, rerank=None)
        assert sum("colqwen2" in hit.stages for hit in found) == 2


def test_a_list_of_single_vectors_is_cosine(looked: Library) -> None:
    name = "qwen3-vl-embedding-2b"
    [asked] = looked.encoder(name).encode_query(QUESTION)
    expected = {each: float(asked @ vectors(looked, each, name)) for each in page_ids(looked)}
    found = looked.search(QUESTION, stage=name)
    assert {hit.page_id: hit.score for hit in found} == pytest.approx(expected, abs=1e-5)


def test_looks_join_the_fusion_with_a_low_weight_and_words_keep_their_say(looked: Library) -> None:
    found = looked.search(QUESTION, stage="fused")
    lists = {name: {hit.page_id: hit.stages[name].score for hit in found if name in hit.stages}
             for name in ("bm25", "document", "colqwen2", "qwen3-vl-embedding-2b")}  # fmt: skip
    weights = {"bm25": 1.0, "document": 0.5, "colqwen2": OTHER, "qwen3-vl-embedding-2b": OTHER}
    total: dict[str, float] = {}
    ids = sorted(page_ids(looked))
    for name, scores in lists.items():
        lowest = min(scores.values())
        for id, z in zip(ids, standardised([scores.get(id, lowest) for id in ids]), strict=True):
            total[id] = total.get(id, 0.0) + weights[name] * z
    assert {hit.page_id: hit.score for hit in found} == pytest.approx(total, abs=1e-6)
    assert "looks" in found.timings
    without = looked.search(QUESTION, stage="fused", looks=False)
    assert all(set(hit.stages) <= {"bm25", "document", "fused"} for hit in without)
    assert without[0].page_id == found[0].page_id


def test_an_image_alone_and_an_image_with_words(looked: Library, tmp_path: Path) -> None:
    page_id = page_ids(looked)[2]
    file = tmp_path / "page.png"
    looked.image(page_id).save(file)
    found = looked.search(image=file)
    assert found[0].page_id == page_id and "bm25" not in found[0].stages
    assert any("image alone" in note for note in found.notes)
    assert looked.search(image=looked.image(page_id))[0].page_id == page_id
    both = looked.search("rent due in May", image=file)
    assert {"bm25", "colqwen2"} <= set(both[0].stages) | set(both[1].stages)
    with pytest.raises(UsageError, match="cannot be read as an image"):
        looked.search(image=Path(__file__))


def test_an_evaluation_has_a_row_for_each_encoder_before_the_fused_order(
    looked: Library, tmp_path: Path
) -> None:
    """Each in the order of a search by it alone, never compared as a stage that comes after another."""
    questions = [Question(f"q{n}", text, {}, n) for n, text in enumerate(TEXTS)]
    pages = known_pages(looked, "{doc_id}#{number}").values()
    qrels = {each.id: {page.name: 1} for each, page in zip(questions, pages, strict=True)}
    found = evaluate(looked, questions, qrels)
    encoders = ["colqwen2", "qwen3-vl-embedding-2b"]
    assert list(found.stages) == ["bm25", "document", *encoders, "fused", "rerank"]
    for name in encoders:
        for each in questions:
            alone = [page_id for page_id, _ in looked.rank(each.query, 100, stage=name)]
            assert found.asked.runs[name][each.id] == alone
    for stages in (found.stages, evaluate(looked, questions, qrels, runs=_kept(found, tmp_path)).stages):
        against = {name: stage.against for name, stage in stages.items()}
        assert against == {**dict.fromkeys(stages, "fused"), "fused": None}
    assert all(found.stages[name].latency is None for name in encoders)


def _kept(found: Evaluation, folder: Path) -> Path:
    store(found.asked, folder)
    return folder


def test_pages_that_look_like_another(looked: Library) -> None:
    ids = page_ids(looked)
    found = looked.similar(ids[1], k=2)
    assert len(found) == 2 and ids[1] not in [hit.page_id for hit in found]
    whole = looked.similar(ids[1])
    expected = exact_scores(looked, vectors(looked, ids[1], "colqwen2"))
    rows = len(vectors(looked, ids[1], "colqwen2"))
    assert {hit.page_id: hit.stages["colqwen2"].score for hit in whole} == pytest.approx(
        {id: score for id, score in expected.items() if id != ids[1]}, abs=TURBO * rows
    )
    with pytest.raises(UsageError, match="is not in this library"):
        looked.similar("0123456789abcdef#7")


def test_where_on_the_page(looked: Library) -> None:
    hit = next(hit for hit in looked.search("rent harbour", stage="colqwen2"))
    encoder = looked.encoder("colqwen2")
    asked, patches = encoder.encode_query("rent harbour"), vectors(looked, hit.page_id, "colqwen2")
    image = looked.image(hit.page_id)
    maps = similarities(asked, patches, encoder.grid(*image.size))
    words = dict(encoder.words("rent harbour"))
    np.testing.assert_allclose(hit.heatmap("rent").values, maps[words["rent"]].mean(axis=0), atol=1e-6)
    both = maps[words["rent"] + words["harbour"]].mean(axis=0)
    np.testing.assert_allclose(hit.heatmap().values, both, atol=1e-6)
    assert hit.heatmap().page == hit.record
    shown = hit.heatmap().over(image)
    assert shown.size == image.size and shown.tobytes() != image.tobytes()
    with pytest.raises(UsageError, match="no word 'lease'; it has rent, harbour"):
        hit.heatmap("lease")
    with pytest.raises(UsageError, match="--image colqwen2"):
        looked.search("rent", looks=False)[0].heatmap()


def test_a_hit_without_words_shows_where_it_looks_like_the_question(looked: Library) -> None:
    page_id = page_ids(looked)[0]
    hit = looked.search(image=looked.image(page_id))[0]
    assert hit.evidence and not any(each.words for each in hit.evidence)
    warm = hit.heatmap().regions()
    assert [each.box for each in hit.evidence] == [box for box, _ in warm[:3]]
    page = hit.record
    for each in hit.evidence:
        assert 0 <= each.box.left < each.box.right <= page.width + 1e-6
        inside = [
            word.text
            for word in looked.words(page_id).words
            if each.box.left <= (word.box.left + word.box.right) / 2 < each.box.right
            and each.box.top <= (word.box.top + word.box.bottom) / 2 < each.box.bottom
        ]
        assert each.text == " ".join(inside)
    assert "data:image/jpeg" in looked.search(image=looked.image(page_id)).to_html()


def test_vectors_of_other_weights_are_not_searched(
    looked: Library, tmp_path: Path, models: Path, scans: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    shutil.rmtree(tmp_path / "models" / "colqwen2")
    write_colqwen2(tmp_path / "models" / "colqwen2", seed=7)
    with Library(tmp_path / "lib", profile="words", models=models) as library:
        library.ingest(scans, readers=1, image="colqwen2")
    with Library(tmp_path / "lib", models=tmp_path / "models") as library:
        with pytest.raises(UsageError, match="ingest` its files again with --image colqwen2, or go without"):
            library.search("rent")
        assert library.search("rent", looks=False).hits
        report = library.ingest(scans)  # the cure
        assert report.encoded == 4 and len(library.search("rent", stage="colqwen2")) == 4
    shutil.rmtree(tmp_path / "models" / "colqwen2")
    with Library(tmp_path / "lib", models=tmp_path / "models") as library:
        with pytest.raises(Missing, match="or go without: `--no-looks`"):
            library.search("rent")
        assert library.search("rent", looks=False).hits


@pytest.mark.parametrize("tenant", [None, "archive"])
def test_a_page_that_new_weights_do_not_take_does_not_keep_the_old_vectors(
    tenant: str | None, tmp_path: Path, models: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_colqwen2(tmp_path / "models" / "colqwen2", seed=7)
    with ExitStack() as opened:
        place: dict[str, Any] = {"folder": tmp_path / "lib"}
        if tenant:
            server = opened.enter_context(serving(tmp_path / "qdrant"))
            place = {"folder": server.url, "pages": tmp_path / "pages", "tenant": tenant}
        with Library(**place, profile="words", models=models) as library:
            library.ingest(scans, readers=1, image="colqwen2")
            page_id = page_ids(library)[0]
        library = opened.enter_context(Library(**place, models=tmp_path / "models"))
        whole = library._files.image
        monkeypatch.setattr(library._files, "image", lambda id: b"damaged" if id == page_id else whole(id))
        assert [each.page for each in library.ingest(scans).failed] == [1]
        found = [hit.page_id for hit in library.search("rent", stage="colqwen2")]
        assert len(found) == 3 and page_id not in found
        [point] = library._store.retrieve([page_point_id(page_id)], ["colqwen2", "colqwen2.blocks"])
        assert not point.vectors


def test_a_model_that_does_not_say_where_is_searched_all_the_same(
    library: Library, scans: Path, tmp_path: Path
) -> None:
    """And pages are compared with each other though its weights are gone."""
    pytest.importorskip("sentence_transformers")
    write_colpali(tmp_path / "models" / "other")
    with Library(library.folder, models=tmp_path / "models") as opened:
        opened.ingest(scans, image="x/other")
        assert len(opened.search("rent", stage="x/other")) == 4
        [first, *_] = opened.search("nowhere on any page")
        with pytest.raises(UsageError, match="does not say where its patches lie"):
            first.heatmap()
        page_id = page_ids(opened)[0]
    with Library(library.folder, models=tmp_path) as opened:
        assert len(opened.similar(page_id)) == 3


def test_an_image_to_ask_with_is_seen_as_its_page_would_be(looked: Library, tmp_path: Path) -> None:
    upright = made_page(120, 160)
    clear = upright.convert("RGBA")
    clear.putalpha(
        PIL.Image.fromarray(np.where(np.asarray(upright.convert("L")) > 200, 0, 255).astype("uint8"))
    )
    clear.save(tmp_path / "clear.png")
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "phone.png", exif=turned)
    assert looked._picture(tmp_path / "phone.png").tobytes() == upright.tobytes()
    shown = np.asarray(looked._picture(tmp_path / "clear.png"))
    assert (shown[np.asarray(upright.convert("L")) > 200] == 255).all()
    assert looked._picture(clear).tobytes() == shown.tobytes()


def test_what_is_asked_and_left_out_at_once_is_said(looked: Library) -> None:
    with pytest.raises(UsageError, match="an image is asked by its looks"):
        looked.search(image=made_page(60, 60), looks=False)
    with pytest.raises(UsageError, match="'colqwen2' is asked by looks"):
        looked.search("rent", stage="colqwen2", looks=False)
    with pytest.raises(UsageError, match="'bm25' is asked in words"):
        looked.search(image=made_page(60, 60), stage="bm25")


def test_a_repository_with_a_name_of_ours_is_ours(models: Path) -> None:
    """Through another library it would have that one's defects."""
    encoder = load_encoder(MODELS["colqwen2"].repository, models / "colqwen2", "cpu", "float32")
    assert encoder.name == "colqwen2"


def test_two_open_libraries_know_of_each_other(library: Library, models: Path, scans: Path) -> None:
    with Library(library.folder, models=models) as other:
        assert other.search("rent").hits
        library.ingest(scans, image="colqwen2")
        other.weigh({"bm25": 2})
        assert "colqwen2" in library.search("rent").hits[0].stages and library.weights["bm25"] == 2
        assert "colqwen2" in other.search("rent").hits[0].stages
        library.drop_encoder("colqwen2")
        assert "colqwen2" not in other.search("rent").hits[0].stages


def test_a_library_without_looks_says_how_to_get_some(library: Library) -> None:
    with pytest.raises(UsageError, match="no visual encoder to ask with an image"):
        library.search(image=made_page(60, 60))
    with pytest.raises(UsageError, match="has no vectors of a visual encoder"):
        library.similar(page_ids(library)[0])
    with pytest.raises(UsageError, match="no visual encoder 'colqwen'"):
        library.ingest(image="colqwen")


# the steps of late interaction, over a store of plain loops


class Asked:
    """Late interaction without a model."""

    late = True

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def encode_query(self, query: str | PIL.Image.Image) -> np.ndarray:
        return self._rows


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape).astype(np.float32)
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


@pytest.mark.parametrize(
    "counts", [LooksCounts(), LooksCounts(exact=4), LooksCounts(3, 1000, 4), LooksCounts(8, 6, 5)]
)
def test_each_step_sees_what_it_is_told(counts: LooksCounts) -> None:
    rng = np.random.default_rng(0)
    store = ExactStore()
    specs = [VectorSpec("bm25", "sparse"), VectorSpec("document_bm25", "sparse")]
    specs += [VectorSpec(f"look{suffix}", "multi", 8) for suffix in ("", ".pooled", ".blocks")]
    store.declare(Schema(tuple(specs), FIELDS))
    sparse = Bm25Encoder(("eng",))
    pages: dict[str, Mapping[str, np.ndarray]] = {}
    worded: dict[str, SparseVector] = {}
    for number in range(40):
        id, full = page_point_id(f"0123456789abcdef#{number}"), unit(rng, 12, 8)
        pages[id] = {"look": full, "look.pooled": full[::3], "look.blocks": full[::6]}
        text = "rent " * (number % 7 == 0) + f"word{number}"
        bm25 = sparse.encode(text)
        assert bm25 is not None
        worded[id] = bm25
        payload = {"kind": "page", "doc_id": "0123456789abcdef", "number": number}
        store.upsert([Point(id, payload, {**pages[id], "bm25": bm25})])
    rows = unit(rng, 5, 8)
    looks = {"look": Asked(rows)}

    def no_image(page_id: str) -> PIL.Image.Image:
        raise AssertionError(f"nobody asked for the image of {page_id}")

    searcher = Searcher(store, lambda _: [], no_image, sparse, {}, (), looks, (), counts)
    found = searcher.search(Query("rent"), 2, "look").order

    def best(scores: dict[str, float], count: int) -> list[str]:
        return sorted(scores, key=lambda id: (-scores[id], id))[:count]

    candidates = best({id: maxsim(rows, page["look.blocks"]) for id, page in pages.items()}, counts.nominated)
    candidates = candidates[: counts.pooled]  # one list alone: in its order
    pooled = best({id: maxsim(rows, pages[id]["look.pooled"]) for id in candidates}, counts.exact)
    last = {id: maxsim(rows, pages[id]["look"]) for id in pooled}
    assert [each.id for each in found] == best(last, 2)
    assert [each.score for each in found] == pytest.approx([last[each.id] for each in found], abs=1e-5)

    fused = searcher.search(Query("rent"), 40).order
    seen = {each.id for each in fused if "look" in each.stages}
    named = {id for id, vector in worded.items() if len(vector.indices) == 2}
    assert len(seen) == min(counts.exact, counts.pooled, len(named | set(candidates)))
    if counts.pooled == 1000:
        assert named <= {each.id for each in fused}


def test_a_stored_image_that_is_damaged_is_a_record(library: Library, scans: Path) -> None:
    page_id = page_ids(library)[0]
    buffer = BytesIO()
    library.image(page_id).save(buffer, "JPEG")
    library._files.put(page_id, ".jpg", buffer.getvalue()[:-2])
    report = library.ingest(scans, image="colqwen2")
    assert [(each.page, each.stage) for each in report.failed] == [(1, "encode")]
    assert "damaged" in report.failed[0].reason
    assert len(library.search("rent", stage="colqwen2")) == 3


def test_the_profile_cpu_looks_at_pages_until_that_is_taken_out(
    tmp_path: Path, models: Path, scans: Path
) -> None:
    with Library(tmp_path / "lib", "cpu", models=models) as library:
        library.ingest(scans, readers=1, regions=False)
        assert {"text", "colmodernvbert"} <= library.search("rent")[0].stages.keys()
        library.drop_encoder("colmodernvbert")
        library.ingest(scans, readers=1, regions=False)
        assert "colmodernvbert" not in library.search("rent")[0].stages


def test_the_command_line(
    tmp_path: Path,
    models: Path,
    scans: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = Here(monkeypatch, capsys)
    at = ("--library", tmp_path / "lib", "--models", models)
    here("ingest", scans, *at, "--profile", "words", "--image", "colqwen2", "--pooling", "hierarchical")
    with Library(tmp_path / "lib", models=models) as library:
        page_id = page_ids(library)[3]
        library.image(page_id).save(tmp_path / "asked.png")
        assert "hierarchical turbo8" in library.status()["signatures"]["colqwen2"]
    found = json.loads(here("search", *at, "--image", tmp_path / "asked.png", "--json"))
    assert found["hits"][0]["page_id"] == page_id and "colqwen2" in found["hits"][0]["stages"]
    found = json.loads(here("search", "rent", *at, "--no-looks", "--json"))
    assert all("colqwen2" not in hit["stages"] for hit in found["hits"])
    here("ingest", scans, *at, "--drop", "colqwen2")
    with Library(tmp_path / "lib", models=models) as library:
        assert "colqwen2" not in library.status()["signatures"]
