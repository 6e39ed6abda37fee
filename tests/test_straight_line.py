"""The straight-line rerankers against transformers' own classes, on tiny checkpoints.

And the checkpoints themselves: that they load, that scores spread, that a wrong way to read them shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import straight_line
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from straight_line import (
    Side,
    ids_jina,
    ids_nemotron,
    ids_qwen3_vl,
    images_of,
    pixels_jina,
    pixels_nemotron,
    pixels_qwen3_vl,
    score_jina,
    score_nemotron,
    score_qwen3_vl,
    smart_resize,
    tile_grid,
)
from tiny_checkpoints import write_jina, write_nemotron, write_qwen3_vl, write_qwen_tokenizer
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

QUERY = "What is the rent?"

pytestmark = pytest.mark.usefixtures("one_thread")


def made_page(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured blocks: nowhere two alike, so that a piece in the wrong place is seen."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 15, width // 15, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


UPRIGHT = made_page(150, 210)
WIDE = made_page(230, 120, seed=1)
TEXTS: list[Side] = ["The rent is 1,250 a month.", "yes\n\nand no", ""]
IMAGES: list[Side] = [UPRIGHT, WIDE]
BOTH: list[Side] = [{"image": UPRIGHT, "text": "Lease"}, {"image": WIDE, "text": "Lease"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each model."""
    root = tmp_path_factory.mktemp("tiny")
    return {
        "jina": write_jina(root / "jina"),
        "jina, new layout": write_jina(root / "jina-new", legacy=False),
        "qwen3": write_qwen3_vl(root / "qwen3"),
        "nemotron": write_nemotron(root / "nemotron"),
    }


# --- The same through transformers -----------------------------------------------------------------------


def pictures(images: list[tuple[Tensor, tuple[int, int]]], ids: Tensor, image_id: int) -> dict[str, Tensor]:
    """What a Qwen class is given for the images of one prompt."""
    if not images:
        return {}
    return {
        "pixel_values": torch.cat([patches for patches, _ in images]),
        "image_grid_thw": torch.tensor([[1, *grid] for _, grid in images]),
        "mm_token_type_ids": (ids == image_id).int(),
    }


def loaded(kind: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model in single precision, and what transformers missed or did not expect."""
    model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, report


def strictly(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> nn.Module:
    """`module` with the weights whose names begin with `prefix`, no more and no less."""
    own = {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
    module.load_state_dict(own)
    return module.float().eval()


@torch.no_grad()
def jina_by_transformers(folder: Path, query: Side, page: Side) -> float:
    model, report = loaded(Qwen2VLForConditionalGeneration, folder)
    head = {f"score.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    assert set(report["missing_keys"]) == {"lm_head.weight"}
    assert set(report["unexpected_keys"]) == head

    ids = torch.tensor([ids_jina(folder, query, page)])
    images = [pixels_jina(folder, image) for image in images_of(page, query)]
    seen = pictures(images, ids, model.config.image_token_id)
    last = model.model(input_ids=ids, **seen).last_hidden_state[0, -1]
    layers = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    raw = strictly(layers, load_file(folder / "model.safetensors"), "score.")(last)
    return float((raw - 2.65).sigmoid())


@torch.no_grad()
def qwen3_by_transformers(folder: Path, query: Side, page: Side) -> float:
    model, report = loaded(Qwen3VLForConditionalGeneration, folder)
    assert not report["missing_keys"] and not report["unexpected_keys"]

    ids = torch.tensor([ids_qwen3_vl(folder, query, page)])
    images = [pixels_qwen3_vl(folder, image) for image in images_of(query, page)]
    logits = model(input_ids=ids, **pictures(images, ids, model.config.image_token_id)).logits[0, -1]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    answers = [tokenizer.token_to_id(word) for word in ("yes", "no")]
    return float(logits[answers].softmax(dim=0)[0])


@torch.no_grad()
def nemotron_by_transformers(folder: Path, query: str, page: Side) -> float:
    config, _ = straight_line.read(folder)
    weights = load_file(folder / "model.safetensors")
    tower = strictly(
        SiglipVisionModel(SiglipVisionConfig(**config["vision_config"])),
        weights,
        "model.vision_model.vision_model.",
    )
    bridge = strictly(
        nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 32)),
        weights,
        "model.mlp1.",
    )
    body = LlamaModel(LlamaConfig(**config["llm_config"]))
    strictly(body, weights, "model.language_model.")

    ids = torch.tensor(ids_nemotron(folder, query, page))
    embedded = body.embed_tokens(ids)
    for image in images_of(page):
        seen = tower(pixels_nemotron(folder, image)).last_hidden_state  # [tiles, 16 patches, 16]
        square = seen.mT.reshape(-1, 16, 4, 4)
        # torch keeps the four of a number together, the published shuffle the sixteen of a patch
        shuffled = F.pixel_unshuffle(square, 2).reshape(-1, 16, 4, 2 * 2).transpose(1, 2).flatten(1, 2)
        embedded[ids == config["img_context_token_id"]] = bridge(shuffled.mT).flatten(0, 1)
    all_see_all = torch.zeros(1, 1, len(ids), len(ids))
    hidden = body(inputs_embeds=embedded[None], attention_mask=all_see_all).last_hidden_state[0]
    return float((hidden.mean(dim=0) @ weights["score.weight"][0] / config["temperature"]).sigmoid())


@pytest.mark.parametrize("layout", ["jina", "jina, new layout"])
@pytest.mark.parametrize("page", [*TEXTS, *IMAGES])
def test_jina_is_what_transformers_makes_of_it(folders: dict[str, Path], layout: str, page: Side) -> None:
    folder = folders[layout]
    assert score_jina(folder, QUERY, page) == pytest.approx(
        jina_by_transformers(folder, QUERY, page), abs=1e-5
    )


def test_jina_takes_images_on_both_sides(folders: dict[str, Path]) -> None:
    folder = folders["jina"]
    pairs: list[tuple[Side, Side]] = [(WIDE, UPRIGHT), (UPRIGHT, WIDE), (WIDE, "Lease")]
    theirs = [jina_by_transformers(folder, *pair) for pair in pairs]
    assert [score_jina(folder, *pair) for pair in pairs] == pytest.approx(theirs, abs=1e-5)
    with pytest.raises(ValueError, match="not both"):
        score_jina(folder, QUERY, BOTH[0])


def test_both_layouts_of_jina_are_one_model(folders: dict[str, Path]) -> None:
    assert score_jina(folders["jina"], QUERY, WIDE) == score_jina(folders["jina, new layout"], QUERY, WIDE)


@pytest.mark.parametrize("page", [*TEXTS, *IMAGES, *BOTH])
def test_qwen3_vl_is_what_transformers_makes_of_it(folders: dict[str, Path], page: Side) -> None:
    folder = folders["qwen3"]
    theirs = qwen3_by_transformers(folder, QUERY, page)
    assert score_qwen3_vl(folder, QUERY, page) == pytest.approx(theirs, abs=1e-5)


def test_qwen3_vl_takes_an_image_as_the_query(folders: dict[str, Path]) -> None:
    folder = folders["qwen3"]
    theirs = qwen3_by_transformers(folder, WIDE, BOTH[0])
    assert score_qwen3_vl(folder, WIDE, BOTH[0]) == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("page", [*TEXTS, *IMAGES, *BOTH])
def test_nemotron_is_what_transformers_makes_of_it(folders: dict[str, Path], page: Side) -> None:
    folder = folders["nemotron"]
    theirs = nemotron_by_transformers(folder, QUERY, page)
    assert score_nemotron(folder, QUERY, page) == pytest.approx(theirs, abs=1e-5)


# --- Prompts and pixels ----------------------------------------------------------------------------------


def test_prompts_are_the_published_ones(folders: dict[str, Path]) -> None:
    """Written out again. 150 x 210 px are 5 x 8 tokens of 28 px, 5 x 7 of 32 px."""

    def decoded(folder: Path, ids: list[int]) -> str:
        return str(Tokenizer.from_file(str(folder / "tokenizer.json")).decode(ids, skip_special_tokens=False))

    jina = ids_jina(folders["jina"], QUERY, UPRIGHT)
    assert decoded(folders["jina"], jina[:-1]) == (
        "**Document**:\n<|vision_start|>" + "<|image_pad|>" * 40 + "<|vision_end|>\n**Query**:\n" + QUERY
    )
    assert jina[-1] == 100
    assert decoded(folders["jina"], ids_jina(folders["jina"], UPRIGHT, "Lease")[:-1]) == (
        "**Document**:\nLease\n**Query**:\n<|vision_start|>" + "<|image_pad|>" * 40 + "<|vision_end|>"
    )

    qwen3 = ids_qwen3_vl(folders["qwen3"], "", BOTH[0], instruction="Find it.")
    assert decoded(folders["qwen3"], qwen3) == (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
        'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Find it.<Query>:NULL\n<Document>:<|vision_start|>"
        + "<|image_pad|>" * 35
        + "<|vision_end|>Lease<|im_end|>\n<|im_start|>assistant\n"
    )

    assert decoded(folders["nemotron"], ids_nemotron(folders["nemotron"], QUERY, BOTH[0], max_tiles=2)) == (
        "<|begin_of_text|><img>"
        + "<IMG_CONTEXT>" * 4 * 3
        + "</img> question:What is the rent? \n \n passage:Lease"
    )
    assert decoded(folders["nemotron"], ids_nemotron(folders["nemotron"], QUERY, "")) == (
        "<|begin_of_text|>question:What is the rent? \n \n passage:"
    )


@pytest.mark.parametrize("name", ["jina", "qwen3", "nemotron"])
def test_both_tokenizers_read_the_same_files(folders: dict[str, Path], name: str) -> None:
    """`yes` and `no` are one token each, bytes and marks go both ways."""
    text = "the yes no <|image_pad|><IMG_CONTEXT> 1234\n\n n\u0303o \N{SECTION SIGN}"
    ours = Tokenizer.from_file(str(folders[name] / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(folders[name])
    assert theirs(text)["input_ids"] == ours.encode(text).ids
    assert {"yes", "no", "ĊĊ"} <= set(ours.encode(text).tokens)
    assert ours.id_to_token(100) == "§"
    assert theirs.pad_token_id is not None


@pytest.mark.parametrize("size", [(150, 210), (230, 120), (20, 30), (1300, 700), (827, 1169)])
def test_pixels_are_those_of_the_processor(folders: dict[str, Path], size: tuple[int, int]) -> None:
    """Also where the page is below the least and above the most a model takes."""
    image = made_page(*size)
    jina = Qwen2VLImageProcessorPil.from_pretrained(folders["jina"])
    qwen3 = Qwen2VLImageProcessorPil.from_pretrained(
        folders["qwen3"], size={"shortest_edge": 4 * 32 * 32, "longest_edge": 1280 * 32 * 32}
    )
    for processor, (patches, grid) in [
        (jina, pixels_jina(folders["jina"], image)),
        (qwen3, pixels_qwen3_vl(folders["qwen3"], image)),
    ]:
        theirs = processor(image, return_tensors="pt")
        assert theirs["image_grid_thw"].tolist() == [[1, *grid]]
        torch.testing.assert_close(patches, theirs["pixel_values"], rtol=0, atol=1e-5)


def test_a_page_of_paper_takes_as_many_tokens_as_published() -> None:
    """A4 at 100 and at 144 dots an inch."""
    jina = smart_resize(1169, 827, 28, 3136, 602112)
    assert jina == (896, 644)
    assert smart_resize(1684, 1191, 28, 3136, 602112) == jina
    assert smart_resize(1684, 1191, 32, 4096, 1280 * 32 * 32) == (1344, 960)
    assert smart_resize(1684, 1191, 32, 4096, 1800 * 32 * 32) == (1600, 1120)
    height, width = smart_resize(1169, 827, 32, 4096, 1280 * 32 * 32)
    assert height * width == 962 * 32 * 32
    assert [tile_grid(1191, 1684, 512, most) for most in (6, 4, 2)] == [(2, 3), (2, 2), (1, 2)]
    assert tile_grid(400, 400, 512, 6) == (1, 1)


def test_tiles_lie_row_by_row_and_the_page_comes_last(folders: dict[str, Path]) -> None:
    columns = Image.new("RGB", (128, 192))
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250), (250, 0, 250)]
    for number, colour in enumerate(colours):
        columns.paste(colour, (64 * (number % 2), 64 * (number // 2), 64 * (number % 2) + 64, 192))
    tiles = pixels_nemotron(folders["nemotron"], columns)
    assert tiles.shape == (7, 3, 64, 64)
    middles = (tiles[:6, :, 32, 32] + 1) / 2 * 255
    torch.testing.assert_close(middles, torch.tensor(colours).float(), rtol=0, atol=1.0)


# --- What the tiny checkpoints are good for --------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("write", "score"),
    [(write_jina, score_jina), (write_qwen3_vl, score_qwen3_vl), (write_nemotron, score_nemotron)],
)
def test_scores_spread_and_files_are_small(
    tmp_path: Path, write: Callable[..., Path], score: Callable[[Path, str, Side], float], seed: int
) -> None:
    folder = write(tmp_path / "one", seed=seed)
    scores = [score(folder, QUERY, page) for page in [*TEXTS, *IMAGES, made_page(90, 120)]]
    assert min(scores) > 0.02 and max(scores) < 0.98
    assert max(scores) - min(scores) > 0.15
    stored = (folder / "model.safetensors").read_bytes()
    assert len(stored) < 300_000
    assert (write(tmp_path / "again", seed=seed) / "model.safetensors").read_bytes() == stored
    assert (write(tmp_path / "other", seed=seed + 1) / "model.safetensors").read_bytes() != stored


DECODER: Any = straight_line.decoder
ANGLES = straight_line.angles_2d
STRETCHED = straight_line.stretched_positions


def sequential(ids: list[int], *rest: Any) -> Tensor:
    return torch.arange(len(ids)).float().expand(3, -1)


def decoder_that(**wrong: Any) -> Any:
    return lambda *args, **named: DECODER(*args, **(named | wrong))


@pytest.mark.parametrize(
    ("model", "name", "wrong"),
    [
        ("jina", "positions_3d", sequential),
        ("qwen3", "positions_3d", sequential),
        ("qwen3", "interleaved_axes", lambda sections: [0, 0, 1, 2]),
        ("qwen3", "stretched_positions", lambda table, *rest: STRETCHED(table.flip(0), *rest)),
        ("qwen3", "decoder", decoder_that(lent=())),
        ("jina", "angles_2d", lambda grid, *rest: ANGLES(grid, *rest).roll(1, dims=-1)),
        ("jina", "decoder", decoder_that(causal=False)),
        ("nemotron", "decoder", decoder_that(causal=True)),
        ("nemotron", "llama3_frequencies", lambda config: straight_line.frequencies(5e5, 8)),
        ("nemotron", "layer_norm", lambda w, name, x, eps=0.0: F.layer_norm(x, x.shape[-1:])),
    ],
)
def test_a_wrong_way_to_read_a_checkpoint_shows(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, model: str, name: str, wrong: Any
) -> None:
    """Or a test that compares scores would prove nothing."""
    score: Any = {"jina": score_jina, "qwen3": score_qwen3_vl, "nemotron": score_nemotron}[model]
    right = [score(folders[model], QUERY, page) for page in IMAGES]
    monkeypatch.setattr(straight_line, name, wrong)
    assert [score(folders[model], QUERY, page) for page in IMAGES] != pytest.approx(right, abs=1e-3)


def test_the_tokenizer_of_qwen_can_be_rebuilt(tmp_path: Path) -> None:
    """What a tiny vocabulary cannot show: the published ids, word for word."""
    try:
        folder = write_qwen_tokenizer(tmp_path)
    except PackageNotFoundError:
        pytest.skip("Qwen's vocabulary is not here: pip install --no-deps dashscope")
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert len(written["model"]["merges"]) == 151387
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("Hello world").ids == [9707, 1879]
    assert [tokenizer.token_to_id(word) for word in ("yes", "no", "§")] == [9693, 2152, 100]
    assert tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n").ids == [151645, 198, 151644, 77091, 198]
    assert [tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "image_pad")] == [151643, 151655]
    assert tokenizer.token_to_id("</think>") == 151668
