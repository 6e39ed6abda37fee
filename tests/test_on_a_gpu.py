"""On a GPU the numbers are those of the CPU, memory that runs out is real, and weights may be too large."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_vision_language import LEVELS, PAGES, QUESTIONS, checkpoints, content, straight
from test_visual import LATE, SINGLE, folders
from test_visual import PAGES as IMAGES
from test_visual import QUESTIONS as ASKED
from tiny_checkpoints import write_jina

from pagelens.encoders import load_encoder
from pagelens.encoders.visual import VisualEncoder
from pagelens.rerankers import load_reranker
from pagelens.store.pages import PageFiles

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

__all__ = ["checkpoints", "folders"]  # fixtures of the tests on the CPU


@pytest.fixture(autouse=True)
def whole_float32() -> Iterator[None]:
    """A GPU rounds factors of a convolution to 10 bits unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("name", "level"), LEVELS)
@pytest.mark.parametrize("stored", ["in memory", "as files"])
def test_scores_are_those_of_the_published_code(
    name: str, level: Any, stored: str, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    def load() -> Any:
        files = PageFiles(str(tmp_path)) if stored == "as files" else None
        return load_reranker(name, checkpoints[name], "auto", "float32", level, files=files)

    reranker = load()
    assert reranker.model.body.device.type == "cuda"
    if stored == "as files":
        assert all(each.made for each in reranker.prepare(PAGES))
        reranker = load()
    for question in QUESTIONS:
        expected = [straight(name, checkpoints[name], question, page) for page in PAGES]
        for _ in range(2):  # from the file or computed, then from the device's memory
            opinions = reranker.opinions(question, PAGES)
            assert [each.score for each in opinions] == pytest.approx(expected, abs=1e-4)
    assert {each.level for each in opinions} == {level}


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_bfloat16_is_near_and_levels_agree(
    name: str, level: Any, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    plain: Any = load_reranker(name, checkpoints[name], "auto", "auto", "none")
    assert plain.model.body.dtype == torch.bfloat16
    kept: Any = load_reranker(name, checkpoints[name], "auto", "auto", level, files=PageFiles(str(tmp_path)))
    list(kept.prepare(PAGES))
    for question in QUESTIONS:
        exact = [straight(name, checkpoints[name], question, page) for page in PAGES]
        assert plain.score(question, PAGES) == pytest.approx(exact, abs=0.05)
        assert kept.score(question, PAGES) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("name", [*LATE, *SINGLE])
def test_vectors_are_those_of_the_cpu(name: str, folders: Mapping[str, Path]) -> None:
    here: VisualEncoder = load_encoder(name, folders[name], "cpu", "float32")
    there: VisualEncoder = load_encoder(name, folders[name], "auto", "float32")
    for found, expected in zip(_all(there), _all(here), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    half = load_encoder(name, folders[name])
    for found, expected in zip(_all(half), _all(here), strict=True):
        lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
        assert ((found * expected).sum(-1) / lengths).mean() > 0.99


def _all(encoder: VisualEncoder) -> list[np.ndarray]:
    pages = [each.vectors for each in encoder.encode_images(IMAGES)]
    return [*pages, *(encoder.encode_query(question) for question in ASKED)]


def test_memory_that_runs_out_is_gone_on_with(
    checkpoints: Mapping[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A real shortage: this process may take a little more of the device than weights and one page."""
    reranker: Any = load_reranker("qwen3-vl-2b", checkpoints["qwen3-vl-2b"], "auto", "float32", "none")
    pages = [content(number, 600, 840) for number in range(48)]
    expected = reranker.score("rent?", pages)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    reranker.score("rent?", pages[:1])
    one = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    with caplog.at_level(logging.WARNING), _at_most(one * 3):
        assert reranker.score("rent?", pages) == pytest.approx(expected, abs=1e-4)
    assert "memory ran out" in caplog.text


@contextlib.contextmanager
def _at_most(size: int) -> Iterator[None]:
    """So many bytes of the device for this process."""
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_weights_too_large_for_the_device_are_shared_with_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All but as much memory as the weights themselves take is filled by this test."""
    layers = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    write_jina(tmp_path, text={**layers, **heads}, vision={"hidden_size": 1024})
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    filled = torch.empty(
        free - (tmp_path / "model.safetensors").stat().st_size, dtype=torch.uint8, device="cuda"
    )
    with caplog.at_level(logging.WARNING):
        reranker: Any = load_reranker("jina-m0", tmp_path, "auto", "auto", "none")
    assert "the rest stays in the CPU's memory" in caplog.text
    places = {parameter.device.type for parameter in reranker.model.body._model.parameters()}
    assert places & {"cpu", "meta"} and "cuda" in places
    expected = [straight("jina-m0", tmp_path, "rent?", page) for page in PAGES]
    assert reranker.score("rent?", PAGES) == pytest.approx(expected, abs=0.1)
    del filled
