"""Tiny random checkpoints in the published layouts of the vision-language rerankers.

Keys, configuration and tokenizer are laid out as the published files are; only the sizes are small. Weights
are larger than an initialisation would make them, because what is wrong with positions or attention does not
show at a standard deviation of .02; the heads are scaled so that scores spread within 0..1. All is drawn from
the seed, and stored as bfloat16 as the published weights are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

VOCABULARY = 288
"""Rows of every embedding: a few more than the tokenizers know, as in the published models."""

QWEN_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Of Qwen2 and Qwen3, in the order of their ids: 151643 to 151656."""
QWEN3_ADDED = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
"""Of Qwen3 alone, 151657 to 151668; not special, so decoding keeps them."""
NEMOTRON_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<img>", "</img>", "<IMG_CONTEXT>",
)  # fmt: skip

MERGES = [("y", "e"), ("ye", "s"), ("n", "o"), ("t", "h"), ("th", "e"), ("Ċ", "Ċ")]
"""`yes` and `no` are one token each. Two line breaks (Ċ) are one too, so that a query that begins with one
changes the token before it."""

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_WORDS = QWEN_WORDS.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")

STRONG = 2.5
"""Gain of what attention brings, which must outweigh what a position knows of itself, and of a head."""

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

Sizes = Mapping[str, Any] | None
"""Instead of the tiny ones, in the names of the configuration."""

JINA_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
}
JINA_VISION: dict[str, Any] = {
    "depth": 2,
    "embed_dim": 16,
    "hidden_size": 32,
    "mlp_ratio": 4,
    "num_heads": 2,
    "in_chans": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "temporal_patch_size": 2,
}
QWEN3_TEXT: dict[str, Any] = {
    "model_type": "qwen3_vl_text",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 262144,
    "attention_bias": False,
    "rope_theta": 5000000,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default"},
    "tie_word_embeddings": True,
}
QWEN3_VISION: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "depth": 3,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "hidden_act": "gelu_pytorch_tanh",
    "in_channels": 3,
    "out_hidden_size": 32,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1, 2],
}
NEMOTRON_TEXT: dict[str, Any] = {
    "architectures": ["LlamaBidirectionalModel"],
    "model_type": "llama_bidirec",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 131072,
    "attention_bias": False,
    "mlp_bias": False,
    "rope_theta": 500000.0,
    # published: 8192; 256 puts the bend among the four frequencies of a head of 8
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 256,
        "rope_type": "llama3",
    },
    "pooling": "avg",
}
NEMOTRON_VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_channels": 3,
    "image_size": 64,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}


def write_jina(
    folder: Path,
    legacy: bool = True,
    seed: int = 0,
    text: Sizes = None,
    vision: Sizes = None,
) -> Path:
    """A Jina Reranker M0 (Qwen2-VL body, two-layer head).

    `legacy` is the layout of transformers 4.4x: a flat configuration and keys without `language_model`. The
    same seed draws the same weights in both.
    """
    text_sizes, vision_sizes = {**JINA_TEXT, **(text or {})}, {**JINA_VISION, **(vision or {})}
    ids = write_tokenizer(folder, qwen_tokenizer(MERGES, QWEN_SPECIAL), "Qwen2Tokenizer", pad="<|endoftext|>")
    ends = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    common = {
        "architectures": ["JinaVLForRanking"],
        "model_type": "qwen2_vl",
        "vision_token_id": ids["<|vision_pad|>"],
        **vision_ids(ids),
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    half = text_sizes["hidden_size"] // text_sizes["num_attention_heads"] // 2
    sections = {"mrope_section": [half // 2, half // 4, half // 4]}
    written: dict[str, Any] = {**text_sizes, **ends}
    if legacy:
        written |= {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", **sections}}
    else:
        rope = {"rope_type": "default", "rope_theta": 1e6, **sections}
        written = {"text_config": {"model_type": "qwen2_vl_text", **written, "rope_parameters": rope}}
    write_json(folder / "config.json", {**common, **written, "vision_config": vision_sizes})
    write_json(
        folder / "preprocessor_config.json",
        qwen_preprocessor("Qwen2VLProcessor", vision_sizes, CLIP_MEAN, CLIP_STD)
        | {"min_pixels": 56 * 56, "max_pixels": 768 * 28 * 28},
    )

    weights = Weights(seed)
    weights.decoder("model." if legacy else "model.language_model.", text_sizes, biased=True)
    weights.qwen2_tower("visual." if legacy else "model.visual.", vision_sizes)
    hidden = text_sizes["hidden_size"]
    weights.linear("score.0", hidden, hidden)
    weights.linear("score.2", hidden, 1, gain=STRONG)
    weights["score.2.bias"] = torch.tensor([2.65])  # what the score takes away again
    weights.save(folder)
    return folder


def write_qwen3_vl(folder: Path, seed: int = 0, text: Sizes = None, vision: Sizes = None) -> Path:
    """A Qwen3-VL-Reranker: the in-library generative model, its head tied to the embeddings."""
    text_sizes, vision_sizes = {**QWEN3_TEXT, **(text or {})}, {**QWEN3_VISION, **(vision or {})}
    ids = write_tokenizer(
        folder, qwen_tokenizer(MERGES, QWEN_SPECIAL), "Qwen2Tokenizer", pad="<|endoftext|>", eos="<|im_end|>"
    )
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        **vision_ids(ids),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "text_config": {
            **text_sizes,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        "vision_config": vision_sizes,
    }
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        qwen_preprocessor("Qwen3VLProcessor", vision_sizes, [0.5] * 3, [0.5] * 3)
        | {"size": {"longest_edge": 16777216, "shortest_edge": 65536}},
    )

    weights = Weights(seed)
    weights.decoder("model.language_model.", text_sizes, head_norms=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    answers = [tokenizer.token_to_id(word) for word in ("yes", "no")]
    weights["model.language_model.embed_tokens.weight"][answers] *= 0.4  # their difference is the head
    weights.qwen3_tower("model.visual.", vision_sizes)
    weights.save(folder)
    return folder


def write_nemotron(folder: Path, seed: int = 0, text: Sizes = None, vision: Sizes = None) -> Path:
    """A llama-nemotron-rerank-vl-1b-v2: SigLIP, pixel shuffle, bidirectional Llama, a mean and one row."""
    text_sizes, vision_sizes = {**NEMOTRON_TEXT, **(text or {})}, {**NEMOTRON_VISION, **(vision or {})}
    ids = write_tokenizer(
        folder,
        llama_tokenizer(MERGES, NEMOTRON_SPECIAL),
        "PreTrainedTokenizerFast",
        pad="<|finetune_right_pad_id|>",
        eos="<|end_of_text|>",
        bos="<|begin_of_text|>",
    )
    config = {
        "architectures": ["LlamaNemotronVLForSequenceClassification"],
        "model_type": "llama_nemotron_vl_rerank",
        "q_max_length": 512,
        "p_max_length": 10240,
        "force_image_size": vision_sizes["image_size"],
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "max_input_tiles": 6,
        "pooling": "avg",
        "query_prefix": "query:",
        "passage_prefix": "passage:",
        "prompt_template": "v1",
        "vocab_size": VOCABULARY,
        "torch_dtype": "bfloat16",
        "img_context_token_id": ids["<IMG_CONTEXT>"],
        "downsample_ratio": 0.5,
        "select_layer": -1,
        "temperature": 2.0,  # published: 1.0, at which nobody would see it forgotten
        "num_labels": 1,
        "vision_config": vision_sizes,
        "llm_config": {
            **text_sizes,
            "bos_token_id": ids["<|begin_of_text|>"],
            "eos_token_id": ids["<|end_of_text|>"],
        },
    }
    write_json(folder / "config.json", config)
    write_json(
        folder / "preprocessor_config.json",
        {
            "processor_class": "LlamaNemotronVLProcessor",
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "image_size": vision_sizes["image_size"],
            "max_input_tiles": 6,
            "use_thumbnail": True,
        },
    )

    weights = Weights(seed)
    patch, hidden = vision_sizes["hidden_size"], text_sizes["hidden_size"]
    weights.decoder("model.language_model.", text_sizes)
    weights.siglip("model.vision_model.vision_model.", vision_sizes)
    weights.layer_norm("model.mlp1.0", 4 * patch)
    weights.linear("model.mlp1.1", 4 * patch, hidden)
    weights.linear("model.mlp1.3", hidden, hidden)
    weights["score.weight"] = weights.normal(1, hidden, std=1.0)
    weights.save(folder, full_precision=("score.weight",))
    return folder


class Weights(dict[str, Tensor]):
    """Parameters by name, drawn in the order in which they are asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float) -> Tensor:
        """Numbers around 0."""
        return torch.randn(shape, generator=self.generator) * std

    def linear(self, name: str, inputs: int, outputs: int, biased: bool = True, gain: float = 1.2) -> None:
        """A matrix whose outputs are about `gain` times as large as its inputs."""
        self[f"{name}.weight"] = self.normal(outputs, inputs, std=gain / inputs**0.5)
        if biased:
            self[f"{name}.bias"] = self.normal(outputs, std=0.2)

    def rms_norm(self, name: str, size: int, mean: float = 1) -> None:
        """Near 1, but not 1."""
        self[f"{name}.weight"] = mean + self.normal(size, std=0.2)

    def layer_norm(self, name: str, size: int) -> None:
        """Near 1 and 0, but neither."""
        self.rms_norm(name, size)
        self[f"{name}.bias"] = self.normal(size, std=0.2)

    def decoder(
        self, prefix: str, config: Mapping[str, Any], biased: bool = False, head_norms: bool = False
    ) -> None:
        """Embeddings, layers and last norm of a Llama-like decoder."""
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        head = hidden // config["num_attention_heads"]
        groups = config["num_key_value_heads"] * head
        self[f"{prefix}embed_tokens.weight"] = self.normal(config["vocab_size"], hidden, std=0.5)
        for number in range(config["num_hidden_layers"]):
            layer = f"{prefix}layers.{number}."
            self.rms_norm(f"{layer}input_layernorm", hidden)
            self.linear(f"{layer}self_attn.q_proj", hidden, hidden, biased)
            self.linear(f"{layer}self_attn.k_proj", hidden, groups, biased)
            self.linear(f"{layer}self_attn.v_proj", hidden, groups, biased, gain=STRONG)
            self.linear(f"{layer}self_attn.o_proj", hidden, hidden, biased=False, gain=STRONG)
            if head_norms:
                # a norm of 1 keeps a small head from looking anywhere in particular
                self.rms_norm(f"{layer}self_attn.q_norm", head, mean=2)
                self.rms_norm(f"{layer}self_attn.k_norm", head, mean=2)
            self.rms_norm(f"{layer}post_attention_layernorm", hidden)
            self.linear(f"{layer}mlp.gate_proj", hidden, inner, biased=False)
            self.linear(f"{layer}mlp.up_proj", hidden, inner, biased=False)
            self.linear(f"{layer}mlp.down_proj", inner, hidden, biased=False)
        self.rms_norm(f"{prefix}norm", hidden)

    def qwen2_tower(self, prefix: str, config: Mapping[str, Any]) -> None:
        """The vision tower of Qwen2-VL and its merger."""
        size = config["embed_dim"]
        self._patches(f"{prefix}patch_embed.proj", size, config)
        for number in range(config["depth"]):
            block = f"{prefix}blocks.{number}."
            self._vision_attention(block, size)
            self.linear(f"{block}mlp.fc1", size, size * config["mlp_ratio"])
            self.linear(f"{block}mlp.fc2", size * config["mlp_ratio"], size)
        self.layer_norm(f"{prefix}merger.ln_q", size)
        self.linear(f"{prefix}merger.mlp.0", 4 * size, 4 * size)
        self.linear(f"{prefix}merger.mlp.2", 4 * size, config["hidden_size"])

    def qwen3_tower(self, prefix: str, config: Mapping[str, Any]) -> None:
        """The vision tower of Qwen3-VL, its merger and those of the layers it lends to the decoder."""
        size, inner = config["hidden_size"], config["intermediate_size"]
        self._patches(f"{prefix}patch_embed.proj", size, config)
        self[f"{prefix}patch_embed.proj.bias"] = self.normal(size, std=0.2)
        self[f"{prefix}pos_embed.weight"] = self.normal(config["num_position_embeddings"], size, std=1.0)
        for number in range(config["depth"]):
            block = f"{prefix}blocks.{number}."
            self._vision_attention(block, size)
            self.linear(f"{block}mlp.linear_fc1", size, inner)
            self.linear(f"{block}mlp.linear_fc2", inner, size)
        lent = range(len(config["deepstack_visual_indexes"]))
        for merger in ("merger", *(f"deepstack_merger_list.{number}" for number in lent)):
            self.layer_norm(f"{prefix}{merger}.norm", size if merger == "merger" else 4 * size)
            self.linear(f"{prefix}{merger}.linear_fc1", 4 * size, 4 * size)
            self.linear(f"{prefix}{merger}.linear_fc2", 4 * size, config["out_hidden_size"])

    def siglip(self, prefix: str, config: Mapping[str, Any], head: bool = True) -> None:
        """A SigLIP vision tower, with the pooling head that some are published with and none uses."""
        size, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
        self[f"{prefix}embeddings.patch_embedding.weight"] = self.normal(
            size, 3, patch, patch, std=1.2 / (3 * patch * patch) ** 0.5
        )
        self[f"{prefix}embeddings.patch_embedding.bias"] = self.normal(size, std=0.2)
        self[f"{prefix}embeddings.position_embedding.weight"] = self.normal(
            (config["image_size"] // patch) ** 2, size, std=1.0
        )
        for number in range(config["num_hidden_layers"]):
            layer = f"{prefix}encoder.layers.{number}."
            self.layer_norm(f"{layer}layer_norm1", size)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                self.linear(f"{layer}self_attn.{name}", size, size)
            self.layer_norm(f"{layer}layer_norm2", size)
            self.linear(f"{layer}mlp.fc1", size, inner)
            self.linear(f"{layer}mlp.fc2", inner, size)
        self.layer_norm(f"{prefix}post_layernorm", size)
        if head:
            self._pooling_head(f"{prefix}head.", size, inner)

    def _pooling_head(self, head: str, size: int, inner: int) -> None:
        self[f"{head}probe"] = self.normal(1, 1, size, std=1.0)
        self[f"{head}attention.in_proj_weight"] = self.normal(3 * size, size, std=0.3)
        self[f"{head}attention.in_proj_bias"] = self.normal(3 * size, std=0.2)
        self.linear(f"{head}attention.out_proj", size, size)
        self.layer_norm(f"{head}layernorm", size)
        self.linear(f"{head}mlp.fc1", size, inner)
        self.linear(f"{head}mlp.fc2", inner, size)

    def _patches(self, name: str, size: int, config: Mapping[str, Any]) -> None:
        kernel = (3, config["temporal_patch_size"], config["patch_size"], config["patch_size"])
        self[f"{name}.weight"] = self.normal(size, *kernel, std=1.2 / prod(kernel) ** 0.5)

    def _vision_attention(self, block: str, size: int) -> None:
        self.layer_norm(f"{block}norm1", size)
        self.linear(f"{block}attn.qkv", size, 3 * size)
        self.linear(f"{block}attn.proj", size, size)
        self.layer_norm(f"{block}norm2", size)

    def save(self, folder: Path, full_precision: Sequence[str] = ()) -> None:
        """Write `model.safetensors`: bfloat16, but for the names in `full_precision`."""
        stored = {
            name: tensor if name in full_precision else tensor.to(torch.bfloat16)
            for name, tensor in self.items()
        }
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def vision_ids(ids: Mapping[str, int]) -> dict[str, int]:
    """What a Qwen configuration says of its tokens."""
    return {
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
    }


def qwen_preprocessor(
    processor: str, vision: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """`preprocessor_config.json` without the pixel budget, which the two models spell differently."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": processor,
        "image_mean": list(mean),
        "image_std": list(std),
        "patch_size": vision["patch_size"],
        "merge_size": vision["spatial_merge_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
    }


def byte_vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Token -> id: the 256 bytes in the order of their signs (100 is `§`, as in Qwen's), then the merges."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    return {token: number for number, token in enumerate(tokens)}


def byte_tokenizer(
    vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], words: str, special: Sequence[str]
) -> Tokenizer:
    """A byte-level BPE that splits text by the expression `words` first."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer


def qwen_tokenizer(merges: Sequence[tuple[str, str]], special: Sequence[str]) -> Tokenizer:
    """As Qwen2's: Unicode is composed (NFC), nothing is added around a text."""
    tokenizer = byte_tokenizer(byte_vocabulary(merges), merges, QWEN_WORDS, special)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def llama_tokenizer(merges: Sequence[tuple[str, str]], special: Sequence[str]) -> Tokenizer:
    """As Llama 3's: it puts the first of `special` before every text by itself."""
    tokenizer = byte_tokenizer(byte_vocabulary(merges), merges, LLAMA_WORDS, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], tokenizer.token_to_id(special[0]))]
    )
    return tokenizer


def write_tokenizer(
    folder: Path,
    tokenizer: Tokenizer,
    kind: str,
    pad: str,
    eos: str = "<|im_end|>",
    bos: str | None = None,
) -> dict[str, int]:
    """Write `tokenizer.json` and `tokenizer_config.json`; the ids of the added tokens by name.

    The configuration is written by hand, because transformers 4.57 cannot read what 5.x saves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        number: {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for number, token in tokenizer.get_added_tokens_decoder().items()
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": kind,
            "added_tokens_decoder": added,
            "bos_token": bos,
            "eos_token": eos,
            "pad_token": pad,
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 32768,
        },
    )
    return {str(token["content"]): number for number, token in added.items()}


def write_qwen_tokenizer(folder: Path) -> Path:
    """The tokenizer of Qwen2 and Qwen3, exact: from the ranks that the package `dashscope` carries.

    Raises:
        PackageNotFoundError: `dashscope` is not installed. None of its code is run: `pip install --no-deps
            dashscope` is enough.
    """
    ranks = distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")
    vocabulary: dict[bytes, int] = {}
    for line in Path(str(ranks)).read_text(encoding="ascii").splitlines():
        token, rank = line.split()
        vocabulary[base64.b64decode(token)] = int(rank)

    signs = dict(zip(BYTES, sorted(pre_tokenizers.ByteLevel.alphabet()), strict=True))
    spelled = {token: "".join(signs[byte] for byte in token) for token in vocabulary}
    merges = [
        (spelled[left], spelled[right])
        for token, rank in vocabulary.items()
        if len(parts := pieces(token, vocabulary, rank)) == 2
        for left, right in [parts]
    ]
    tokenizer = byte_tokenizer(
        {spelled[token]: rank for token, rank in vocabulary.items()}, merges, QWEN_WORDS, QWEN_SPECIAL
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in QWEN3_ADDED])
    write_tokenizer(folder, tokenizer, "Qwen2Tokenizer", pad="<|endoftext|>")
    return folder


BYTES = [*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173]
"""Bytes in the order of the signs that byte-level BPE writes for them: the printable ones first."""


def pieces(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """What BPE makes of `token` when it knows merges up to rank `below`: at last its two halves."""
    parts = [bytes([byte]) for byte in token]
    while True:
        joined = [ranks.get(left + right, below) for left, right in pairwise(parts)]
        rank = min(joined, default=below)
        if rank >= below:
            return parts
        at = joined.index(rank)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def read_json(path: Path) -> dict[str, Any]:
    """What the file says."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Make the folder and write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
