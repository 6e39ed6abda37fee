"""Visual encoders of late interaction against colpali-engine: a part of `make parity`.

Tiny checkpoints in the published layouts; pages of several shapes and questions as transformers' processors
prepare them, given to colpali-engine's classes in an environment of their own. The table goes to
`benchmark-output/parity_encoders.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import PARITY, ROOT, TOLERANCE, TORCH, environment
from safetensors.numpy import load_file
from safetensors.torch import save_file
from test_visual import LATE, PAGES, QUESTIONS, WRITERS, by_place, native

from pagelens.encoders import load_encoder

WORK = PARITY / "encoders"
ENGINE = [
    TORCH,
    ["transformers==5.23.0", "pillow", "peft==0.20.0", "requests", "scipy"],
    ["--no-deps", "torchvision==0.28.0", "colpali-engine==0.3.18"],
]
"""What pip installs, call by call."""


def main() -> int:
    """Print the table; 1 if a family is further off than the tolerance."""
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Any] = {}
    sides: list[Any] = [*PAGES, *QUESTIONS]
    ours = {}
    for name in LATE:
        folder = WRITERS[name](WORK / name)
        encoder = load_encoder(name, folder, "cpu", "float32")
        _, processor = native(name, folder)
        for number, side in enumerate(sides):
            is_page = not isinstance(side, str)
            batch = processor.process_images([side]) if is_page else processor.process_queries([side])
            key = f"{name}/{number}"
            inputs |= {f"{key}/{each}": value for each, value in batch.items() if each != "labels"}
            inputs[f"{key}/kept"] = (
                batch["input_ids"] == processor.image_token_id if is_page else batch["input_ids"] >= 0
            )
            ours[key] = encoder.encode_query(side)
    save_file({key: each.contiguous() for key, each in inputs.items()}, WORK / "inputs.safetensors")
    script = Path(__file__).with_name("parity_colpali_engine.py")
    subprocess.run([environment("colpali-engine", ENGINE), script, WORK], check=True)
    theirs = load_file(WORK / "vectors.safetensors")
    rows: list[dict[str, Any]] = []
    print(f"{'encoder':18}{'pages':>10}{'questions':>12}")
    for name in LATE:
        off = [
            float(np.abs(ours[key] - _in_order(name, theirs[key], side)).max())
            for number, side in enumerate(sides)
            for key in [f"{name}/{number}"]
        ]
        pages, questions = max(off[: len(PAGES)]), max(off[len(PAGES) :])
        rows.append({"encoder": name, "pages": pages, "questions": questions})
        print(f"{name:18}{pages:10.1e}{questions:12.1e}")
    versions = json.loads((WORK / "versions.json").read_text(encoding="utf-8"))
    output = ROOT / "benchmark-output" / "parity_encoders.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1), encoding="utf-8")
    return int(any(max(row["pages"], row["questions"]) > TOLERANCE for row in rows))


def _in_order(name: str, vectors: np.ndarray, side: Any) -> np.ndarray:
    """Tiles put together to a page, where a model looks at tiles."""
    tiled = name == "colmodernvbert" and not isinstance(side, str)
    return by_place(vectors, *side.size) if tiled else vectors


if __name__ == "__main__":
    sys.exit(main())
