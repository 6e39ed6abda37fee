"""colpali-engine over the inputs of `parity_encoders.py`; in an environment of its own, without pagelens.

Usage: `python parity_colpali_engine.py FOLDER`; vectors go to `FOLDER/vectors.safetensors`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from parity_references import let_torchvision_be_imported
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

RENAMED: Mapping[str, Mapping[str, str]] = {
    "colqwen2": {r"^vlm\.model\.": "", r"^embedding_proj_layer": "custom_text_proj"},
    "colpali-1.3": {
        r"^vlm\.language_model\.lm_head": "model.lm_head",
        r"^vlm\.language_model\.model\.": "model.model.language_model.",
        r"^vlm\.vision_tower\.vision_model\.": "model.model.vision_tower.",
        r"^vlm\.": "model.model.",
        r"^embedding_proj_layer": "custom_text_proj",
    },
    "colmodernvbert": {r"^vlm\.": "model.", r"^embedding_proj_layer": "custom_text_proj"},
}
"""Names in transformers' layout -> in colpali-engine's, the first that fits."""


def load(name: str, folder: Path) -> nn.Module:
    """The engine's class with the checkpoint's weights, no more and no less."""
    from colpali_engine.models import ColModernVBert, ColPali, ColQwen2
    from transformers import ModernVBertConfig, PaliGemmaConfig, Qwen2VLConfig

    kinds: dict[str, tuple[Any, Any]] = {
        "colqwen2": (ColQwen2, Qwen2VLConfig),
        "colpali-1.3": (ColPali, PaliGemmaConfig),
        "colmodernvbert": (ColModernVBert, ModernVBertConfig),
    }
    kind, config = kinds[name]
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "model.safetensors")
    size, hidden = stored["embedding_proj_layer.weight"].shape
    model: nn.Module = kind(config(**about["vlm_config"]))
    model.custom_text_proj = nn.Linear(hidden, size)  # the engine has 128 numbers a vector, always
    weights = {renamed(key, RENAMED[name]): value for key, value in stored.items()}
    missing, strange = model.load_state_dict(weights, strict=False)
    strange = [key for key in strange if "lm_head" not in key]  # a head that nobody uses
    missing = [key for key in missing if "lm_head" not in key]
    assert not missing and not strange, (name, missing, strange)
    return model.float().eval()


def renamed(key: str, names: Mapping[str, str]) -> str:
    """The engine's name of a weight."""
    for pattern, new in names.items():
        if re.search(pattern, key):
            return re.sub(pattern, new, key)
    return key


@torch.no_grad()
def main() -> None:
    """Encode every page and question."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    if torch.version.cuda is None:
        let_torchvision_be_imported()
    inputs = load_file(folder / "inputs.safetensors")
    sides: dict[str, dict[str, Tensor]] = {}
    for key, value in inputs.items():
        side, _, each = key.rpartition("/")
        sides.setdefault(side, {})[each] = value
    models = {name: load(name, folder / name) for name in RENAMED}
    vectors = {}
    for key, batch in sides.items():
        name, kept = key.partition("/")[0], batch.pop("kept")
        if name == "colqwen2" and "pixel_values" in batch:
            batch["pixel_values"] = batch["pixel_values"][None]  # padded to one length a page
            batch["mm_token_type_ids"] = kept.int()
        vectors[key] = models[name](**batch)[0][kept[0]].contiguous()
    save_file(vectors, folder / "vectors.safetensors")
    versions = {each: version(each) for each in ("torch", "transformers", "colpali-engine")}
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


if __name__ == "__main__":
    main()
