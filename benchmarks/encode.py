"""How fast pages are encoded as images: `PYTHONPATH=tests python benchmarks/encode.py [--encoder colqwen2]`.

Random weights of the published sizes: what a page costs does not hang on what they say. `encode_images` is
timed against the model's own forward on images that are ready: what preparing, batching and copying add.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tiny_encoders
import torch
from collection import OUT
from safetensors.torch import save_file
from transformers import (
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColPaliConfig,
    ColPaliForRetrieval,
    ColQwen2Config,
    ColQwen2ForRetrieval,
)

from pagelens.encoders import load_encoder
from pagelens.looks import A4

SIZES: dict[str, dict[str, Any]] = {
    "colmodernvbert": {
        "model_type": "modernvbert",
        "pixel_shuffle_factor": 4,
        "text_config": {"model_type": "modernbert", "vocab_size": 50408},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
    },
    "colqwen2": {
        "model_type": "qwen2_vl",
        "text_config": {
            "model_type": "qwen2_vl_text",
            "vocab_size": 151936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16},
    },
    "colpali-1.3": {
        "model_type": "paligemma",
        "hidden_size": 2048,
        "projection_dim": 2048,
        "text_config": {
            "model_type": "gemma",
            "vocab_size": 257216,
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 448,
            "patch_size": 14,
            "projection_dim": 2048,
            "vision_use_head": False,
        },
    },
}
"""Of the published models; docs/encoders.md."""
FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "colmodernvbert": (
        ColModernVBertConfig,
        ColModernVBertForRetrieval,
        tiny_encoders.write_colmodernvbert,
    ),
    "colqwen2": (ColQwen2Config, ColQwen2ForRetrieval, tiny_encoders.write_colqwen2),
    "colpali-1.3": (ColPaliConfig, ColPaliForRetrieval, tiny_encoders.write_colpali),
}
IMAGES: dict[str, dict[str, Any]] = {
    "colmodernvbert": {"max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048}},
    "colqwen2": {},
    "colpali-1.3": {"size": {"height": 448, "width": 448}, "image_seq_length": 1024},
}
IMAGE_TOKEN = {
    "colmodernvbert": "image_token_id",
    "colqwen2": "image_token_id",
    "colpali-1.3": "image_token_index",
}


def main() -> None:
    """Write random weights, time both, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoder", choices=SIZES, default="colmodernvbert")
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=OUT / "encode.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), arguments.encoder)
        result = measure(Path(place), arguments.encoder, arguments.pages, arguments.device)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"schema": 1, "results": result}, indent=1) + "\n")


def write(folder: Path, name: str) -> None:
    """The published sizes with random weights; the tokenizer is the tests', whose prompts are as long."""
    config_of, kind, write_tiny = FAMILIES[name]
    write_tiny(folder)
    tiny = json.loads((folder / "config.json").read_text())
    vlm = {**SIZES[name], IMAGE_TOKEN[name]: tiny["vlm_config"][IMAGE_TOKEN[name]]}
    if name == "colmodernvbert":
        ends = {key: value for key, value in tiny["vlm_config"]["text_config"].items() if key.endswith("_id")}
        vlm["text_config"] = {**vlm["text_config"], **ends}
    torch.manual_seed(0)
    model = kind(config_of(embedding_dim=128, vlm_config=vlm)).to(torch.bfloat16)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    model.config.save_pretrained(folder)
    images = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, **IMAGES[name]}))


def measure(folder: Path, name: str, pages: int, device: str) -> dict[str, Any]:
    """Seconds a page of both, the least of two turns."""
    encoder = load_encoder(name, folder, device)
    rng = np.random.default_rng(0)
    images = [
        PIL.Image.fromarray(rng.integers(0, 256, (A4[1], A4[0], 3), dtype=np.uint8)) for _ in range(pages)
    ]
    model = encoder._model
    ready = [model.prepare(image) for image in images]
    whole, bare = [], []
    for _ in range(2):
        started = time.perf_counter()
        made = encoder.encode_images(images)
        whole.append((time.perf_counter() - started) / pages)
        started = time.perf_counter()
        tokens = [model.tokens(*image.size) for image in images]
        for batch in encoder.batches.of(range(len(images)), tokens.__getitem__):
            for rows in model.look([ready[place] for place in batch]):
                rows.cpu()
        bare.append((time.perf_counter() - started) / pages)
    patches = len(made[0].vectors)
    result = {
        "encoder": name,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "patches": patches,
        "seconds_a_page": min(whole),
        "forward_seconds_a_page": min(bare),
        "share": min(bare) / min(whole),
    }
    print(
        f"{name} on {model.device}: {patches} patches, {min(whole):.2f} s a page, of it the model's forward "
        f"{min(bare):.2f} s ({result['share']:.0%}; goal 80% on a GPU)"
    )
    return result


if __name__ == "__main__":
    main()
