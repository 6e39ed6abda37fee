"""BERT written out, and the loading of its weights.

The library's own costs more than it gives: `import transformers.models.bert` was measured at 3 s on top of
torch, on every cold search.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

# Read by torch when it is imported: its threads wait for each other asleep. Spinning, two of them on a busy
# machine of two cores took 1.6 times the processor time of one alone; asleep, 1.05 times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from pagelens.errors import Missing  # noqa: E402


class Bert(nn.Module):
    """BERT's encoder (Devlin et al., arXiv 1810.04805) without dropout and pooler.

    Module names follow the published checkpoints, so that their keys load as they are.
    """

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of the last layer.

        Args:
            ids: Token ids, *Shape:* (batch, tokens).
            mask: 1 for tokens, 0 for padding, same shape.

        Returns:
            *Shape:* (batch, tokens, hidden).
        """
        attend = mask[:, None, None, :].bool()  # (batch, heads, queries, keys), broadcast
        hidden: Tensor = self.encoder(self.embeddings(ids), attend)
        return hidden


class _Embeddings(nn.Module):
    """A token's word, place and segment (always the first), added and normalised."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], hidden)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], hidden)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], hidden)
        self.LayerNorm = nn.LayerNorm(hidden, config["layer_norm_eps"])

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device))
        hidden = self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0]
        normalised: Tensor = self.LayerNorm(hidden)
        return normalised


class _Layers(nn.Module):
    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, hidden: Tensor, attend: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, attend)
        return hidden


class _Layer(nn.Module):
    """Self-attention, then two dense layers; each added to its input and normalised after."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        hidden, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.attention = _Attention(hidden, config["num_attention_heads"], epsilon)
        self.intermediate = _Dense(hidden, inner)
        self.output = _Residual(inner, hidden, epsilon)

    def forward(self, hidden: Tensor, attend: Tensor) -> Tensor:
        hidden = self.attention(hidden, attend)
        inner = functional.gelu(self.intermediate.dense(hidden))
        out: Tensor = self.output(inner, hidden)
        return out


class _Attention(nn.Module):
    def __init__(self, hidden: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.self = _SelfAttention(hidden, heads)
        self.output = _Residual(hidden, hidden, epsilon)

    def forward(self, hidden: Tensor, attend: Tensor) -> Tensor:
        out: Tensor = self.output(self.self(hidden, attend), hidden)
        return out


class _SelfAttention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, hidden: Tensor, attend: Tensor) -> Tensor:
        def split(linear: nn.Linear) -> Tensor:  # (batch, heads, tokens, head size)
            projected: Tensor = linear(hidden)
            return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query), split(self.key), split(self.value), attn_mask=attend
        )
        return mixed.transpose(1, 2).flatten(2)


class _Dense(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, hidden)


class _Residual(nn.Module):
    """A dense layer, added to what came before it and normalised."""

    def __init__(self, size: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(size, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, epsilon)

    def forward(self, new: Tensor, before: Tensor) -> Tensor:
        normalised: Tensor = self.LayerNorm(before + self.dense(new))
        return normalised


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
            f"{folder / 'model.safetensors'} is not a BERT encoder: missing {missing[:3]}, "
            f"unexpected {unused[:3]}"
        )
    return model.eval().requires_grad_(False)
