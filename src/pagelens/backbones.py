"""Model bodies and the loading of their weights, shared by encoders and rerankers.

Bodies are written out here only where the library's own costs more than it gives: `import
transformers.models.bert` was measured at 3 s on top of torch, on every cold search.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from pagelens.errors import Missing


class Bert(nn.Module):
    """BERT's encoder (Devlin et al., arXiv 1810.04805) without dropout and pooler.

    Module names follow the published checkpoints, so that their keys load as they are.
    """

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(config["vocab_size"], hidden)
        self.embeddings.position_embeddings = nn.Embedding(config["max_position_embeddings"], hidden)
        self.embeddings.token_type_embeddings = nn.Embedding(config["type_vocab_size"], hidden)
        self.embeddings.LayerNorm = nn.LayerNorm(hidden, epsilon)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_BertLayer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of the last layer.

        Args:
            ids: Token ids, *Shape:* (batch, tokens).
            mask: 1 for tokens, 0 for padding, same shape.

        Returns:
            *Shape:* (batch, tokens, hidden).
        """
        positions = torch.arange(ids.shape[1], device=ids.device)
        e = self.embeddings
        hidden = e.word_embeddings(ids) + e.position_embeddings(positions) + e.token_type_embeddings.weight[0]
        hidden = e.LayerNorm(hidden)
        attend = mask[:, None, None, :].bool()  # (batch, heads, queries, keys), broadcast
        for layer in self.encoder.layer:
            hidden = layer(hidden, attend)
        return hidden


class _BertLayer(nn.Module):
    """Self-attention, then two dense layers; each added to its input and normalised after."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        hidden, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.attention = nn.Module()
        self.attention.self = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.attention.self, name, nn.Linear(hidden, hidden))
        self.attention.output = _residual(hidden, hidden, epsilon)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(hidden, inner)
        self.output = _residual(inner, hidden, epsilon)

    def forward(self, hidden: Tensor, attend: Tensor) -> Tensor:
        def heads(linear: nn.Linear) -> Tensor:  # (batch, heads, tokens, head size)
            return linear(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        own = self.attention.self
        mixed = functional.scaled_dot_product_attention(
            heads(own.query), heads(own.key), heads(own.value), attn_mask=attend
        )
        out = self.attention.output
        hidden = out.LayerNorm(hidden + out.dense(mixed.transpose(1, 2).flatten(2)))
        inner = functional.gelu(self.intermediate.dense(hidden))
        return self.output.LayerNorm(hidden + self.output.dense(inner))


def _residual(size: int, hidden: int, epsilon: float) -> nn.Module:
    module = nn.Module()
    module.dense = nn.Linear(size, hidden)
    module.LayerNorm = nn.LayerNorm(hidden, epsilon)
    return module


def load_bert(folder: Path) -> Bert:
    """A BERT encoder from `config.json` and `model.safetensors`, fp32, on the CPU, ready to run.

    Raises:
        Missing: a weight is missing or unexpected; only the unused pooler and the stored position ids of
            old checkpoints may be left over.
    """
    config = json.loads((folder / "config.json").read_text())
    model = Bert(config)  # not on "meta": initialising there imports torch._dynamo, .7 s of every cold search
    state = {
        key.removeprefix("bert."): value for key, value in load_file(folder / "model.safetensors").items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    unused = [key for key in unexpected if not key.startswith("pooler.") and key != "embeddings.position_ids"]
    if missing or unused:
        raise Missing(
            f"{folder / 'model.safetensors'} is not a BERT encoder: missing {missing[:3]}, unexpected {unused[:3]}"
        )
    return model.eval().requires_grad_(False)
