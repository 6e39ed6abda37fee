"""Visual encoders against transformers' classes with their defects mended by hand, and against formulas."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import straight_encoders
import torch
from safetensors.torch import load_file, save_file
from test_straight_line import made_page
from tiny_encoders import (
    write_colmodernvbert,
    write_colpali,
    write_colqwen2,
    write_nemotron_embed,
    write_qwen3_embedding,
)
from transformers import (
    AutoTokenizer,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pagelens.backbones import qwen_vl
from pagelens.encoders import FAMILIES, load_encoder, pooling
from pagelens.encoders.heatmap import Heatmap, maxsim, similarities
from pagelens.encoders.visual import Grid, VisualEncoder
from pagelens.errors import DocumentError, Missing, UsageError
from pagelens.records import Page
from pagelens.weights import MODELS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "colmodernvbert": write_colmodernvbert,
    "colqwen2": write_colqwen2,
    "colpali-1.3": write_colpali,
    "qwen3-vl-embedding-2b": write_qwen3_embedding,
    "nemotron-embed-vl": write_nemotron_embed,
}
LATE = ("colmodernvbert", "colqwen2", "colpali-1.3")
SINGLE = ("qwen3-vl-embedding-2b", "nemotron-embed-vl")
PAGES = [made_page(150, 210), made_page(230, 120, seed=1), made_page(60, 330, seed=2), made_page(150, 210, 3)]
QUESTIONS = ("What is the rent?", "  two  spaces", "yes\n\nand no", "ümlaut 1,250")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny checkpoint a family."""
    root = tmp_path_factory.mktemp("encoders")
    return {name: write(root / name) for name, write in WRITERS.items()}


@pytest.fixture(scope="module")
def loaded(folders: Mapping[str, Path]) -> Mapping[str, VisualEncoder]:
    """Each of them, in float32 on the CPU."""
    return {name: load_encoder(name, folder, "cpu", "float32") for name, folder in folders.items()}


# the same numbers as others'


def native(name: str, folder: Path) -> tuple[Any, Any]:
    """transformers' class and processor, put together without torchvision."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    families: dict[str, tuple[Any, Any, Any]] = {
        "colmodernvbert": (ColModernVBertForRetrieval, ColModernVBertProcessor, Idefics3ImageProcessorPil),
        "colqwen2": (ColQwen2ForRetrieval, ColQwen2Processor, Qwen2VLImageProcessorPil),
        "colpali-1.3": (ColPaliForRetrieval, ColPaliProcessor, SiglipImageProcessorPil),
    }
    kind, processor, images = families[name]
    options = {"image_seq_len": 4} if name == "colmodernvbert" else {}
    image_processor: Any = images.from_pretrained(folder)
    return (
        kind.from_pretrained(folder, dtype=torch.float32).eval(),
        processor(image_processor, tokenizer, **options),
    )


@torch.no_grad()
def by_transformers(name: str, folder: Path, side: Any) -> np.ndarray:
    """A page's image tokens, or all tokens of a question."""
    model, processor = native(name, folder)
    if isinstance(side, str):
        batch = processor.process_queries([side])
        rows = model(**{key: value for key, value in batch.items() if key != "labels"}).embeddings[0]
        found: np.ndarray = rows.numpy()
        return found
    batch = processor.process_images([side])
    batch = {key: value for key, value in batch.items() if key != "labels"}
    ids = batch["input_ids"]
    image = ids == processor.image_token_id
    if name == "colqwen2":
        # its own forward leaves rows and columns out
        batch["position_ids"], _ = model.vlm.get_rope_index(
            ids,
            mm_token_type_ids=image.int(),
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=batch["attention_mask"],
        )
    vectors: np.ndarray = model(**batch).embeddings[image].numpy()
    return vectors if name != "colmodernvbert" else by_place(vectors, *side.size)


def by_place(vectors: np.ndarray, width: int, height: int) -> np.ndarray:
    """Vectors of tiles of 2 x 2 patches, tile after tile, in the order of the page; then the whole's."""
    columns = 4 if width >= height else math.ceil(4 * width / height)
    rows = 4 if height > width else math.ceil(4 * height / width)
    placed = np.zeros((rows * 2, columns * 2, vectors.shape[1]), np.float32)
    for number, vector in enumerate(vectors[: rows * columns * 4]):
        tile, patch = divmod(number, 4)
        placed[tile // columns * 2 + patch // 2, tile % columns * 2 + patch % 2] = vector
    return np.concatenate([placed.reshape(-1, vectors.shape[1]), vectors[rows * columns * 4 :]])


ORACLES: Mapping[str, list[Callable[[Path, Any], Any]]] = {
    "colmodernvbert": [lambda folder, side: by_transformers("colmodernvbert", folder, side)],
    "colqwen2": [
        lambda folder, side: by_transformers("colqwen2", folder, side),
        lambda folder, side: straight_encoders.encode_colqwen2(folder, side).numpy(),
    ],
    "colpali-1.3": [lambda folder, side: by_transformers("colpali-1.3", folder, side)],
    "qwen3-vl-embedding-2b": [lambda folder, side: straight_encoders.encode_qwen3(folder, side).numpy()],
    "nemotron-embed-vl": [lambda folder, side: straight_encoders.encode_nemotron(folder, side).numpy()],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_those_of_a_second_implementation(
    name: str, folders: Mapping[str, Path], loaded: Mapping[str, VisualEncoder]
) -> None:
    """Pages of several sizes, together and one by one; questions."""
    encoder = loaded[name]
    together = encoder.encode_images(PAGES)
    for page, found in zip(PAGES, together, strict=True):
        alone = encoder.encode_images([page])[0]
        assert alone.grid == found.grid == encoder.grid(*page.size)
        for oracle in ORACLES[name]:
            expected = oracle(folders[name], page)
            np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
            np.testing.assert_allclose(alone.vectors, expected, atol=1e-5)
    for question in QUESTIONS:
        for oracle in ORACLES[name]:
            np.testing.assert_allclose(
                encoder.encode_query(question), oracle(folders[name], question), atol=1e-5
            )
    every = np.concatenate([each.vectors for each in together])
    assert every.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), 1, atol=1e-5)
    first, second = together[0].vectors[0], together[3].vectors[0]
    assert abs(first - second).max() > 0.05  # two pages of one size, or all of the above says little


def test_prompts_are_byte_exact(folders: Mapping[str, Path], loaded: Mapping[str, VisualEncoder]) -> None:
    expected: dict[str, Callable[[Path, str], list[int]]] = {
        "colqwen2": straight_encoders.ids_colqwen2,
        "qwen3-vl-embedding-2b": straight_encoders.ids_qwen3,
        "nemotron-embed-vl": straight_encoders.ids_nemotron,
    }
    for name, encoder in loaded.items():
        for question in QUESTIONS:
            ids = encoder._model.question(question).ids
            if name in expected:
                assert ids == expected[name](folders[name], question), name
            else:
                _, processor = native(name, folders[name])
                assert ids == processor.process_queries([question])["input_ids"][0].tolist(), name


def test_what_somebody_asks_never_becomes_a_special_token(loaded: Mapping[str, VisualEncoder]) -> None:
    for name, encoder in loaded.items():
        plain = len(encoder._model.question("x").ids)
        for token in ("<image>", "<|image_pad|>", "<IMG_CONTEXT>", "<end_of_utterance>", "<pad>"):
            ids = encoder._model.question(token).ids
            assert len(ids) > plain, (name, token)
            assert encoder.encode_query(token).shape[1] == encoder.size


def test_a_token_that_the_tokenizer_sets_at_the_end_is_read(tmp_path: Path) -> None:
    """Whether Qwen's tokenizer adds one is its file's to say; the last state is then that token's."""
    write_qwen3_embedding(tmp_path, ending=True)
    encoder = load_encoder("qwen3-vl-embedding-2b", tmp_path, "cpu", "float32")
    assert encoder._model.question("rent").ids == straight_encoders.ids_qwen3(tmp_path, "rent")
    for side in (*QUESTIONS, PAGES[0]):
        found = encoder.encode_query(side)
        np.testing.assert_allclose(found, straight_encoders.encode_qwen3(tmp_path, side).numpy(), atol=1e-5)


def test_layouts_of_both_generations_load(folders: Mapping[str, Path], tmp_path: Path) -> None:
    new = write_colpali(tmp_path / "new", legacy=False)
    both = [load_encoder("colpali-1.3", each, "cpu", "float32") for each in (folders["colpali-1.3"], new)]
    old_vectors, new_vectors = (each.encode_images(PAGES[:1])[0].vectors for each in both)
    assert np.array_equal(old_vectors, new_vectors)
    published = write_colmodernvbert(tmp_path / "published", published=True)
    name = "colmodernvbert"
    both = [load_encoder(name, each, "cpu", "float32") for each in (folders[name], published)]
    for side in (PAGES[0], QUESTIONS[0]):
        assert np.array_equal(both[0].encode_query(side), both[1].encode_query(side))
    weights = load_file(published / "model.safetensors")
    for changed in ({**weights, "stray.weight": torch.ones(2)}, dict(list(weights.items())[1:])):
        save_file(changed, published / "model.safetensors", {"format": "pt"})
        with pytest.raises(Missing, match="are not those of"):
            load_encoder(name, published, "cpu")


# each of these would be a wrong vector without an error


def _places_counted_up(patch: pytest.MonkeyPatch, model: Any) -> None:
    def counted(prompt: Any, start: int = 0) -> tuple[torch.Tensor, int]:
        return torch.arange(start, start + len(prompt)).expand(3, -1), start + len(prompt)

    patch.setattr(qwen_vl, "positions", counted)


def _causal(patch: pytest.MonkeyPatch, model: Any) -> None:
    whole = model._model.forward
    patch.setattr(model._model, "forward", lambda token_type_ids, **rest: whole(**rest))


def _tiles_as_they_come(patch: pytest.MonkeyPatch, model: Any) -> None:
    patch.setattr(model, "_put_together", lambda vectors, rows, columns: vectors)


def _special_tokens_kept(patch: pytest.MonkeyPatch, model: Any) -> None:
    whole = model.look
    patch.setattr(model, "look", lambda prepared: [torch.roll(rows, 1, 0) for rows in whole(prepared)])


def _last_of_all(patch: pytest.MonkeyPatch, model: Any) -> None:
    whole = model._body.read

    def read(prompts: Any) -> Any:
        states, mask = whole(prompts)
        return states.roll(1, 1), mask

    patch.setattr(model._body, "read", read)


FLAWS: list[tuple[str, Callable[[pytest.MonkeyPatch, Any], None], Any]] = [
    ("colqwen2", _places_counted_up, PAGES[0]),
    ("colqwen2", _special_tokens_kept, PAGES[0]),
    ("colpali-1.3", _causal, QUESTIONS[0]),
    ("colpali-1.3", _causal, PAGES[0]),
    ("colmodernvbert", _tiles_as_they_come, PAGES[0]),
    ("qwen3-vl-embedding-2b", _places_counted_up, PAGES[0]),
    ("qwen3-vl-embedding-2b", _last_of_all, QUESTIONS[0]),
]


@pytest.mark.parametrize(("name", "flaw", "side"), FLAWS)
def test_a_flaw_shows(
    name: str,
    flaw: Callable[[pytest.MonkeyPatch, Any], None],
    side: Any,
    folders: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the comparison above must catch, it catches."""
    encoder = load_encoder(name, folders[name], "cpu", "float32")
    before = encoder.encode_query(side)
    flaw(monkeypatch, encoder._model)
    after = encoder.encode_query(side)
    assert before.shape == after.shape and abs(before - after).max() > 1e-2


def test_rows_and_columns_reach_the_decoder_of_colqwen2(loaded: Mapping[str, VisualEncoder]) -> None:
    """A page on its side is another page, even where a count of tokens is all that a place says."""
    tall, wide = made_page(140, 280), made_page(140, 280).transpose(PIL.Image.Transpose.ROTATE_90)
    grids = [each.grid for each in loaded["colqwen2"].encode_images([tall, wide])]
    assert grids == [((10, 5),), ((5, 10),)]


def test_every_token_of_a_colpali_question_sees_every_other(loaded: Mapping[str, VisualEncoder]) -> None:
    model = loaded["colpali-1.3"]._model
    question = model.question("What is the rent")
    changed = question._replace(ids=[*question.ids[:-1], question.ids[-1] + 1])
    assert abs(model.ask(question)[0] - model.ask(changed)[0]).max() > 1e-3


# questions


@pytest.mark.parametrize("name", LATE)
def test_words_are_the_rows_of_their_tokens(name: str, loaded: Mapping[str, VisualEncoder]) -> None:
    encoder = loaded[name]
    question = encoder._model.question("the rent?  is due")
    words = encoder.words("the rent?  is due")
    assert [word for word, _ in words] == ["the", "rent?", "is", "due"]
    rows = [row for _, own in words for row in own]
    assert rows == sorted(set(rows)) and len(encoder.encode_query("the rent?  is due")) > len(rows)
    for word, own in words:
        read = "".join("the rent?  is due"[slice(*(question.spans[row] or (0, 0)))] for row in own)
        assert read.strip() == word


@pytest.mark.parametrize("name", FAMILIES)
def test_a_question_may_be_an_image(name: str, loaded: Mapping[str, VisualEncoder]) -> None:
    """A page that looks the same is nearest."""
    encoder = loaded[name]
    pages = encoder.encode_images(PAGES)
    asked = encoder.encode_query(PAGES[1])
    scores = [maxsim(asked, page.vectors) for page in pages]
    assert int(np.argmax(scores)) == 1 and scores[1] == pytest.approx(len(asked), abs=1e-4)


def test_questions_that_cannot_be_asked(loaded: Mapping[str, VisualEncoder]) -> None:
    for encoder in loaded.values():
        with pytest.raises(UsageError, match="empty"):
            encoder.encode_query(" \n")
        with pytest.raises(UsageError, match="takes 512; ask a shorter one"):
            encoder.encode_query("rent " * 600)
    for name in SINGLE:
        with pytest.raises(UsageError, match="one vector of a question"):
            loaded[name].words("rent")


# pages that are odd


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_pages(name: str, loaded: Mapping[str, VisualEncoder]) -> None:
    """White, one pixel, grey, with an alpha channel, very large: vectors of length 1 as any other's."""
    odd = [
        PIL.Image.new("RGB", (150, 210), "white"),
        PIL.Image.new("RGB", (1, 1), "red"),
        PIL.Image.new("L", (90, 90), 127),
        PIL.Image.new("RGBA", (70, 90), (0, 0, 0, 0)),
        PIL.Image.new("RGB", (20_000, 400), "white"),
    ]
    for image, found in zip(odd, loaded[name].encode_images(odd), strict=True):
        assert found.vectors.shape[0] == (sum(r * c for r, c in found.grid) or 1)
        assert found.grid == loaded[name].grid(*image.size)
        np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["colqwen2", "qwen3-vl-embedding-2b"])
def test_a_page_that_no_model_takes_is_named(name: str, loaded: Mapping[str, VisualEncoder]) -> None:
    with pytest.raises(DocumentError, match="takes no such image") as caught:
        loaded[name].encode_images([PAGES[0], PIL.Image.new("RGB", (4000, 10))])
    assert caught.value.page == 1 and caught.value.stage == "encode"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda rows: rows * math.nan, "not numbers"),
        (lambda rows: rows[:, :-1], r"of shape \(40, 15\), not \(40, 16\)"),
        (lambda rows: rows[1:], r"of shape \(39, 16\)"),
    ],
)
def test_vectors_that_cannot_be_are_refused(
    broken: Callable[[torch.Tensor], torch.Tensor],
    message: str,
    folders: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = load_encoder("colqwen2", folders["colqwen2"], "cpu", "float32")
    whole = encoder._model.look
    monkeypatch.setattr(encoder._model, "look", lambda prepared: [broken(rows) for rows in whole(prepared)])
    with pytest.raises(DocumentError, match=message):
        encoder.encode_images(PAGES[:1])


def test_memory_that_runs_out_halves_the_batch(
    folders: Mapping[str, Path], loaded: Mapping[str, VisualEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("colqwen2", folders["colqwen2"], "cpu", "float32")
    whole, sizes = encoder._model.look, []

    def look(prepared: Any) -> Any:
        sizes.append(len(prepared))
        if len(prepared) > 1:
            raise torch.OutOfMemoryError
        return whole(prepared)

    monkeypatch.setattr(encoder._model, "look", look)
    for found, expected in zip(
        encoder.encode_images(PAGES), loaded["colqwen2"].encode_images(PAGES), strict=True
    ):
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)
    assert sizes[0] == 4 and sizes[-1] == 1


# loading


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_that_are_not_exactly_the_models_are_refused(
    name: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    for file in folders[name].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    dropped = next(key for key in tensors if "layers.1" in key)
    for changed in (
        {key: value for key, value in tensors.items() if key != dropped},
        {**tensors, "stray.weight": torch.ones(2)},
    ):
        save_file(changed, weights, {"format": "pt"})
        with pytest.raises(Missing, match="are not those of"):
            load_encoder(name, tmp_path, "cpu")
    weights.unlink()
    with pytest.raises(Missing, match="safetensors"):
        load_encoder(name, tmp_path, "cpu")


def test_names_licences_and_signatures(
    folders: Mapping[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert all(MODELS[name].use == "image" and len(MODELS[name].revision) == 40 for name in FAMILIES)
    with pytest.raises(
        UsageError, match="no visual encoder 'colqwen'; choose one of colmodernvbert, colqwen2"
    ):
        load_encoder("colqwen")
    one = load_encoder("colqwen2", folders["colqwen2"], "cpu", "float32")
    assert "colqwen2: 4.4 GB, Apache-2.0" in caplog.text
    other = load_encoder("colqwen2", write_colqwen2(tmp_path, seed=1), "cpu", "float32")
    rounded = load_encoder("colqwen2", folders["colqwen2"], "cpu", "bfloat16")
    assert one.signature != other.signature and one.signature == rounded.signature


# through sentence-transformers


def test_another_library_agrees_where_it_has_no_defect(
    folders: Mapping[str, Path], loaded: Mapping[str, VisualEncoder]
) -> None:
    """A third implementation, and that a model of that library can be had by name."""
    pytest.importorskip("sentence_transformers")
    other = load_encoder("vidore/colpali", folders["colpali-1.3"], "cpu", "float32")
    assert other.late and other.grid(100, 100) == () and "through sentence-transformers" in other.signature
    own = loaded["colpali-1.3"].encode_images(PAGES[:2])
    for found, expected in zip(other.encode_images(PAGES[:2]), own, strict=True):
        np.testing.assert_allclose(found.vectors[: len(expected.vectors)], expected.vectors, atol=1e-5)
    for name in ("colpali-1.3", "colqwen2"):
        other = load_encoder("vidore/other", folders[name], "cpu", "float32")
        expected_query = loaded[name].encode_query("What is the rent?")
        np.testing.assert_allclose(other.encode_query("What is the rent?"), expected_query, atol=1e-5)


def test_code_from_a_repository_is_refused(folders: Mapping[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = shutil.copytree(folders["colqwen2"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "theirs",
        "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UsageError, match="needs code from its repository, and none is ever run here"):
        load_encoder("them/theirs", folder, "cpu")
    assert not (tmp_path / "ran").exists()


# pooling


def random_vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize(
    ("grid", "bands", "columns"),
    [
        (((8, 4), (2, 2)), [[0, 1], [2, 3], [4, 5], [6, 7]], [[0, 1], [2, 3]]),
        (((6, 5),), [[0, 1], [2, 3], [4], [5]], [[0, 1, 2], [3, 4]]),
        (((2, 1),), [[0], [1]], [[0]]),
    ],
)
def test_means_of_blocks(grid: Grid, bands: list[list[int]], columns: list[list[int]]) -> None:
    vectors = random_vectors(sum(r * c for r, c in grid))
    wide = grid[0][1]
    sums = [sum(vectors[r * wide + c] for r in band for c in part) for band in bands for part in columns]
    expected = [each / np.linalg.norm(each) for each in sums]
    found = pooling.blocks(vectors, grid)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_blocks_without_places_are_clusters() -> None:
    vectors = random_vectors(40)
    np.testing.assert_array_equal(pooling.blocks(vectors, ()), pooling.hierarchical(vectors, 8))
    assert len(pooling.blocks(vectors[:3], ())) == 3


@pytest.mark.parametrize("grid", [((3, 5),), ((4, 2), (2, 2))])
def test_means_of_rows_and_columns(grid: Grid) -> None:
    vectors = random_vectors(sum(rows * columns for rows, columns in grid))
    expected, start = [], 0
    for rows, columns in grid:
        place = {(r, c): vectors[start + r * columns + c] for r in range(rows) for c in range(columns)}
        expected += [sum(place[r, c] for c in range(columns)) / columns for r in range(rows)]
        expected += [sum(place[r, c] for r in range(rows)) / rows for c in range(columns)]
        start += rows * columns
    lengths = [each / np.linalg.norm(each) for each in expected]
    np.testing.assert_allclose(pooling.rows_and_columns(vectors, grid), lengths, atol=1e-6)


@pytest.mark.parametrize(("count", "factor"), [(1, 3), (2, 3), (7, 2), (40, 3), (150, 4)])
def test_hierarchical_pooling_is_wards(count: int, factor: int) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    vectors = random_vectors(count)
    wanted = math.ceil(count / factor)
    labels = (
        hierarchy.fcluster(hierarchy.linkage(vectors.astype(float), "ward"), wanted, "maxclust")
        if count > 1
        else np.ones(1)
    )
    means = np.stack([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = pooling.hierarchical(vectors, None if factor == pooling.FACTOR else wanted)
    assert len(found) == wanted
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-5)


# where on the page


def test_similarities_and_maxsim_are_nested_loops() -> None:
    grid: Grid = ((3, 4), (2, 2))
    query, patches = random_vectors(5, 1), random_vectors(16, 2)
    found = similarities(query, patches, grid)
    total = 0.0
    for token in range(5):
        best = -math.inf
        for patch in range(16):
            cosine = sum(float(a) * float(b) for a, b in zip(query[token], patches[patch], strict=True))
            best = max(best, cosine)
            if patch < 12:
                assert found[token, patch // 4, patch % 4] == pytest.approx(cosine, abs=1e-6)
        total += best
    assert found.shape == (5, 3, 4) and maxsim(query, patches) == pytest.approx(total, abs=1e-5)


def test_a_heatmap_is_in_points() -> None:
    heatmap = Heatmap(Page("0123456789abcdef", 0, 600, 300), np.array([[0.1, 0.2, 0.9], [0.3, 0.9, -0.1]]))
    assert heatmap.warmest(2) == [((400, 0, 600, 150), 0.9), ((200, 150, 400, 300), 0.9)]
    assert heatmap.warmth.tolist() == [[0.2, 0.3, 1], [0.4, 1, 0]] or np.allclose(
        heatmap.warmth, [[0.2, 0.3, 1], [0.4, 1, 0]]
    )
    assert not Heatmap(heatmap.page, np.ones((2, 2))).warmth.any()


@pytest.fixture(scope="module")
def local(
    folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, VisualEncoder]:
    """The same with attention turned down, so that a patch is mostly about its own place."""
    root, encoders = tmp_path_factory.mktemp("local"), {}
    for name in LATE:
        folder = shutil.copytree(folders[name], root / name)
        weights = load_file(folder / "model.safetensors")
        for key in weights:
            if re.search(r"o_proj|out_proj|attn\.Wo|attn\.proj", key):
                weights[key] *= 0.05
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        encoders[name] = load_encoder(name, folder, "cpu", "float32")
    return encoders


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("size", [(620, 877), (877, 620), (1000, 320)])
@pytest.mark.parametrize("place", [(0.06, 0.04), (0.9, 0.1), (0.3, 0.62), (0.93, 0.95)])
def test_a_needle_is_found_where_it_was_planted(
    name: str, size: tuple[int, int], place: tuple[float, float], local: Mapping[str, VisualEncoder]
) -> None:
    """The patch that a needle changes most lies, in points of the page, where the needle was drawn.

    Upright, on its side, wide with margins: no model keeps the proportions exactly.
    """
    encoder, (width, height) = local[name], size
    page = Page("0123456789abcdef", 0, width * 72 / 75, height * 72 / 75)
    without = PIL.Image.new("RGB", size, "white")
    needle = made_page(width // 15 * 15 // 8, height // 15 * 15 // 8, seed=9)
    left, top = round(place[0] * width - needle.width / 2), round(place[1] * height - needle.height / 2)
    with_it = without.copy()
    with_it.paste(needle, (max(0, left), max(0, top)))
    before, after = encoder.encode_images([without, with_it])
    rows, columns = after.grid[0]
    change = np.linalg.norm(after.vectors - before.vectors, axis=1)[: rows * columns]
    found = Heatmap(page, similarities(after.vectors[[change.argmax()]], after.vectors, after.grid)[0])
    (box, cosine) = found.warmest(1)[0]
    assert cosine == pytest.approx(1, abs=1e-4)
    planted = (
        max(0, left) * 72 / 75,
        max(0, top) * 72 / 75,
        (max(0, left) + needle.width) * 72 / 75,
        (max(0, top) + needle.height) * 72 / 75,
    )
    assert box.left < planted[2] and planted[0] < box.right, (box, planted)
    assert box.top < planted[3] and planted[1] < box.bottom, (box, planted)
