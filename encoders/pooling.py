"""Fewer vectors a page: means over blocks of it, over its rows and columns, over patches that are alike.

All take and give vectors of length 1, float32, *shape:* (vectors, size).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # it loads torch
    from pagelens.encoders.visual import Grid

FACTOR = 3
"""Patches to one vector: at 3, 97.8% of ColPali's quality was left (README of colpali-engine 0.3.18)."""


BLOCKS = (4, 2)
"""Rows and columns of blocks; `benchmarks/first_stage.py` has what fewer and more of them lose."""


def blocks(vectors: np.ndarray, grid: Grid) -> np.ndarray:
    """The means of 4 x 2 blocks of the first grid, row by row; fewer where it has fewer rows or columns.

    Where the grid is not known, of as many clusters of patches that are alike.
    """
    if not grid:
        return hierarchical(vectors, math.prod(BLOCKS))
    (rows, columns), *_ = grid
    own = vectors[: rows * columns].reshape(rows, columns, -1)
    parts = [
        block.mean(axis=(0, 1))
        for band in np.array_split(own, min(rows, BLOCKS[0]))
        for block in np.array_split(band, min(columns, BLOCKS[1]), axis=1)
    ]
    return _lengths_of_1(np.stack(parts))


def rows_and_columns(vectors: np.ndarray, grid: Grid) -> np.ndarray:
    """The mean of every row and of every column of each grid, in that order."""
    pooled, start = [], 0
    for rows, columns in grid:
        own = vectors[start : start + rows * columns].reshape(rows, columns, -1)
        pooled += [own.mean(axis=1), own.mean(axis=0)]
        start += rows * columns
    return _lengths_of_1(np.concatenate(pooled))


def hierarchical(vectors: np.ndarray, count: int | None = None) -> np.ndarray:
    """The means of so many clusters of patches that are alike; default: one for every `FACTOR` patches.

    Ward's clustering (1963), as Clavié et al. pool late interaction (arXiv 2409.14683).
    """
    labels = _clusters(vectors, count or math.ceil(len(vectors) / FACTOR))
    return _lengths_of_1(np.stack([vectors[labels == each].mean(axis=0) for each in range(labels.max() + 1)]))


def _clusters(vectors: np.ndarray, count: int) -> np.ndarray:
    """A number from 0 for each vector: the cluster it is in when `count` are left.

    By chains of nearest neighbours (Müllner, arXiv 1109.2378, section 3.2): as many steps as vectors, each
    over one row of distances.
    """
    total = len(vectors)
    own = vectors.astype(np.float64)
    distances = _squared(own)
    np.fill_diagonal(distances, np.inf)
    sizes = np.ones(total)
    merges: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(merges) < total - 1:
        if not chain:
            chain = [int(np.flatnonzero(sizes)[0])]
        last = chain[-1]
        nearest = int(distances[last].argmin())
        if len(chain) > 1 and distances[last, chain[-2]] <= distances[last, nearest]:
            nearest = chain[-2]  # of equals the one it came from, or the chain would never end
        if len(chain) < 2 or nearest != chain[-2]:
            chain.append(nearest)
            continue
        chain = chain[:-2]
        merges.append((float(distances[last, nearest]), last, nearest))
        # Lance and Williams: from the new cluster to all others
        both = sizes[last] + sizes[nearest]
        merged = (sizes + sizes[last]) * distances[last] + (sizes + sizes[nearest]) * distances[nearest]
        merged = (merged - sizes * distances[last, nearest]) / (sizes + both)
        sizes[last], sizes[nearest] = both, 0
        merged[(sizes == 0) | (np.arange(total) == last)] = np.inf
        distances[last] = distances[:, last] = merged
        distances[nearest] = distances[:, nearest] = np.inf
    parents = np.arange(total)
    for _, kept, gone in sorted(merges, key=lambda merge: merge[0])[: total - count]:
        parents[parents == parents[gone]] = parents[kept]
    labels: np.ndarray = np.unique(parents, return_inverse=True)[1]
    return labels


def _squared(own: np.ndarray) -> np.ndarray:
    lengths = (own**2).sum(-1)
    squared: np.ndarray = lengths[:, None] + lengths[None] - 2 * own @ own.T
    return squared.clip(min=0)


def _lengths_of_1(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
