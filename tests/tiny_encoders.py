"""Tiny random checkpoints in the published layouts of the visual encoders; see `tiny_checkpoints`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tiny_checkpoints import (
    CLIP_MEAN,
    CLIP_STD,
    JINA_TEXT,
    JINA_VISION,
    LLAMA_WORDS,
    MERGES,
    QWEN_SPECIAL,
    STRONG,
    Weights,
    byte_tokenizer,
    byte_vocabulary,
    qwen_preprocessor,
    qwen_tokenizer,
    read_json,
    vision_ids,
    write_json,
    write_nemotron,
    write_qwen3_vl,
    write_tokenizer,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

SIZE = 16
"""Numbers in a vector; published: 128."""
VOCABULARY = 352

PALI_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
"""Ids 0 to 3, as in Gemma's vocabulary."""
BERT_SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
TILE_SPECIAL = (
    "<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)  # fmt: skip
"""The 40 tokens that ModernVBERT adds to ModernBERT's."""

GEMMA_TEXT: dict[str, Any] = {
    "model_type": "gemma",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
}
PALI_VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 84,
    "patch_size": 14,
    "projection_dim": 32,
    "vision_use_head": False,
}
MODERNBERT_TEXT: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "local_attention": 16,  # published: 128; shorter than a page's prompt here too
}
TILE_VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
}
SHUFFLE = 4
"""Patches along a side that become one token: 2 x 2 tokens a tile of 64 x 64 pixels."""


def write_colqwen2(folder: Path, seed: int = 0) -> Path:
    """A `vidore/colqwen2-v1.0-hf`, in the layout its conversion script writes, with the head nobody uses."""
    ids = write_tokenizer(folder, qwen_tokenizer(MERGES, QWEN_SPECIAL), "Qwen2Tokenizer", pad="<|endoftext|>")
    ends = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    vlm = {
        "model_type": "qwen2_vl",
        **vision_ids(ids),
        "tie_word_embeddings": True,
        "text_config": {"model_type": "qwen2_vl_text", **JINA_TEXT, **ends, "rope_parameters": rope},
        "vision_config": JINA_VISION,
    }
    write_json(folder / "config.json", _for_retrieval("ColQwen2ForRetrieval", "colqwen2", vlm))
    write_json(
        folder / "preprocessor_config.json",
        qwen_preprocessor("ColQwen2Processor", JINA_VISION, CLIP_MEAN, CLIP_STD)
        | {"size": {"shortest_edge": 56 * 56, "longest_edge": 768 * 28 * 28}},
    )

    weights = Weights(seed)
    weights.decoder("vlm.model.language_model.", JINA_TEXT, biased=True)
    weights.qwen2_tower("vlm.model.visual.", JINA_VISION)
    weights["vlm.lm_head.weight"] = weights["vlm.model.language_model.embed_tokens.weight"].clone()
    _project(weights)
    weights.save(folder)
    return folder


def write_colpali(folder: Path, legacy: bool = True, seed: int = 0) -> Path:
    """A `vidore/colpali-v1.3-hf`; `legacy` is the layout of transformers 4.4x, in which it was published.

    The configuration says outright what transformers 5 made of one that says nothing, until it was mended:
    that a token sees only those before it.
    """
    ids = write_tokenizer(
        folder, gemma_tokenizer(), "PreTrainedTokenizerFast", pad="<pad>", eos="<eos>", bos="<bos>"
    )
    vlm = {
        "model_type": "paligemma",
        "image_token_index": ids["<image>"],
        "hidden_size": 32,
        "projection_dim": 32,
        "text_config": {**GEMMA_TEXT, "use_bidirectional_attention": False},
        "vision_config": PALI_VISION,
    }
    write_json(folder / "config.json", _for_retrieval("ColPaliForRetrieval", "colpali", vlm))
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "ColPaliProcessor",
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "image_seq_length": (PALI_VISION["image_size"] // PALI_VISION["patch_size"]) ** 2,
            "resample": 3,
            "size": {"height": PALI_VISION["image_size"], "width": PALI_VISION["image_size"]},
        },
    )

    weights = Weights(seed)
    weights.decoder("vlm.language_model.model." if legacy else "vlm.language_model.", GEMMA_TEXT)
    for name in [name for name in weights if "norm" in name]:
        weights[name] -= 1  # Gemma's norms add 1
    vision = "vlm.vision_tower.vision_model." if legacy else "vlm.vision_tower."
    weights.siglip(vision, PALI_VISION, head=False)
    weights.linear("vlm.multi_modal_projector.linear", PALI_VISION["hidden_size"], 32)
    _project(weights)
    if legacy:
        embeddings = weights["vlm.language_model.model.embed_tokens.weight"]
        weights["vlm.language_model.lm_head.weight"] = embeddings.clone()
    weights.save(folder)
    return folder


def write_colmodernvbert(folder: Path, published: bool = False, seed: int = 0) -> Path:
    """A ColModernVBERT in the layout of transformers' own class; `published`: in that of the authors' code.

    The same seed draws the same weights in both.
    """
    ids = write_tokenizer(
        folder, modernbert_tokenizer(), "PreTrainedTokenizerFast", pad="[PAD]", eos="[SEP]", bos="[CLS]"
    )
    vlm = {
        "model_type": "modernvbert",
        "image_token_id": ids["<image>"],
        "pixel_shuffle_factor": SHUFFLE,
        "text_config": {**MODERNBERT_TEXT, **_bert_ids(ids)},
        "vision_config": TILE_VISION,
    }
    write_json(folder / "config.json", _for_retrieval("ColModernVBertForRetrieval", "colmodernvbert", vlm))
    write_json(folder / "preprocessor_config.json", _tiling())

    weights = Weights(seed)
    weights.siglip("vlm.vision_model.", TILE_VISION)
    hidden, inner = MODERNBERT_TEXT["hidden_size"], MODERNBERT_TEXT["intermediate_size"]
    wide = TILE_VISION["hidden_size"] * SHUFFLE**2
    weights.linear("vlm.connector.modality_projection", wide, hidden, biased=False)
    text = "vlm.text_model."
    weights[f"{text}embeddings.tok_embeddings.weight"] = weights.normal(VOCABULARY, hidden, std=0.5)
    weights.rms_norm(f"{text}embeddings.norm", hidden)
    for number in range(MODERNBERT_TEXT["num_hidden_layers"]):
        layer = f"{text}layers.{number}."
        if number:  # the first has none: the embeddings are normalised
            weights.rms_norm(f"{layer}attn_norm", hidden)
        weights.linear(f"{layer}attn.Wqkv", hidden, 3 * hidden, biased=False, gain=STRONG)
        weights.linear(f"{layer}attn.Wo", hidden, hidden, biased=False)
        weights.rms_norm(f"{layer}mlp_norm", hidden)
        weights.linear(f"{layer}mlp.Wi", hidden, 2 * inner, biased=False)
        weights.linear(f"{layer}mlp.Wo", inner, hidden, biased=False)
    weights.rms_norm(f"{text}final_norm", hidden)
    _project(weights)
    if published:
        _as_published(folder, weights)
    weights.save(folder)
    return folder


def _as_published(folder: Path, weights: Weights) -> None:
    """`ModernVBERT/colmodernvbert-merged` as vLLM reads it (`model_executor/models/colmodernvbert.py`)."""
    config = read_json(folder / "config.json")
    vlm = config["vlm_config"]
    vlm["vision_config"]["embed_dim"] = vlm["vision_config"].pop("hidden_size")
    vlm["text_config"]["vocab_size"] = VOCABULARY - len(TILE_SPECIAL)
    vlm["additional_vocab_size"] = len(TILE_SPECIAL)
    write_json(folder / "config.json", config)
    for name in list(weights):
        new = name.replace("vlm.", "model.").replace("embedding_proj_layer", "custom_text_proj")
        new = new.replace("model.vision_model.", "model.vision_model.vision_model.")
        new = new.replace("modality_projection.", "modality_projection.proj.")
        weights[new] = weights.pop(name)
    embedding = "model.text_model.embeddings.tok_embeddings"
    whole = weights.pop(f"{embedding}.weight")
    weights[f"{embedding}.weight"] = whole[: -len(TILE_SPECIAL)].clone()
    weights[f"{embedding}.additional_embedding.weight"] = whole[-len(TILE_SPECIAL) :].clone()


def write_qwen3_embedding(folder: Path, ending: bool = False, seed: int = 0) -> Path:
    """A Qwen3-VL-Embedding; `ending`: its tokenizer sets `<|endoftext|>` after every text."""
    write_qwen3_vl(folder, seed)
    if ending:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_nemotron_embed(folder: Path, seed: int = 0) -> Path:
    """A llama-nemotron-embed-vl-1b-v2: the reranker's body, without the prefix that a head brings."""
    write_nemotron(folder, seed)
    config = read_json(folder / "config.json")
    config |= {"architectures": ["LlamaNemotronVLModel"], "model_type": "llama_nemotron_vl"}
    write_json(folder / "config.json", config)
    weights = load_file(folder / "model.safetensors")
    body = {name.removeprefix("model."): each for name, each in weights.items() if name != "score.weight"}
    save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def gemma_tokenizer() -> Tokenizer:
    """As Gemma's: a space is `▁`, bytes stand in for signs it does not know, `<bos>` before every text."""
    signs = ["▁", *map(chr, range(ord("a"), ord("z") + 1)), *"QDescribthmag.,:?\n"]
    tokens = [*PALI_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(signs)]
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = [*PALI_SPECIAL, "<image>"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    bos = ("<bos>", tokenizer.token_to_id("<bos>"))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return tokenizer


def modernbert_tokenizer() -> Tokenizer:
    """As ModernBERT's: byte-level BPE, `[CLS]` before every text and `[SEP]` after it."""
    tokenizer = byte_tokenizer(byte_vocabulary(MERGES), MERGES, LLAMA_WORDS, (*BERT_SPECIAL, *TILE_SPECIAL))
    around = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    return tokenizer


def _for_retrieval(architecture: str, kind: str, vlm: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "embedding_dim": SIZE,
        "torch_dtype": "bfloat16",
        "vlm_config": vlm,
    }


def _project(weights: Weights) -> None:
    weights.linear("embedding_proj_layer", 32, SIZE)


def _bert_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "pad_token_id": ids["[PAD]"],
        "bos_token_id": ids["[CLS]"],
        "cls_token_id": ids["[CLS]"],
        "eos_token_id": ids["[SEP]"],
        "sep_token_id": ids["[SEP]"],
    }


def _tiling() -> dict[str, Any]:
    """Published: tiles of 512 up to 2048."""
    return {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "ColModernVBertProcessor",
        "do_image_splitting": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "max_image_size": {"longest_edge": TILE_VISION["image_size"]},
        "size": {"longest_edge": 4 * TILE_VISION["image_size"]},
        "resample": 1,
    }
