"""What depends on a page alone: computed once, kept on the device, in memory and beside the page image.

A file is named by the page, the page image's digest, and a digest of all that shaped the features: model,
revision, prompt, pixel budget, type. So features of another revision are never found, rather than refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from threading import Lock
from typing import NamedTuple, Protocol

import safetensors.torch
import torch
from cachetools import LRUCache
from safetensors import SafetensorError
from torch import Tensor

from pagelens.backbones.prompts import Vision
from pagelens.backbones.qwen_vl import Prefix
from pagelens.errors import DocumentError
from pagelens.records import StoredFile

logger = logging.getLogger(__name__)

Features = Vision | Prefix
SUFFIX = ".safetensors"
HOST_BYTES, DEVICE_BYTES = 8 << 30, 4 << 30
"""Of features kept in memory and on a device; the least recently used go first."""


class Key(NamedTuple):
    """A page as its image shows it."""

    page_id: str
    image: str
    """SHA-256 of the page image's file, hex."""


class Files(Protocol):
    """Where features go: beside the page image, as `store.pages.PageFiles` keeps them."""

    def get(self, page_id: str, suffix: str) -> bytes:
        """A file's bytes; DocumentError when it is not there."""

    def put(self, page_id: str, suffix: str, data: bytes) -> str:
        """Write a file, whole or not at all."""

    def has(self, page_id: str, suffix: str) -> bool:
        """Whether it is there."""

    def touch(self, page_id: str, suffix: str) -> None:
        """It was used now."""

    def stored(self, suffix: str) -> Iterable[StoredFile]:
        """All files that end so."""

    def unlink(self, path: str) -> None:
        """Remove one of them."""


class PageFeatures:
    """Features of one model at one level.

    Args:
        kind: `Vision` or `Prefix`.
        signature: All that shaped them.
        device: Where they are needed.
        files: Where they are kept for good; None: in memory alone.
        int8: Keep them in a quarter to half of the bytes; scores then differ.
        cap: Bytes of files at most; None: no limit.
        host_bytes: Kept in the CPU's memory.
        device_bytes: Kept on the device, where that is not the CPU.
    """

    def __init__(
        self,
        kind: type[Vision] | type[Prefix],
        signature: str,
        device: torch.device,
        files: Files | None = None,
        int8: bool = False,
        cap: int | None = None,
        host_bytes: int = HOST_BYTES,
        device_bytes: int = DEVICE_BYTES,
    ) -> None:
        self.signature = f"{signature} int8" if int8 else signature
        self._kind, self._device, self._files, self._int8, self._cap = kind, device, files, int8, cap
        self._name = f".{hashlib.sha256(self.signature.encode()).hexdigest()[:12]}"
        self._lock = Lock()
        self.resize(host_bytes, device_bytes)
        self._on_disk: int | None = None

    def resize(self, host_bytes: int, device_bytes: int) -> None:
        """Keep so much in memory and on the device; what was there is forgotten."""
        with self._lock:
            self._host: LRUCache[Key, Features] = LRUCache(host_bytes, getsizeof=size)
            near = device_bytes if self._device.type != "cpu" else 0
            self._near: LRUCache[Key, Features] = LRUCache(near, getsizeof=size)

    def where(self, key: Key) -> str | None:
        """`"device"`, `"host"`, `"disk"`, or None: they are nowhere."""
        with self._lock:
            for place, cache in (("device", self._near), ("host", self._host)):
                if key in cache:
                    return place
        return "disk" if self.on_disk(key) else None

    def on_disk(self, key: Key) -> bool:
        """Whether they are kept for good."""
        return self._files is not None and self._files.has(key.page_id, self._suffix(key))

    def load(self, key: Key) -> Features | None:
        """The features of a page, from the nearest place; None where they are nowhere, or damaged."""
        with self._lock:
            found = self._near.get(key) or self._host.get(key)
        if found is None and self._files is not None:
            suffix = self._suffix(key)
            try:
                found = self._unpacked(self._files.get(key.page_id, suffix))
            except DocumentError:  # never stored
                return None
            except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
                logger.warning("features of page %s are damaged (%s) and computed anew", key.page_id, error)
                return None
            self._files.touch(key.page_id, suffix)
            if self._device.type == "cuda":
                found = _mapped(found, Tensor.pin_memory)
            self._keep(self._host, key, found)
        if found is not None and self._device.type != "cpu":
            found = _mapped(found, lambda tensor: tensor.to(self._device, non_blocking=True))
            self._keep(self._near, key, found)
        return found

    def store(self, key: Key, features: Features, for_good: bool = False) -> None:
        """Keep the features of a page in memory, and `for_good` as a file.

        Raises:
            OSError: the disk is full.
        """
        features = _mapped(features, _own)
        self._keep(self._near if self._device.type != "cpu" else self._host, key, features)
        if self._files is None or not for_good:
            return
        data = self._packed(features)
        if self._cap is not None:
            self._make_room(len(data), self._cap)
        self._files.put(key.page_id, self._suffix(key), data)

    def packed_size(self, features: Features) -> int:
        """Bytes of the file that would keep them."""
        return len(self._packed(features))

    def limit(self, cap: int | None) -> None:
        """Let files take so many bytes at most from now on; those that were not used for longest go first."""
        self._cap = cap

    def _keep(self, cache: LRUCache[Key, Features], key: Key, features: Features) -> None:
        with self._lock:
            if size(features) <= cache.maxsize:
                cache[key] = features

    def _make_room(self, wanted: int, cap: int) -> None:
        """Remove the files that were not used for longest until `wanted` bytes more are within the cap."""
        assert self._files is not None
        if self._on_disk is None:
            self._on_disk = sum(each.size for each in self._files.stored(SUFFIX))
        if self._on_disk + wanted > cap:
            for each in sorted(self._files.stored(SUFFIX), key=lambda each: each.used):
                if self._on_disk + wanted <= cap:
                    break
                self._files.unlink(each.path)
                self._on_disk -= each.size
        self._on_disk += wanted

    def _suffix(self, key: Key) -> str:
        return f"{self._name}-{key.image[:8]}{SUFFIX}"

    def _packed(self, features: Features) -> bytes:
        tensors = {
            name: each.cpu().contiguous() for name, each in features._asdict().items() if each is not None
        }
        if self._int8:
            tensors = {n: part for name, each in tensors.items() for n, part in _quantised(name, each)}
        return safetensors.torch.save(tensors, {"signature": self.signature})

    def _unpacked(self, data: bytes) -> Features:
        tensors = safetensors.torch.load(data)
        for name in [name for name in tensors if name.endswith(_SCALE)]:
            scale, base = tensors.pop(name), name.removesuffix(_SCALE)
            tensors[base] = (tensors[base].float() * scale.float()).to(scale.dtype)
        return self._kind(**tensors)


_SCALE = ".scale"


def _quantised(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor as int8 and a scale for each of its rows; whole numbers stay as they are."""
    if not tensor.is_floating_point():
        return [(name, tensor)]
    scale = tensor.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return [(name, (tensor / scale).round().to(torch.int8)), (name + _SCALE, scale)]


def _mapped(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """With every tensor changed that is large; the numbers beside them stay where Python reads them."""
    changed = {
        name: change(each) if each is not None and each.is_floating_point() else each
        for name, each in features._asdict().items()
    }
    return type(features)(**changed)


def _own(tensor: Tensor) -> Tensor:
    """A copy in memory of its own: a part of a batch would keep the whole batch there."""
    return tensor.clone(memory_format=torch.contiguous_format)


def size(features: Features) -> int:
    """Bytes."""
    return sum(each.nbytes for each in features if each is not None)
