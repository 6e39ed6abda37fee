"""Models as sentence-transformers loads them by itself, one kind of its classes or another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pagelens.backbones.checkpoints import choose_device, choose_dtype, fingerprint
from pagelens.errors import Missing, UsageError
from pagelens.weights import locate

Kind: TypeAlias = Literal["SentenceTransformer", "SparseEncoder", "MultiVectorEncoder"]
"""Of that library's classes: one vector, a sparse one, several."""


class SentenceTransformerModel:
    """A model, loaded.

    Args:
        name: What people call it: of a folder below `models`, else `repository`.
        repository: On the Hugging Face hub, or a folder.
        revision: Commit of the repository.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.
        models: Folder with a folder a model; default `$PAGELENS_MODELS`.
        assume: The kind of a model whose files do not say it; default: by what they hold.

    Raises:
        UsageError: the model needs code from its repository.
        Missing: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        repository: str,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        models: Path | None = None,
        assume: Kind | None = None,
    ) -> None:
        try:
            import sentence_transformers
        except ImportError as error:
            raise Missing(f"{name} needs sentence-transformers: pip install 'pagelens[rerank]'") from error
        self.name, self.device = name, choose_device(device)
        folder = locate(name, repository, revision, models)
        try:
            self.kind = _kind(folder, assume)
            # Code of a model's repository is never run; a part without safetensors is read by torch's loader
            # of weights alone.
            self.model: Any = getattr(sentence_transformers, self.kind)(
                str(folder),
                device=str(self.device),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": choose_dtype(dtype, self.device)},
            )
            self.weights = fingerprint(folder, whole=True)
            """Which weights these are."""
        except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "trust_remote_code" in str(error):
                raise UsageError(
                    f"{name} needs code from its repository, and none is ever run here"
                ) from error
            raise Missing(f"{name} in {folder} cannot be loaded ({reason})") from error
        self.size = int(self.model.get_embedding_dimension())


def _kind(folder: Path, assume: Kind | None) -> Kind:
    """Which class a model is of, by its own files."""

    def read(name: str) -> Any:
        path = folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    kinds: tuple[Kind, ...] = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder")
    said = read("config_sentence_transformers.json").get("model_type")
    for kind in kinds:
        if kind == said:
            return kind
    if said:
        return "MultiVectorEncoder"  # older names of such models, as "ColBERT"
    if assume:
        return assume
    modules = read("modules.json")
    if any("Splade" in each["type"] for each in modules):
        return "SparseEncoder"
    # SPLADE was published as a bare masked language model, before that library knew it.
    bare = not modules and "ForMaskedLM" in "".join(read("config.json").get("architectures") or ())
    return "SparseEncoder" if bare else "SentenceTransformer"
