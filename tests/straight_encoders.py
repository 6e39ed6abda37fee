"""Three of the visual encoders in plain functions over tensors; the bodies are those of `straight_line`.

Sources, by the names that stand below:
    ColQwen2: transformers 4.57, `models/colqwen2`, before it lost the places of image tokens.
    Qwen: QwenLM/Qwen3-VL-Embedding, `src/models/qwen3_vl_embedding.py`, and mteb 2.26 over it.
    NVIDIA: nemo_automodel 0.7, `components/models/llama_nemotron_vl`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import straight_line as line
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

Side = str | Image.Image


def encode_colqwen2(folder: Path, side: Side) -> Tensor:
    """ColQwen2: of a page its image tokens, of a question all: `[vectors, 16]`."""
    config, weights = read(folder, "vlm.model.")
    vlm, images = config["vlm_config"], [] if isinstance(side, str) else [side]
    pixels = [line.qwen_patches(folder, image, 4 * 28 * 28, 768 * 28 * 28) for image in images]
    ids = ids_colqwen2(folder, side)
    features = [line.qwen2_tower(weights, "model.visual.", vlm["vision_config"], *each) for each in pixels]
    text = vlm["text_config"]
    embedded = line.embed(weights, ids, vlm["image_token_id"], features)
    rope = text["rope_parameters"]
    axes = [axis for axis, size in enumerate(rope["mrope_section"]) for _ in range(size)]
    places = line.positions_3d(ids, vlm["image_token_id"], [grid for _, grid in pixels])
    angles = places[axes].T * line.frequencies(rope["rope_theta"], line.head_size(text))
    states = line.decoder(weights, "model.language_model.", text, embedded, angles, causal=True)
    vectors = F.normalize(line.linear(weights, "embedding_proj_layer", states), dim=-1)
    return vectors[torch.tensor(ids) == vlm["image_token_id"]] if images else vectors


def ids_colqwen2(folder: Path, side: Side) -> list[int]:
    """ColQwen2: the published prompts, written out."""
    if isinstance(side, str):
        return line.tokens(folder, f"Query: {side}{'<|endoftext|>' * 10}\n")
    _, grid = line.qwen_patches(folder, side, 4 * 28 * 28, 768 * 28 * 28)
    image = line.placeholder(grid)
    return line.tokens(folder, f"<|im_start|>user\n{image}Describe the image.<|im_end|><|endoftext|>")


def encode_qwen3(folder: Path, side: Side) -> Tensor:
    """Qwen: the last state: `[1, 32]`."""
    config, weights = read(folder, "model.")
    text, vision, image_id = config["text_config"], config["vision_config"], config["image_token_id"]
    images = [] if isinstance(side, str) else [line.pixels_qwen3_vl(folder, side, 1800 * 32 * 32)]
    ids = ids_qwen3(folder, side)
    towers = [line.qwen3_tower(weights, "model.visual.", vision, *image) for image in images]
    embedded = line.embed(weights, ids, image_id, [merged for merged, _ in towers])
    lent = [torch.cat(layer) for layer in zip(*(layers for _, layers in towers), strict=True)]
    rope = {**text["rope_scaling"], "rope_theta": text["rope_theta"]}
    places = line.positions_3d(ids, image_id, [grid for _, grid in images])
    angles = places[line.interleaved_axes(rope["mrope_section"])].T
    angles = angles * line.frequencies(rope["rope_theta"], line.head_size(text))
    pictured = torch.tensor(ids) == image_id
    states = line.decoder(
        weights, "model.language_model.", text, embedded, angles, causal=True, lent=lent, pictured=pictured
    )
    return F.normalize(states[-1:], dim=-1)


def ids_qwen3(folder: Path, side: Side) -> list[int]:
    """Qwen: instruction, the user's turn, the assistant's."""
    instruction, content = "Retrieve images or text relevant to the user's query.", side
    if not isinstance(side, str):
        instruction = "Represent the user's input."
        content = line.placeholder(line.pixels_qwen3_vl(folder, side, 1800 * 32 * 32)[1])
    return line.tokens(
        folder,
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
        "<|im_start|>assistant\n",
    )


def encode_nemotron(folder: Path, side: Side) -> Tensor:
    """NVIDIA: the mean of all states: `[1, 32]`."""
    config, weights = read(folder, "")
    text = config["llm_config"]
    ids = ids_nemotron(folder, side)
    tiles = [] if isinstance(side, str) else list(line.pixels_nemotron(folder, side, 4))
    features = [line.nemotron_tile(weights, config, tile) for tile in tiles]
    embedded = line.embed(weights, ids, config["img_context_token_id"], features)
    angles = torch.arange(len(ids))[:, None] * line.llama3_frequencies(text)
    states = line.decoder(weights, "model.language_model.", text, embedded, angles, causal=False)
    return F.normalize(states.mean(dim=0, keepdim=True), dim=-1)


def ids_nemotron(folder: Path, side: Side) -> list[int]:
    """NVIDIA: a prefix, a space, and what is embedded; an empty text after an image."""
    if isinstance(side, str):
        return line.tokens(folder, f"query: {side}")
    config, _ = read(folder, "")
    tiles = len(line.pixels_nemotron(folder, side, 4))
    patches = config["force_image_size"] // config["vision_config"]["patch_size"]
    each = int(patches * config["downsample_ratio"]) ** 2
    return line.tokens(folder, f"passage: <img>{'<IMG_CONTEXT>' * (each * tiles)}</img> ")


def read(folder: Path, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration, and the weights in single precision with `model.` instead of a prefix."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        bare = name.removeprefix(prefix)
        inside = bare if name.startswith("embedding_proj_layer") else f"model.{bare}"
        weights[inside] = tensor.float()
    return config, weights
