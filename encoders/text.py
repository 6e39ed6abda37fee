"""A page as windows of its text, a vector each: the page is as near as its nearest window."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How a page's text is cut."""

    words: int = 100
    """Words in a window: about 130 tokens, well under the model's 256."""
    stride: int = 100
    """Words from one window's start to the next."""

    @property
    def signature(self) -> str:
        """What changes when the windows would."""
        return f"windows {self.words}/{self.stride}"


def windows(text: str, settings: WindowSettings) -> list[str]:
    """Cut a text into windows of words; a short rest joins the last window.

    >>> windows("a b c d e f g", WindowSettings(words=3, stride=3))
    ['a b c', 'd e f g']
    """
    words = text.split()
    starts = range(0, max(1, len(words) - settings.words // 2), settings.stride)
    cuts = [words[start : start + settings.words] for start in starts]
    cuts[-1] = words[starts[-1] :]
    return [" ".join(cut) for cut in cuts if cut]


class TextEncoder:
    """all-MiniLM-L6-v2 (Reimers & Gurevych, arXiv 1908.10084): mean of the token states, length 1.

    Args:
        folder: Where `config.json`, `tokenizer.json` and `model.safetensors` are.
        revision: Of the weights, for the signature.
        cut: How pages are cut into windows.
    """

    size = 384
    tokens = 256  # sentence_bert_config.json of the model: max_seq_length
    batch_tokens = 1024  # larger ones are not faster, and 4096 left the process 200 MB larger after 64 pages

    def __init__(self, folder: Path, revision: str, cut: WindowSettings | None = None) -> None:
        from tokenizers import Tokenizer

        from pagelens.backbones.bert import load_bert

        self._model = load_bert(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.tokens)
        self._cut = cut or WindowSettings()
        self.signature = f"all-minilm-l6-v2@{revision[:8]} fp32 {self._cut.signature}"

    def encode_pages(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """One float32 matrix a page, *Shape:* (windows, 384); None for a page without words."""
        cuts = [windows(text, self._cut) for text in texts]
        rows = iter(self._encode([window for cut in cuts for window in cut]))
        vectors = [np.stack([next(rows) for _ in cut]) if cut else None for cut in cuts]
        _give_memory_back()
        return vectors

    def encode_query(self, text: str) -> np.ndarray:
        """*Shape:* (1, 384), float32: a matrix of one row, as the store asks multivectors."""
        import torch

        # A question is too short to share: on a busy machine two threads that wait for each other took 50 ms,
        # one took 12.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return np.stack(self._encode([text]))
        finally:
            torch.set_num_threads(threads)

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        """Vectors in the order of `texts`, computed in batches of like length."""
        encodings = self._tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
        batch: list[int] = []
        for position, i in enumerate(order):
            batch.append(i)
            following = order[position + 1] if position + 1 < len(order) else None
            if following is None or (len(batch) + 1) * len(encodings[following].ids) > self.batch_tokens:
                for j, vector in zip(batch, self._forward([encodings[j] for j in batch]), strict=True):
                    vectors[j] = vector
                batch = []
        return vectors

    def _forward(self, encodings: list[Encoding]) -> np.ndarray:
        import torch

        longest = max(len(each.ids) for each in encodings)
        ids = torch.zeros(len(encodings), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, each in enumerate(encodings):
            ids[row, : len(each.ids)] = torch.tensor(each.ids)
            mask[row, : len(each.ids)] = 1
        with torch.inference_mode():
            hidden = self._model(ids, mask)  # (batch, tokens, 384)
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(mean, dim=-1).numpy()


def _give_memory_back() -> None:
    """Return what was freed to the system, where the C library (glibc) keeps it.

    Arrays of ever new sizes leave its heap in shreds: without this a process that had encoded 480 pages held
    700 MB, with it 160.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
