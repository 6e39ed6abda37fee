"""Published weights onto a device, or an error: never a model of which a part was left at random."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as library_logging
from transformers.utils.import_utils import is_flash_attn_2_available

from pagelens.errors import Missing, UsageError

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=PreTrainedModel)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""One file, or the table of several: what a folder of weights has of the two."""
ROOM = 1.3
"""Weights take this times their bytes on a device before any work is done with them: what is left must hold
the largest batch."""
BUS = 16e9
"""Bytes a second from the CPU's memory to a device, about what PCIe 4.0 with 16 lanes gives."""


def choose_device(wanted: str = "auto") -> torch.device:
    """The device to compute on: `auto` is the first CUDA device, else Apple's, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if wanted == "auto":
        mps = torch.backends.mps.is_available()
        wanted = "cuda:0" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"there is no device {wanted!r} here ({reason}); leave it out, or say cpu"
        ) from error
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The type to compute in: `auto` is bfloat16 where the device computes in it, else float32.

    Raises:
        UsageError: it is none of `DTYPES`.
    """
    if wanted == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if wanted not in DTYPES:
        raise UsageError(f"there is no dtype {wanted!r}; choose one of auto, {', '.join(DTYPES)}")
    return DTYPES[wanted]


def attention(device: torch.device, dtype: torch.dtype) -> str:
    """How attention is computed: FlashAttention 2 where it is installed and can be used, else torch's own."""
    usable = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    return "flash_attention_2" if usable and is_flash_attn_2_available() else "sdpa"


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` of a folder of weights says.

    Raises:
        Missing: it is not there, or no JSON.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Missing(f"{folder} holds no model: its config.json cannot be read ({error})") from error
    return config


def load_model(
    kind: type[Model],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    left_over: Callable[[str], bool] = lambda key: False,
    missing: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    **options: Any,
) -> Model:
    """A model from safetensors, ready to run, every weight of it from the file.

    The library fills what a file lacks at random and says so in a log alone; with that a score is wrong
    without an error. Here that is an error.

    Args:
        kind: The class; sizes come from the folder's `config.json`.
        folder: Where the weights are.
        device: Where they go. One too small for them keeps the rest in the CPU's memory, with a warning.
        dtype: What they are turned into.
        left_over: Whether a key of the file is one that the class has no use for.
        missing: Keys of the class that the file does not have, and that nobody uses.
        renamed: Pattern in the file's keys -> what stands for it in the class's.
        options: For `from_pretrained`.

    Raises:
        Missing: the weights are not there, are damaged, or are not exactly those of the class.
    """
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise Missing(
            f"{folder} holds no {' and no '.join(WEIGHTS)}; weights are read from safetensors alone"
        )
    level = library_logging.get_verbosity()
    library_logging.set_verbosity_error()  # its report of what is missing: said below, as an error
    library_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = kind.from_pretrained(
                folder,
                dtype=dtype,
                device_map=_placement(folder, device, dtype),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                key_mapping=dict(renamed) if renamed else None,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise Missing(f"the weights in {folder} cannot be loaded as {kind.__name__} ({reason})") from error
    finally:
        library_logging.set_verbosity(level)
        library_logging.enable_progress_bar()
    model, said = loaded
    lacking = set(said["missing_keys"]) ^ set(missing)
    strange = {key for key in said["unexpected_keys"] if not left_over(key)}
    if lacking or strange or said["mismatched_keys"]:
        raise Missing(
            f"the weights in {folder} are not those of {kind.__name__}: missing or needless "
            f"{_few(lacking)}, unexpected {_few(strange)}, of another shape {_few(said['mismatched_keys'])}"
        )
    ready: Model = model.eval().requires_grad_(False)
    return ready


def read_tensors(folder: Path, names: Sequence[str], rows: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Some tensors of a folder of weights, in float32 on the CPU; `rows` of them alone if given.

    Raises:
        Missing: one is not there, or the file is damaged.
    """
    index = folder / WEIGHTS[1]
    try:
        table = json.loads(index.read_text())["weight_map"] if index.is_file() else {}
        found = {}
        for name in names:
            with safe_open(folder / table.get(name, WEIGHTS[0]), "pt") as file:
                part = file.get_slice(name)
                picked = torch.stack([part[row] for row in rows]) if rows is not None else part[:]
            found[name] = picked.float()
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise Missing(f"{folder} lacks one of the weights {', '.join(names)} ({error})") from error
    return found


def read_whole(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder of weights, on the CPU, as they are stored.

    Raises:
        Missing: a file is damaged.
    """
    try:
        files = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    except (OSError, SafetensorError) as error:
        raise Missing(f"the weights in {folder} cannot be read ({error})") from error
    return {name: tensor for file in files for name, tensor in file.items()}


def has_tensor(folder: Path, name: str) -> bool:
    """Whether a folder of weights has one of that name.

    Raises:
        Missing: there are none, or they are damaged.
    """
    if not any((folder / each).is_file() for each in WEIGHTS):
        raise Missing(
            f"{folder} holds no {' and no '.join(WEIGHTS)}; weights are read from safetensors alone"
        )
    index = folder / WEIGHTS[1]
    if index.is_file():
        return name in json.loads(index.read_text())["weight_map"]
    try:
        with safe_open(folder / WEIGHTS[0], "pt") as file:
            return name in file.keys()  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise Missing(f"the weights in {folder} cannot be loaded ({error})") from error


def _placement(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """`device_map` of `from_pretrained`: the device, or `auto` where it cannot hold the weights."""
    if device.type != "cuda":
        return {"": device}
    size = dtype.itemsize * ROOM * _numbers(folder)
    free, _ = torch.cuda.mem_get_info(device)
    if size <= free:
        return {"": device}
    logger.warning(
        "the weights in %s take %.1f GB and the device has %.1f GB free: the rest stays in the CPU's "
        "memory and goes over the bus for every batch, %.1f s each or more; a smaller model would not",
        folder,
        size / 1e9,
        free / 1e9,
        (size - free) / BUS,
    )
    return "auto"


def _numbers(folder: Path) -> int:
    """How many numbers a folder of weights holds; no more than the heads of its files is read."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            count += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)
    return count


def _few(keys: Any) -> str:
    names = sorted(map(str, keys))
    return f"{len(names)} ({', '.join(names[:3])})" if names else "none"


def fingerprint(folder: Path, whole: bool = False) -> str:
    """A name for weights that have no revision: of the configuration, and of both ends of each file.

    Reading all of them would take longer than loading them. A changed model changes its file's head (names,
    shapes, places) or, trained on, what stands at its ends.

    Args:
        folder: Of the model.
        whole: Of every file, also further down: a model of several parts, each with weights and settings.
    """
    if whole:
        digest = hashlib.sha256()
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    else:
        digest = hashlib.sha256((folder / "config.json").read_bytes())
        paths = list(folder.glob("*.safetensors"))
    for path in sorted(paths):
        if whole:
            digest.update(f"{path.relative_to(folder)}\n".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            digest.update(file.read(_END))
            file.seek(max(0, path.stat().st_size - _END))
            digest.update(file.read(_END))
    return digest.hexdigest()[:12]


_END = 1 << 20
