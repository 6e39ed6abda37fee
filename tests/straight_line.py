"""The three vision-language rerankers in plain functions over tensors: what every other way must agree with.

Written from the models' published descriptions alone; it shares no code with the room `rerankers` and uses no
model class. One pair at a time, in single precision, without padding, truncation or cache. A page is a text,
an image or `{"image": ..., "text": ...}`; so is a query where the model takes images there.

Tensors of a text are `[positions, size]`, of attention `[heads, positions, size of a head]`.

Sources, by the names that stand below:
    Jina: card and `modeling.py` of jinaai/jina-reranker-m0; vllm 0.33, `model_executor/models/jina_vl.py`.
    Qwen: QwenLM/Qwen3-VL-Embedding, `src/models/qwen3_vl_reranker.py`; arXiv 2601.04720.
    NVIDIA: card and processor of nvidia/llama-nemotron-rerank-vl-1b-v2; its body as in nemo_automodel 0.7,
        `components/models/llama_nemotron_vl`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

Side = str | Image.Image | Mapping[str, Any]
"""A page, or a query."""
Grid = tuple[int, int]
"""Rows and columns of patches, before merging."""
Weights = Mapping[str, Tensor]

VISION = "<|vision_start|>{pads}<|vision_end|>"


# --- Jina Reranker M0 ------------------------------------------------------------------------------------


def score_jina(folder: Path, query: Side, page: Side) -> float:
    """Jina: two layers over the last position, less 2.65, through a sigmoid."""
    config, weights = read(folder)
    text = config.get("text_config", config)  # flat before transformers 4.52
    images = [pixels_jina(folder, image) for image in images_of(page, query)]
    ids = ids_jina(folder, query, page)

    features = [qwen2_tower(weights, "model.visual.", config["vision_config"], *image) for image in images]
    embedded = embed(weights, ids, config["image_token_id"], features)
    rope = text.get("rope_parameters") or {**text["rope_scaling"], "rope_theta": text["rope_theta"]}
    axes = [axis for axis, size in enumerate(rope["mrope_section"]) for _ in range(size)]
    positions = positions_3d(ids, config["image_token_id"], [grid for _, grid in images])
    angles = positions[axes].T * frequencies(rope["rope_theta"], head_size(text))
    last = decoder(weights, "model.language_model.", text, embedded, angles, causal=True)[-1]

    raw = linear(weights, "score.2", F.relu(linear(weights, "score.0", last)))
    return torch.sigmoid(raw - 2.65).item()


def ids_jina(folder: Path, query: Side, page: Side) -> list[int]:
    """Jina: the document first, no chat template, token 100 at the end."""
    written = [written_jina(folder, side) for side in (page, query)]
    return [*tokens(folder, "**Document**:\n{}\n**Query**:\n{}".format(*written)), 100]


def written_jina(folder: Path, side: Side) -> str:
    """A side is an image or a text, never both."""
    images, text = parts(side)
    if images and text:
        raise ValueError("Jina Reranker M0 takes an image or a text, not both")
    return "".join(placeholder(pixels_jina(folder, image)[1]) for image in images) or text


def pixels_jina(folder: Path, image: Image.Image) -> tuple[Tensor, Grid]:
    """Jina: 56 x 56 px at least, 768 x 28 x 28 px at most."""
    return qwen_patches(folder, image, at_least=56 * 56, at_most=768 * 28 * 28)


# --- Qwen3-VL-Reranker -----------------------------------------------------------------------------------

QWEN3_INSTRUCTION = "Retrieve images or text relevant to the user's query."
"""Of its README's example; its script falls back to another, and scores shift with it."""
QWEN3_MAX_PIXELS = 1280 * 32 * 32


def score_qwen3_vl(
    folder: Path,
    query: Side,
    page: Side,
    instruction: str = QWEN3_INSTRUCTION,
    max_pixels: int = QWEN3_MAX_PIXELS,
) -> float:
    """Qwen: a sigmoid over how much rather the last position says `yes` than `no`."""
    config, weights = read(folder)
    text, vision = config["text_config"], config["vision_config"]
    images = [pixels_qwen3_vl(folder, image, max_pixels) for image in images_of(query, page)]
    ids = ids_qwen3_vl(folder, query, page, instruction, max_pixels)

    towers = [qwen3_tower(weights, "model.visual.", vision, *image) for image in images]
    embedded = embed(weights, ids, config["image_token_id"], [merged for merged, _ in towers])
    lent = [torch.cat(layer) for layer in zip(*(layers for _, layers in towers), strict=True)]
    pictured = torch.tensor(ids) == config["image_token_id"]
    rope = text.get("rope_parameters") or {**text["rope_scaling"], "rope_theta": text["rope_theta"]}
    axes = interleaved_axes(rope["mrope_section"])
    positions = positions_3d(ids, config["image_token_id"], [grid for _, grid in images])
    angles = positions[axes].T * frequencies(rope["rope_theta"], head_size(text))
    last = decoder(
        weights, "model.language_model.", text, embedded, angles, causal=True, lent=lent, pictured=pictured
    )[-1]

    vocabulary = weights.get("lm_head.weight", weights["model.language_model.embed_tokens.weight"])
    tokenizer = load_tokenizer(folder)
    yes, no = (vocabulary[tokenizer.token_to_id(word)] for word in ("yes", "no"))
    return torch.sigmoid(last @ (yes - no)).item()


def ids_qwen3_vl(
    folder: Path,
    query: Side,
    page: Side,
    instruction: str = QWEN3_INSTRUCTION,
    max_pixels: int = QWEN3_MAX_PIXELS,
) -> list[int]:
    """Qwen: no break before `<Query>:`, no space after a colon, an image before its text."""
    written = []
    for side in (query, page):
        images, text = parts(side)
        seen = "".join(placeholder(pixels_qwen3_vl(folder, image, max_pixels)[1]) for image in images)
        written.append(seen + text or "NULL")
    return tokens(
        folder,
        "<|im_start|>system\n"
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
        'Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
        f"<Instruct>: {instruction}<Query>:{written[0]}\n<Document>:{written[1]}<|im_end|>\n"
        "<|im_start|>assistant\n",
    )


def pixels_qwen3_vl(
    folder: Path, image: Image.Image, max_pixels: int = QWEN3_MAX_PIXELS
) -> tuple[Tensor, Grid]:
    """Qwen: 4 x 32 x 32 px at least; how many at most has two published values."""
    return qwen_patches(folder, image, at_least=4 * 32 * 32, at_most=max_pixels)


# --- llama-nemotron-rerank-vl-1b-v2 ----------------------------------------------------------------------


def score_nemotron(folder: Path, query: str, page: Side, max_tiles: int = 6) -> float:
    """NVIDIA: one row over the mean of all positions, by the temperature, through a sigmoid."""
    config, weights = read(folder)
    text = config["llm_config"]
    ids = ids_nemotron(folder, query, page, max_tiles)
    features = [
        nemotron_tile(weights, config, tile)
        for image in images_of(page)
        for tile in pixels_nemotron(folder, image, max_tiles)
    ]

    embedded = embed(weights, ids, config["img_context_token_id"], features)
    angles = torch.arange(len(ids))[:, None] * llama3_frequencies(text)
    hidden = decoder(weights, "model.language_model.", text, embedded, angles, causal=False)

    raw = linear(weights, "score", hidden.mean(dim=0)) / config["temperature"]
    return torch.sigmoid(raw).item()


def ids_nemotron(folder: Path, query: str, page: Side, max_tiles: int = 6) -> list[int]:
    """NVIDIA: tiles, a space, `question:`, and `passage:` even where there is no text."""
    config, _ = read(folder)
    vision = config["vision_config"]
    images, text = parts(page)
    tiles = sum(len(pixels_nemotron(folder, image, max_tiles)) for image in images)
    side = int(config["force_image_size"] // vision["patch_size"] * config["downsample_ratio"])
    seen = f"<img>{'<IMG_CONTEXT>' * (side * side * tiles)}</img> " if images else ""
    if config["prompt_template"] == "v1":
        return tokens(folder, f"{seen}question:{query} \n \n passage:{text}")
    return tokens(folder, f"{seen}{query} \n {text}")


def pixels_nemotron(folder: Path, image: Image.Image, max_tiles: int = 6) -> Tensor:
    """NVIDIA: the page cut into tiles, and the whole page once more if there is more than one.

    Returns:
        `[tiles, 3, side, side]`, -1..1. The published processor rounds to bfloat16, whatever the model's
        precision; so does this.
    """
    config, _ = read(folder)
    side = config["force_image_size"]
    image = image.convert("RGB")
    columns, rows = tile_grid(image.width, image.height, side, max_tiles)
    resized = image.resize((side * columns, side * rows), Image.Resampling.BICUBIC)
    tiles = [
        resized.crop((side * column, side * row, side * (column + 1), side * (row + 1)))
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1 and config["use_thumbnail"]:
        tiles.append(image.resize((side, side), Image.Resampling.BICUBIC))
    return torch.stack([(levels(tile) - 0.5) / 0.5 for tile in tiles]).to(torch.bfloat16).float()


def tile_grid(width: int, height: int, side: int, max_tiles: int) -> tuple[int, int]:
    """NVIDIA: columns and rows that keep the proportions and at least 60% of the pixels.

    Among equals the one with fewer tiles.
    """
    ratio, area = width / height, width * height
    choices = [(i, j) for i in range(1, max_tiles + 1) for j in range(1, max_tiles // i + 1)]

    def fit(choice: tuple[int, int]) -> float:
        kept = choice[0] * choice[1] * side * side / area
        wanted = choice[0] / choice[1]
        return min(kept, 0.6) * min(wanted / ratio, ratio / wanted)

    return max(sorted(choices, key=math.prod), key=fit)


def nemotron_tile(weights: Weights, config: Mapping[str, Any], tile: Tensor) -> Tensor:
    """NVIDIA: what the decoder sees of a tile `[3, side, side]`: four patches an embedding."""
    patches = siglip_tower(weights, "model.vision_model.vision_model.", config["vision_config"], tile)
    side = math.isqrt(len(patches))
    step = round(1 / config["downsample_ratio"])
    square = patches.reshape(side, side, -1)
    shuffled = torch.stack(
        [
            square[row : row + step, column : column + step].flatten()
            for row in range(0, side, step)
            for column in range(0, side, step)
        ]
    )
    normed = layer_norm(weights, "model.mlp1.0", shuffled, eps=1e-5)
    return linear(weights, "model.mlp1.3", F.gelu(linear(weights, "model.mlp1.1", normed)))


def siglip_tower(weights: Weights, prefix: str, config: Mapping[str, Any], tile: Tensor) -> Tensor:
    """SigLIP (arXiv 2303.15343): learned positions, no class token, all patches see all."""
    patch, heads, eps = config["patch_size"], config["num_attention_heads"], config["layer_norm_eps"]
    kernel = weights[f"{prefix}embeddings.patch_embedding.weight"]
    cut = F.unfold(tile[None], patch, stride=patch)[0].T  # [patches, 3 * patch * patch], row by row
    x = cut @ kernel.flatten(1).T + weights[f"{prefix}embeddings.patch_embedding.bias"]
    x = x + weights[f"{prefix}embeddings.position_embedding.weight"]
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layers.{number}."
        normed = layer_norm(weights, f"{layer}layer_norm1", x, eps)
        query, key, value = (
            split_heads(linear(weights, f"{layer}self_attn.{name}_proj", normed), heads) for name in "qkv"
        )
        x = x + linear(weights, f"{layer}self_attn.out_proj", attend(query, key, value))
        normed = layer_norm(weights, f"{layer}layer_norm2", x, eps)
        inner = F.gelu(linear(weights, f"{layer}mlp.fc1", normed), approximate="tanh")
        x = x + linear(weights, f"{layer}mlp.fc2", inner)
    return layer_norm(weights, f"{prefix}post_layernorm", x, eps)


def llama3_frequencies(config: Mapping[str, Any]) -> Tensor:
    """Llama 3.1's stretched frequencies: low ones slowed down, high ones kept, a ramp between."""
    rope = config.get("rope_parameters") or {**config["rope_scaling"], "rope_theta": config["rope_theta"]}
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    stretched = []
    for frequency in frequencies(rope["rope_theta"], head_size(config)).tolist():
        turns = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        stretched.append(kept * frequency + (1 - kept) * frequency / factor)
    return torch.tensor(stretched)


# --- Qwen's images ---------------------------------------------------------------------------------------


def qwen_patches(folder: Path, image: Image.Image, at_least: int, at_most: int) -> tuple[Tensor, Grid]:
    """Resize, normalise and cut an image: `[patches, 3 * frames * patch * patch]`, and its grid.

    The patches of a block that is merged later stand together; a still image is shown for every frame.
    """
    config = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    patch, merge, frames = config["patch_size"], config["merge_size"], config["temporal_patch_size"]
    image = image.convert("RGB")
    height, width = smart_resize(image.height, image.width, patch * merge, at_least, at_most)
    resized = levels(image.resize((width, height), Image.Resampling.BICUBIC))
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("image_mean", "image_std"))
    pixels = (resized - mean) / std
    grid = (height // patch, width // patch)
    cut = [
        pixels[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        for row, column in patch_order(grid, merge)
    ]
    return torch.stack([torch.stack([each] * frames, dim=1).flatten() for each in cut]), grid


def smart_resize(height: int, width: int, factor: int, at_least: int, at_most: int) -> tuple[int, int]:
    """Sides divisible by `factor`, the area within bounds, the proportions about kept.

    As `smart_resize` of transformers, `models/qwen2_vl/image_processing_qwen2_vl.py`.
    """
    rows, columns = round(height / factor), round(width / factor)
    if rows * columns * factor**2 > at_most:
        shrink = math.sqrt(height * width / at_most)
        rows = max(1, math.floor(height / shrink / factor))
        columns = max(1, math.floor(width / shrink / factor))
    elif rows * columns * factor**2 < at_least:
        grow = math.sqrt(at_least / (height * width))
        rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
    return rows * factor, columns * factor


def patch_order(grid: Grid, merge: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of the patches, block by block."""
    for block_row in range(0, grid[0], merge):
        for block_column in range(0, grid[1], merge):
            for row in range(block_row, block_row + merge):
                for column in range(block_column, block_column + merge):
                    yield row, column


def placeholder(grid: Grid) -> str:
    """What stands for an image in a prompt: a token for every 2 x 2 patches."""
    return VISION.format(pads="<|image_pad|>" * (grid[0] * grid[1] // 4))


def qwen2_tower(
    weights: Weights, prefix: str, config: Mapping[str, Any], patches: Tensor, grid: Grid
) -> Tensor:
    """Qwen2-VL (arXiv 2409.12191, 2.1): rotary positions in two dimensions, four patches an embedding."""
    heads, size = config["num_heads"], config["embed_dim"]
    angles = angles_2d(grid, config["spatial_merge_size"], size // heads)
    x = patches @ weights[f"{prefix}patch_embed.proj.weight"].flatten(1).T
    for number in range(config["depth"]):
        block = f"{prefix}blocks.{number}."
        x = x + vision_attention(weights, block, layer_norm(weights, f"{block}norm1", x), heads, angles)
        inner = linear(weights, f"{block}mlp.fc1", layer_norm(weights, f"{block}norm2", x))
        x = x + linear(weights, f"{block}mlp.fc2", inner * torch.sigmoid(1.702 * inner))
    merged = layer_norm(weights, f"{prefix}merger.ln_q", x).reshape(-1, 4 * size)
    inner = F.gelu(linear(weights, f"{prefix}merger.mlp.0", merged))
    return linear(weights, f"{prefix}merger.mlp.2", inner)


def qwen3_tower(
    weights: Weights, prefix: str, config: Mapping[str, Any], patches: Tensor, grid: Grid
) -> tuple[Tensor, list[Tensor]]:
    """Qwen3-VL's tower: learned positions as well, and some layers lent to the decoder.

    Returns:
        The merged embeddings, and those of each lent layer (arXiv 2406.04334, DeepStack).
    """
    heads, size = config["num_heads"], config["hidden_size"]
    merge = config["spatial_merge_size"]
    angles = angles_2d(grid, merge, size // heads)
    kernel = weights[f"{prefix}patch_embed.proj.weight"].flatten(1)
    x = patches @ kernel.T + weights[f"{prefix}patch_embed.proj.bias"]
    x = x + stretched_positions(weights[f"{prefix}pos_embed.weight"], grid, merge)
    lent: list[Tensor] = []
    for number in range(config["depth"]):
        block = f"{prefix}blocks.{number}."
        x = x + vision_attention(weights, block, layer_norm(weights, f"{block}norm1", x), heads, angles)
        inner = linear(weights, f"{block}mlp.linear_fc1", layer_norm(weights, f"{block}norm2", x))
        x = x + linear(weights, f"{block}mlp.linear_fc2", F.gelu(inner, approximate="tanh"))
        if number in config["deepstack_visual_indexes"]:
            merger = f"{prefix}deepstack_merger_list.{len(lent)}."
            lent.append(
                qwen3_merge(weights, merger, layer_norm(weights, f"{merger}norm", x.reshape(-1, 4 * size)))
            )
    merger = f"{prefix}merger."
    return qwen3_merge(weights, merger, layer_norm(weights, f"{merger}norm", x).reshape(-1, 4 * size)), lent


def qwen3_merge(weights: Weights, prefix: str, merged: Tensor) -> Tensor:
    """Four patches, normed before or after they were joined, to one embedding."""
    return linear(weights, f"{prefix}linear_fc2", F.gelu(linear(weights, f"{prefix}linear_fc1", merged)))


def stretched_positions(table: Tensor, grid: Grid, merge: int) -> Tensor:
    """A square table of positions stretched over the grid, corner on corner, bilinear: `[patches, size]`."""
    side = math.isqrt(len(table))
    square = table.reshape(side, side, -1)

    def place(index: int, count: int) -> tuple[int, int, float]:
        at = index * (side - 1) / (count - 1)
        return int(at), min(int(at) + 1, side - 1), at - int(at)

    stretched = []
    for row, column in patch_order(grid, merge):
        top, bottom, down = place(row, grid[0])
        left, right, across = place(column, grid[1])
        upper = (1 - across) * square[top, left] + across * square[top, right]
        lower = (1 - across) * square[bottom, left] + across * square[bottom, right]
        stretched.append((1 - down) * upper + down * lower)
    return torch.stack(stretched)


def angles_2d(grid: Grid, merge: int, head: int) -> Tensor:
    """Half the angles of a head turn with the row, half with the column: `[patches, head / 2]`."""
    places = torch.tensor(list(patch_order(grid, merge)), dtype=torch.float32)
    return (places[:, :, None] * frequencies(10000.0, head // 2)).flatten(1)


def vision_attention(weights: Weights, block: str, x: Tensor, heads: int, angles: Tensor) -> Tensor:
    """All patches of the image see all."""
    query, key, value = (
        split_heads(each, heads) for each in linear(weights, f"{block}attn.qkv", x).chunk(3, dim=-1)
    )
    return linear(weights, f"{block}attn.proj", attend(turn(query, angles), turn(key, angles), value))


# --- What a decoder does ---------------------------------------------------------------------------------


def decoder(
    weights: Weights,
    prefix: str,
    config: Mapping[str, Any],
    x: Tensor,
    angles: Tensor,
    causal: bool,
    lent: Sequence[Tensor] = (),
    pictured: Tensor | None = None,
) -> Tensor:
    """A Llama-like decoder over `x` `[positions, hidden]`, after its last norm.

    `angles` are `[positions, head / 2]`. `lent` is added to the positions `pictured` after the first layers.
    Biases and norms of a head are where the weights hold them.
    """
    heads, groups, eps = (
        config[name] for name in ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")
    )
    for number in range(config["num_hidden_layers"]):
        layer = f"{prefix}layers.{number}."
        attention = f"{layer}self_attn."
        normed = rms_norm(weights, f"{layer}input_layernorm", x, eps)
        query = split_heads(linear(weights, f"{attention}q_proj", normed), heads)
        key = split_heads(linear(weights, f"{attention}k_proj", normed), groups)
        value = split_heads(linear(weights, f"{attention}v_proj", normed), groups)
        if f"{attention}q_norm.weight" in weights:
            query = rms_norm(weights, f"{attention}q_norm", query, eps)
            key = rms_norm(weights, f"{attention}k_norm", key, eps)
        query, key = turn(query, angles), turn(key, angles)
        shared = torch.arange(heads) // (heads // groups)  # which group a head reads
        x = x + linear(weights, f"{attention}o_proj", attend(query, key[shared], value[shared], causal))

        normed = rms_norm(weights, f"{layer}post_attention_layernorm", x, eps)
        gate = F.silu(linear(weights, f"{layer}mlp.gate_proj", normed))
        x = x + linear(
            weights, f"{layer}mlp.down_proj", gate * linear(weights, f"{layer}mlp.up_proj", normed)
        )

        if number < len(lent):
            x = x.clone()
            x[pictured] += lent[number]
    return rms_norm(weights, f"{prefix}norm", x, eps)


def embed(weights: Weights, ids: Sequence[int], image_id: int, features: Sequence[Tensor]) -> Tensor:
    """Embeddings of the tokens, those of the images put in place: `[positions, hidden]`."""
    at = torch.tensor(ids)
    x = weights["model.language_model.embed_tokens.weight"][at].clone()
    if features:
        x[at == image_id] = torch.cat(list(features))
    return x


def positions_3d(ids: Sequence[int], image_id: int, grids: Sequence[Grid]) -> Tensor:
    """Qwen2-VL's M-RoPE: time, row and column of every position, `[3, positions]`.

    Words count on in all three. An image stands still in time, and what follows it goes on after its
    longer side.
    """
    places: list[tuple[int, int, int]] = []
    start, images = 0, iter(grids)
    at = 0
    while at < len(ids):
        if ids[at] != image_id:
            places.append((start, start, start))
            start, at = start + 1, at + 1
            continue
        rows, columns = (side // 2 for side in next(images))
        places += [(start, start + row, start + column) for row in range(rows) for column in range(columns)]
        start, at = start + max(rows, columns), at + rows * columns
    return torch.tensor(places, dtype=torch.float32).T


def interleaved_axes(sections: Sequence[int]) -> list[int]:
    """Qwen3-VL: which of time, row and column a frequency turns with: 0 1 2 0 1 2 ..., the rest time."""
    axes = [0] * sum(sections)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = [axis] * sections[axis]
    return axes


def frequencies(theta: float, head: int) -> Tensor:
    """RoPE (arXiv 2104.09864): what a position turns the pairs of a head by, `[head / 2]`."""
    return 1 / theta ** (torch.arange(0, head, 2) / head)


def turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs of `x` `[heads, positions, head]`; number k makes a pair with number k + head / 2."""
    left, right = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """`[positions, heads * head]` from three tensors of `[heads, positions, head]`."""
    logits = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    if causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        logits = logits.masked_fill(later, -math.inf)
    return (logits.softmax(dim=-1) @ value).transpose(0, 1).flatten(1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`[positions, heads * head]` to `[heads, positions, head]`."""
    return x.reshape(len(x), heads, -1).transpose(0, 1)


def head_size(config: Mapping[str, Any]) -> int:
    """Numbers in a head; by itself where the configuration does not say."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """With a bias where the weights hold one."""
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def layer_norm(weights: Weights, name: str, x: Tensor, eps: float = 1e-6) -> Tensor:
    """Over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def rms_norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    """Over the last dimension."""
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weights[f"{name}.weight"]


# --- Files, sides, pixels --------------------------------------------------------------------------------


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration, and the weights in single precision under their names of transformers 5."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        name = re.sub(r"^visual\.", "model.visual.", name)
        name = re.sub(r"^model\.(?=embed_tokens|layers|norm)", "model.language_model.", name)
        weights[name] = tensor.float()
    return config, weights


def load_tokenizer(folder: Path) -> Tokenizer:
    """From `tokenizer.json`, which says itself whether it adds a token in front."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokens(folder: Path, prompt: str) -> list[int]:
    """Ids of a prompt that is written out."""
    return list(load_tokenizer(folder).encode(prompt).ids)


def parts(side: Side) -> tuple[list[Image.Image], str]:
    """The image, if there is one, and the text."""
    match side:
        case str():
            return [], side
        case Image.Image():
            return [side], ""
    image = side.get("image")
    return [] if image is None else [image], side.get("text") or ""


def images_of(*sides: Side) -> list[Image.Image]:
    """In the order in which they stand in the prompt."""
    return [image for side in sides for image in parts(side)[0]]


def levels(image: Image.Image) -> Tensor:
    """`[3, height, width]`, 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
