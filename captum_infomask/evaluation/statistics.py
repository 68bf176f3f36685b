# Paired differences with intervals, and the similarity of methods' maps and masks.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from captum_infomask._checks import describe, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.ground_truth import bootstrap
from captum_infomask.evaluation.object_localisation import mask_iou

DRAWS = 10_000


class PairedDifference(NamedTuple):
    """A mean difference over pictures with its 95% interval; None if there is none."""

    mean: float | None
    low: float | None
    high: float | None


def paired_difference(
    values: Sequence[float] | Tensor, reference: Sequence[float] | Tensor, seed: int = 0
) -> PairedDifference:
    r"""Mean of the differences per picture, with a bootstrap percentile interval.

    .. math::

        \bar d = \frac{1}{N} \sum_n (v_n - r_n)

    Pictures are drawn with repetition 10,000 times; both values of a picture stay together.

    Args:
        values: N numbers, one per picture; NaN if there is none.
        reference: The same for the reference method.
        seed: The seed of this function's own generator; the global one is not used.

    Returns:
        The mean over the pictures that have both values, and the interval's ends. The ends are None
        if fewer than ten pictures have both, and the mean is None if no picture has.

    Raises:
        ArgumentError: The two are not vectors of one length; ``seed`` is not an integer of at least
            0.

    Example:
        >>> from captum_infomask.evaluation.statistics import paired_difference
        >>> paired_difference([3.0, 4.0, 5.0] * 4, [1.0, 2.0, 3.0] * 4)
        PairedDifference(mean=2.0, low=2.0, high=2.0)

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    ours, theirs = _vector("values", values), _vector("reference", reference)
    if ours.shape != theirs.shape:
        raise ArgumentError(
            f"Expected `reference` with one number for each of the {len(ours)} `values`; got "
            f"{len(theirs)}."
        )
    seed = random_seed(seed)
    differences = ours - theirs
    differences = differences[~differences.isnan()]
    if not len(differences):
        return PairedDifference(None, None, None)
    found = bootstrap(differences, draws=DRAWS, seed=seed)
    return PairedDifference(found.mean, found.low, found.high)


def _vector(argument: str, given: Sequence[float] | Tensor) -> Tensor:
    """Numbers as float64 (N,), on the CPU."""
    try:
        vector = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        vector = torch.zeros(())
    if vector.ndim != 1:
        raise ArgumentError(
            f"Expected `{argument}` to be numbers, one per picture; got {describe(given)}."
        )
    return vector


Square: TypeAlias = npt.NDArray[np.float64]
Planes: TypeAlias = Sequence[Sequence[Tensor | None]] | Tensor
Ranks: TypeAlias = npt.NDArray[np.float64]


def spearman(planes: Planes) -> Square:
    """Spearman's rank correlation between the maps of all methods.

    This is Pearson's correlation of the pixels' ranks. Equal pixels share their mean rank.

    Args:
        planes: For each of M methods one map (H, W) per picture, or None; or a tensor (M, N, H, W).

    Returns:
        (M, M), from −1 to 1: means over the pictures for which both methods have a map that is not
        constant; NaN if there is none.

    Raises:
        ArgumentError: Methods have different numbers of pictures, or maps of a picture have
            different sizes.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.statistics import spearman
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
    """Intersection over union between the masks of all methods.

    Args:
        masks: For each of M methods one boolean mask (H, W) per picture, or None; or a tensor (M,
            N, H, W).

    Returns:
        (M, M), from 0 to 1: means over the pictures for which both methods have a mask; NaN if
        there is none. The IoU of two empty masks is 1.

    Raises:
        ArgumentError: Methods have different numbers of pictures; masks of a picture have different
            sizes; or a mask is not boolean.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.statistics import mask_iou_matrix
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
    """Spearman's correlation of two maps, from their ranks."""
    return float(first.ravel() @ second.ravel())


def _iou(first: Tensor, second: Tensor) -> float:
    """The overlap of two masks."""
    return float(mask_iou(first[None, None], second[None, None]))


def _square(
    argument: str, given: Planes, rows: Sequence[Sequence[object]], compare: Callable[..., float]
) -> Square:
    """Compare all pairs of methods, and take means over the pictures that have both."""
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
