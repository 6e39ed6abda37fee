"""Other people's code over the pairs of `parity.py`. Runs in an environment of its own, without pagelens.

Usage: `python parity_references.py REFERENCE FOLDER`; scores go to `FOLDER/REFERENCE.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

Pair = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
Scored = tuple[float, float | None, float | None]
"""The score with the pixels that were given, with the reference's own, and how far those are off at most."""


def transformers_4(folder: Path) -> Callable[[Pair, Tensors], Scored]:
    """The bodies of transformers 4.57.3, the last release of that line but for fixes."""
    from transformers import (
        LlamaConfig,
        LlamaModel,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen3VLForConditionalGeneration,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    jina: Any = Qwen2VLForConditionalGeneration.from_pretrained(folder / "jina", dtype=torch.float32)
    jina_head = jina_layers(folder)
    qwen3: Any = Qwen3VLForConditionalGeneration.from_pretrained(folder / "qwen3-vl", dtype=torch.float32)
    qwen_pixels = {
        "jina": Qwen2VLImageProcessor.from_pretrained(folder / "jina"),
        "qwen3-vl": Qwen2VLImageProcessor.from_pretrained(
            folder / "qwen3-vl", min_pixels=4 * 32 * 32, max_pixels=1280 * 32 * 32
        ),
    }

    config = json.loads((folder / "nemotron" / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "nemotron" / "model.safetensors")
    tower: Any = strictly(
        SiglipVisionModel(SiglipVisionConfig(**config["vision_config"])), weights, "model.vision_model."
    )
    bridge = strictly(
        nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 32)),
        weights,
        "model.mlp1.",
    )
    body: Any = strictly(LlamaModel(LlamaConfig(**config["llm_config"])), weights, "model.language_model.")

    def nemotron(ids: Tensor, pixels: Tensor | None) -> float:
        embedded = body.embed_tokens(ids)
        if pixels is not None:
            patches = tower(pixels).last_hidden_state.reshape(
                -1, 2, 2, 2, 2, 16
            )  # tile, row (2), column (2), number
            merged = patches.transpose(2, 3).reshape(-1, 64)
            embedded[ids == config["img_context_token_id"]] = bridge(merged)
        all_see_all = torch.zeros(1, 1, len(ids), len(ids))
        hidden = body(inputs_embeds=embedded[None], attention_mask=all_see_all).last_hidden_state[0]
        raw = hidden.mean(dim=0) @ weights["score.weight"][0] / config["temperature"]
        return float(raw.sigmoid())

    def qwen(model: str, ids: Tensor, pixels: Tensor | None, grids: Tensor | None) -> float:
        seen = {} if pixels is None else {"pixel_values": pixels, "image_grid_thw": grids}
        if model == "jina":
            return float(
                (jina_head(jina.model(input_ids=ids[None], **seen).last_hidden_state[0, -1]) - 2.65).sigmoid()
            )
        return yes_or_no(folder, qwen3(input_ids=ids[None], **seen).logits[0, -1])

    def score(pair: Pair, tensors: Tensors) -> Scored:
        ids, pixels, grids = tensors["ids"], tensors.get("pixels"), tensors.get("grids")
        if pair["model"] == "nemotron":
            return nemotron(ids, pixels), None, None
        given = qwen(pair["model"], ids, pixels, grids)
        if pixels is None:
            return given, None, None
        own = qwen_pixels[pair["model"]](images_in(folder, pair), return_tensors="pt")
        assert grids is not None and torch.equal(own["image_grid_thw"], grids)
        difference = float((own["pixel_values"] - pixels).abs().max())
        return given, qwen(pair["model"], ids, own["pixel_values"], grids), difference

    return score


def sentence_transformers(folder: Path) -> Callable[[Pair, Tensors], Scored]:
    """Its `CrossEncoder` over Qwen3-VL, with its own prompt, processor and torchvision's resizing."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    complete, processor = folder / "qwen3-vl-complete", cast(Any, Qwen3VLProcessor)
    pixels = Qwen2VLImageProcessor.from_pretrained(
        folder / "qwen3-vl", size={"shortest_edge": 4 * 32 * 32, "longest_edge": 1280 * 32 * 32}
    )
    processor(
        pixels,
        AutoTokenizer.from_pretrained(folder / "qwen3-vl"),
        Qwen3VLVideoProcessor(),
        chat_template=QWEN3_TEMPLATE,
    ).save_pretrained(complete)
    for name in ("config.json", "model.safetensors"):
        (complete / name).write_bytes((folder / "qwen3-vl" / name).read_bytes())
    vocabulary: Any = Tokenizer.from_file(str(folder / "qwen3-vl" / "tokenizer.json"))
    model = CrossEncoder(
        modules=[
            Transformer(str(complete), transformer_task="any-to-any", model_kwargs={"dtype": torch.float32}),
            LogitScore(vocabulary.token_to_id("yes"), vocabulary.token_to_id("no")),
        ],
        activation_fn=nn.Sigmoid(),
        device="cpu",
    )

    def score(pair: Pair, tensors: Tensors) -> Scored:
        sides = tuple(side_in(folder, pair[name]) for name in ("query", "page"))
        seen: dict[str, Tensor] = {}

        def exchange(module: nn.Module, args: tuple[dict[str, Tensor], ...]) -> Any:
            seen.update(args[0])
            assert args[0]["input_ids"].tolist() == [tensors["ids"].tolist()], "another prompt"
            return ({**args[0], "pixel_values": tensors["pixels"]},) if "pixels" in tensors else None

        hook = model[0].register_forward_pre_hook(exchange)
        given = float(model.predict([sides], prompt=pair["instruction"])[0])
        hook.remove()
        if "pixels" not in tensors:
            return given, None, None
        own = float(model.predict([sides], prompt=pair["instruction"])[0])
        return given, own, float((seen["pixel_values"] - tensors["pixels"]).abs().max())

    return score


def nemo_automodel(folder: Path) -> Callable[[Pair, Tensors], Scored]:
    """NVIDIA's own body and image processor, as its training library carries them; the head is one row."""
    from nemo_automodel.components.models.llama_nemotron_vl import (
        LlamaNemotronVLConfig,
        LlamaNemotronVLModel,
        model,
    )
    from nemo_automodel.components.models.llama_nemotron_vl.processor import LlamaNemotronVLImageProcessor

    class NoProcessor:
        """The body asks for one by the name of its checkpoint and does not use it to score."""

        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> None: ...

    model.AutoProcessor = NoProcessor
    config = json.loads((folder / "nemotron" / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "nemotron" / "model.safetensors")
    row = weights.pop("score.weight")[0]
    # since 5.0 SigLIP's class lacks the level that the published names have twice
    weights = {name.replace("vision_model.vision_model.", "vision_model."): weights[name] for name in weights}
    body: Any = strictly(LlamaNemotronVLModel(LlamaNemotronVLConfig(**config)), weights, "model.")
    processor = LlamaNemotronVLImageProcessor(
        image_size=config["force_image_size"], max_num_tiles=6, use_thumbnail=True
    )

    def run(ids: Tensor, pixels: Tensor | None) -> float:
        mask = torch.ones(1, len(ids), dtype=torch.long)
        hidden = body(
            pixel_values=pixels,
            input_ids=ids[None],
            attention_mask=mask,
            output_hidden_states=True,
            return_dict=True,
        ).hidden_states[-1]
        return float((model.pool(hidden, mask, "avg")[0] @ row / config["temperature"]).sigmoid())

    def score(pair: Pair, tensors: Tensors) -> Scored:
        pixels = tensors.get("pixels")
        given = run(tensors["ids"], pixels)
        if pixels is None:
            return given, None, None
        own = processor(images_in(folder, pair), return_tensors="pt")["pixel_values"]
        own = own.to(torch.bfloat16).float()
        return given, run(tensors["ids"], own), float((own - pixels).abs().max())

    return score


REFERENCES: dict[str, tuple[Callable[[Path], Callable[[Pair, Tensors], Scored]], tuple[str, ...]]] = {
    "transformers-4": (transformers_4, ("jina", "qwen3-vl", "nemotron")),
    "sentence-transformers": (sentence_transformers, ("qwen3-vl",)),
    "nemo-automodel": (nemo_automodel, ("nemotron",)),
}
"""Name -> what scores a pair, and the models it knows."""

QWEN3_TEMPLATE = r"""
{%- set instruct = namespace(text="") -%}
{%- for m in messages if m.role == "system" -%}
{%- set instruct.text = m.content if m.content is string else m.content[0].text -%}
{%- endfor -%}
{%- macro side(role) -%}
{%- set seen = namespace(any=false) -%}
{%- for m in messages if m.role == role -%}{%- for c in m.content -%}
{%- if c.type == "image" -%}<|vision_start|><|image_pad|><|vision_end|>{%- set seen.any = true -%}
{%- elif c.text -%}{{- c.text -}}{%- set seen.any = true -%}{%- endif -%}
{%- endfor -%}{%- endfor -%}
{%- if not seen.any -%}NULL{%- endif -%}
{%- endmacro -%}
{{- "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the " -}}
{{- "Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n" -}}
{{- "<Instruct>: " + instruct.text + "<Query>:" + side("query") + "\n<Document>:" + side("document") -}}
{{- "<|im_end|>\n<|im_start|>assistant\n" -}}
"""


def jina_layers(folder: Path) -> nn.Module:
    """The head of Jina Reranker M0, which stands beside the body in its file."""
    layers = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    return strictly(layers, load_file(folder / "jina" / "model.safetensors"), "score.")


def yes_or_no(folder: Path, logits: Tensor) -> float:
    """The share of `yes` in `yes` and `no`."""
    vocabulary = json.loads((folder / "qwen3-vl" / "tokenizer.json").read_text(encoding="utf-8"))["model"][
        "vocab"
    ]
    return float(logits[[vocabulary["yes"], vocabulary["no"]]].softmax(dim=0)[0])


def strictly(module: nn.Module, weights: Tensors, prefix: str) -> nn.Module:
    """`module` with the weights whose names begin with `prefix`, no more and no less."""
    own = {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
    module.load_state_dict(own)
    return module.float().eval()


def side_in(folder: Path, side: Mapping[str, str]) -> Any:
    """A text, an image or both, as a pair of `parity.py` names it."""
    opened = {"image": Image.open(folder / side["image"])} if "image" in side else {}
    both = {**opened, **({"text": side["text"]} if "text" in side else {})}
    return both if len(both) > 1 else next(iter(both.values()))


def images_in(folder: Path, pair: Pair) -> list[Image.Image]:
    """Of the page and of the query, in the order of the prompt."""
    order = ("page", "query") if pair["model"] == "jina" else ("query", "page")
    return [Image.open(folder / pair[name]["image"]) for name in order if "image" in pair[name]]


def let_torchvision_be_imported() -> None:
    """Its wheel is built for CUDA's torch; beside a CPU build it asks for operators that are not there."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_torchvision"] = library  # what it defines goes when it goes


def main() -> None:
    """Score every pair of the models that the reference knows."""
    reference, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    if not torch.cuda.is_available() and torch.version.cuda is None:
        let_torchvision_be_imported()
    prepare, models = REFERENCES[reference]
    pairs = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "pairs.safetensors")
    scored = {}
    with torch.no_grad():
        score = prepare(folder)
        for pair in pairs:
            if pair["model"] in models:
                own = f"{pair['id']}/"
                named = {key.removeprefix(own): each for key, each in tensors.items() if key.startswith(own)}
                scored[pair["id"]] = score(pair, named)
    versions = {}
    for package in ("torch", "transformers", "sentence-transformers", "nemo-automodel", "torchvision"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    (folder / f"{reference}.json").write_text(json.dumps({"versions": versions, "scored": scored}, indent=1))


if __name__ == "__main__":
    main()
