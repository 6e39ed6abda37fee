"""The straight-line rerankers of `tests/` against other people's code, and against pagelens: `make parity`.

Tiny checkpoints in the published layouts, a fixed set of pairs, one environment a reference. The models are
compared over the same pixel values; how far a reference's own image preparation is off stands apart.
Environments (about 1.3 GB each) stay in `.parity/`; the table goes to `benchmark-output/parity.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from straight_line import (
    QWEN3_INSTRUCTION,
    ids_jina,
    ids_nemotron,
    ids_qwen3_vl,
    images_of,
    pixels_jina,
    pixels_nemotron,
    pixels_qwen3_vl,
    score_jina,
    score_nemotron,
    score_qwen3_vl,
)
from tiny_checkpoints import write_jina, write_nemotron, write_qwen3_vl
from torch import Tensor

from pagelens.rerankers import Level, load_reranker

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT / ".parity"
WORK = PARITY / "pairs"
TORCH = ["torch==2.13.0"]  # before all else, so that nothing brings another build

ENVIRONMENTS: dict[str, list[list[str]]] = {
    "transformers-4": [TORCH, ["transformers==4.57.3", "pillow"]],
    "sentence-transformers": [
        TORCH,
        ["sentence-transformers==6.2.0", "transformers==5.23.0", "pillow"],
        ["--no-deps", "torchvision==0.28.0"],
    ],
    "nemo-automodel": [
        TORCH,
        ["transformers==5.18.0", "pillow", "requests"],
        ["--no-deps", "torchvision==0.28.0", "nemo_automodel==0.7.0"],
    ],
}
"""Reference -> what pip installs, call by call."""

PAGELENS: dict[str, tuple[str, tuple[Level, ...]]] = {
    "jina": ("jina-m0", ("none", "vision", "prefix")),
    "qwen3-vl": ("qwen3-vl-2b", ("none", "vision")),
    "nemotron": ("nemotron-vl", ("none", "vision")),
}
"""What pagelens calls a model, and the levels at which it keeps a page's features."""

TOLERANCE = 1e-5
"""How far a reference may be off over the same pixels, in single precision."""


def page(width: int, height: int, seed: int) -> Image.Image:
    """Coloured blocks, nowhere two alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 15, width // 15, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BILINEAR)


IMAGES = {"upright.png": page(150, 210, 0), "wide.png": page(230, 120, 1), "large.png": page(620, 877, 2)}

QUERY = {"text": "What is the rent?"}
PAGES: dict[str, dict[str, str]] = {
    "text": {"text": "The rent is 1,250 a month.\n\nyes or no"},
    "image": {"image": "upright.png"},
    "wide image": {"image": "wide.png"},
    "large image": {"image": "large.png"},
    "image and text": {"image": "upright.png", "text": "Lease of the shop"},
    "wide image and text": {"image": "wide.png", "text": "Lease of the shop"},
}


def pairs() -> Iterator[dict[str, Any]]:
    """What is scored: each kind of page for a text, and an image for an image where a model takes one."""
    for model in ("jina", "qwen3-vl", "nemotron"):
        for kind, side in PAGES.items():
            if not (model == "jina" and len(side) == 2):  # it takes the one or the other
                yield {"model": model, "kind": kind, "query": QUERY, "page": side}
    for model in ("jina", "qwen3-vl"):
        query = {"image": "wide.png"}
        yield {"model": model, "kind": "image to image", "query": query, "page": PAGES["image"]}


def side_of(named: Mapping[str, str]) -> Any:
    """A text, an image, or both, as the oracle and pagelens take a side of a pair."""
    if "image" not in named:
        return named["text"]
    image = IMAGES[named["image"]]
    return {"image": image, "text": named["text"]} if "text" in named else image


ORACLE: dict[str, tuple[Callable[..., Path], Callable[..., float], Callable[..., list[int]]]] = {
    "jina": (write_jina, score_jina, ids_jina),
    "qwen3-vl": (write_qwen3_vl, score_qwen3_vl, ids_qwen3_vl),
    "nemotron": (write_nemotron, score_nemotron, ids_nemotron),
}


def prepare() -> list[dict[str, Any]]:
    """Checkpoints, images, pairs with the oracle's scores, their ids and pixels: all a reference needs."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name, image in IMAGES.items():
        image.save(WORK / name)
    for name, (write, _, _) in ORACLE.items():
        write(WORK / name)
    written, tensors = [], {}
    for number, pair in enumerate(pairs()):
        model, id = pair["model"], f"{number:02}"
        _, score, ids = ORACLE[model]
        folder, query, seen = WORK / model, side_of(pair["query"]), side_of(pair["page"])
        order = (seen, query) if model == "jina" else (query, seen)
        tensors[f"{id}/ids"] = torch.tensor(ids(folder, query, seen))
        tensors |= {f"{id}/{name}": each for name, each in pixels(model, folder, images_of(*order)).items()}
        written.append(
            {"id": id, **pair, "instruction": QWEN3_INSTRUCTION, "score": score(folder, query, seen)}
        )
    (WORK / "pairs.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    save_file(tensors, WORK / "pairs.safetensors")
    return written


def pixels(model: str, folder: Path, images: list[Image.Image]) -> dict[str, Tensor]:
    """What the oracle sees of the images of a pair."""
    if not images:
        return {}
    if model == "nemotron":
        return {"pixels": torch.cat([pixels_nemotron(folder, image) for image in images])}
    cut = [(pixels_jina if model == "jina" else pixels_qwen3_vl)(folder, image) for image in images]
    return {
        "pixels": torch.cat([patches for patches, _ in cut]),
        "grids": torch.tensor([[1, *grid] for _, grid in cut]),
    }


def by_pagelens(model: str, level: Level, own: list[dict[str, Any]]) -> dict[str, Any]:
    """What a reference writes, of pagelens: scores over the pixels that it makes itself."""
    name, _ = PAGELENS[model]
    reranker = load_reranker(name, WORK / model, device="cpu", dtype="float32", features=level)
    scored = {
        pair["id"]: (reranker.score(side_of(pair["query"]), [side_of(pair["page"])])[0], None, None)
        for pair in own
    }
    return {
        "versions": {"pagelens": version("pagelens"), "transformers": version("transformers")},
        "scored": scored,
    }


def environment(name: str, calls: Sequence[Sequence[str]]) -> Path:
    """Python of the environment, made if it is not there or asks for something else now.

    Args:
        name: Of its folder.
        calls: What pip installs, call by call.
    """
    folder, wanted = PARITY / name, json.dumps(calls)
    stamp, python = folder / "installed.json", folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for packages in calls:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def main() -> int:
    """Print the table; 1 if a reference is further off than the tolerance."""
    torch.set_num_threads(1)
    written = prepare()
    by_model = {name: [pair for pair in written if pair["model"] == name] for name in ORACLE}
    rows = [
        compared(f"pagelens, {level}", model, own, by_pagelens(model, level, own))
        for model, own in by_model.items()
        for level in PAGELENS[model][1]
    ]
    for reference in ENVIRONMENTS:
        script = Path(__file__).with_name("parity_references.py")
        subprocess.run([environment(reference, ENVIRONMENTS[reference]), script, reference, WORK], check=True)
        found = json.loads((WORK / f"{reference}.json").read_text(encoding="utf-8"))
        rows += [
            compared(reference, model, own, found)
            for model, own in by_model.items()
            if own[0]["id"] in found["scored"]
        ]
    print(f"{'reference':24}{'model':10}{'pairs':>6}{'scores':>10}{'own pixels':>12}{'their scores':>14}")
    for row in rows:
        print(
            f"{row['reference']:24}{row['model']:10}{row['pairs']:6}{row['score']:10.1e}"
            + (f"{row['pixels']:12.1e}{row['score_own_pixels']:14.1e}" if row["pixels"] is not None else "")
        )
    output = ROOT / "benchmark-output" / "parity.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps({"rows": rows, "pairs": written}, indent=1), encoding="utf-8")
    return int(any(row["score"] > TOLERANCE for row in rows))


def compared(
    reference: str, model: str, own: list[dict[str, Any]], found: Mapping[str, Any]
) -> dict[str, Any]:
    """The largest differences of a reference from the oracle, over the pairs of one model.

    `score`: over the same pixels. `pixels`: of the image preparations, in normalised units.
    `score_own_pixels`: what that makes of the score. None where it brings no preparation of its own.
    """
    scored = [(pair["score"], *found["scored"][pair["id"]]) for pair in own]
    alone = [(abs(theirs - ours), off) for ours, _, theirs, off in scored if theirs is not None]
    return {
        "reference": reference,
        "versions": found["versions"],
        "model": model,
        "pairs": len(own),
        "score": max(abs(theirs - ours) for ours, theirs, _, _ in scored),
        "pixels": max((off for _, off in alone), default=None),
        "score_own_pixels": max((difference for difference, _ in alone), default=None),
    }


if __name__ == "__main__":
    sys.exit(main())
