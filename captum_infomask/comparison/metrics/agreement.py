# How alike the maps and the masks of several methods are.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.comparison.localisation import mask_iou

Square: TypeAlias = npt.NDArray[np.float64]
Planes: TypeAlias = Sequence[Sequence[Tensor | None]] | Tensor
Ranks: TypeAlias = npt.NDArray[np.float64]


def spearman(planes: Planes) -> Square:
    """Spearman's rank correlation of every method's maps with every other's.

    Pearson's correlation of the pixels' ranks, where equal pixels share their mean rank.

    Args:
        planes: For each of M methods one map (H, W) per picture, None where there is none; or a
            tensor (M, N, H, W).

    Returns:
        (M, M), from −1 to 1: means over the pictures of which both methods have a map that is not
        the same everywhere; NaN where there is none.

    Raises:
        ArgumentError: Methods differ in the number of pictures, or maps of a picture in size.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.metrics.agreement import spearman
        >>> map_ = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        >>> spearman([[map_], [map_.exp()], [-map_]]).round(3)
        array([[ 1.,  1., -1.],
               [ 1.,  1., -1.],
               [-1., -1.,  1.]])

    Source: ``scipy.stats.spearmanr``.
    """
    ranked = [[None if one is None else centred_ranks(one) for one in row] for row in planes]
    return _square("planes", planes, ranked, correlation)


def mask_iou_matrix(masks: Planes) -> Square:
    """Intersection over union of every method's masks with every other's.

    Args:
        masks: For each of M methods one boolean mask (H, W) per picture, None where there is none;
            or a tensor (M, N, H, W).

    Returns:
        (M, M), from 0 to 1: means over the pictures of which both methods have a mask; NaN where
        there is none. Two empty masks agree.

    Raises:
        ArgumentError: Methods differ in the number of pictures, or masks of a picture in size; a
            mask is not boolean.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.metrics.agreement import mask_iou_matrix
        >>> mask = torch.tensor([[True, False]])
        >>> mask_iou_matrix([[mask], [~mask]])
        array([[1., 0.],
               [0., 1.]])
    """
    return _square("masks", masks, [list(row) for row in masks], _iou)


def centred_ranks(plane: Tensor) -> Ranks:
    """The ranks of a map's pixels, minus their mean, at unit length; all NaN for a constant map."""
    ranks: Ranks = rankdata(plane.detach().cpu().double().numpy(), method="average")
    ranks = ranks - ranks.mean()
    length = np.linalg.norm(ranks)
    return ranks / length if length > 0 else np.full_like(ranks, np.nan)


def correlation(first: Ranks, second: Ranks) -> float:
    """Spearman's correlation of two maps by their ranks."""
    return float(first.ravel() @ second.ravel())


def _iou(first: Tensor, second: Tensor) -> float:
    """The overlap of two masks."""
    return float(mask_iou(first[None, None], second[None, None]))


def _square(
    argument: str, given: Planes, rows: Sequence[Sequence[object]], compare: Callable[..., float]
) -> Square:
    """Compare all pairs, and take means over the pictures that have both."""
    columns = zip(*given, strict=False)
    sizes = [{tuple(one.shape) for one in column if one is not None} for column in columns]
    if len({len(row) for row in rows}) > 1 or any(len(size) > 1 for size in sizes):
        raise ArgumentError(
            f"Expected `{argument}` to hold, for each method, one (H, W) for each of the same "
            f"pictures; got {describe(given)}."
        )
    square = np.full((len(rows), len(rows)), np.nan)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows[: i + 1]):
            pairs = zip(first, second, strict=True)
            found = np.array([compare(a, b) for a, b in pairs if a is not None and b is not None])
            found = found[~np.isnan(found)]
            if len(found):
                square[i, j] = square[j, i] = found.mean()
    return square
