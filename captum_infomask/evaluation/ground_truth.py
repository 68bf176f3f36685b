# Measures how well attributions and masks match the right pixels, with a fair count of ties.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe, positive_int, random_seed
from captum_infomask._errors import ArgumentError

_DRAWN_AT_ONCE = 1 << 14  # pictures


def group_edges(ranked: Tensor) -> Tensor:
    """The starts of groups of equal values, and the end of the last group.

    Args:
        ranked: (P,), sorted.

    Returns:
        Long (G + 1,), from 0 to P, on the CPU.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import group_edges
        >>> group_edges(torch.tensor([3.0, 1.0, 1.0, 0.0])).tolist()
        [0, 1, 3, 4]
    """
    changes = (ranked[1:] != ranked[:-1]).nonzero()[:, 0].cpu() + 1
    return torch.cat([torch.tensor([0]), changes, torch.tensor([len(ranked)])])


def mean_average_precision(values: Tensor, right: Tensor) -> float:
    r"""Average precision of a ranking, largest first: the mean over all orders of equal values.

    .. math::

        \frac{1}{K} \sum_{k=1}^{P} \frac{r_g}{n_g} \cdot
            \frac{1}{k} \Bigl(1 + b_g + (k - s_g - 1) \frac{r_g - 1}{n_g - 1}\Bigr),

    where the k-th place lies in a group g of n values, of which r are right. Before the group come
    s values, of which b are right. In all, K values are right. For a group of one value, the last
    fraction is 0.

    Args:
        values: (P,).
        right: (P,), boolean, K ≥ 1 of them True.

    Returns:
        From 0 to 1.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import mean_average_precision
        >>> mean_average_precision(torch.tensor([1.0, 1.0]), torch.tensor([True, False]))
        0.75

    Source: F. McSherry, M. Najork: "Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores", ECIR 2008.
    """
    order = values.argsort(descending=True)
    edges = group_edges(values[order])
    found: npt.NDArray[np.int64] = np.cumsum(right[order].cpu().numpy())
    starts, sizes = edges[:-1].numpy(), edges.diff().numpy()
    seen = np.concatenate([[0], found])[edges.numpy()]
    group = np.repeat(np.arange(len(sizes)), sizes)
    n, hits, before = sizes[group], np.diff(seen)[group], seen[:-1][group]
    places = np.arange(len(group))
    others = (places - starts[group]) * (hits - 1) / np.maximum(n - 1, 1)
    precision = (1 + before + others) / (places + 1)
    return float((hits / n * precision).sum() / found[-1])


FEWEST = 10  # pictures for an interval; with fewer, the bootstrap covers too little


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures with its 95% interval.

    Args:
        mean: The mean.
        low: Lower end of the interval; None if there are fewer than ten pictures.
        high: Upper end of the interval.
    """

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """The mean and, in brackets, its interval, if there is one."""
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ink_iou(masks: Tensor, ink: Tensor, right: Tensor) -> Tensor:
    r"""Intersection over union of the ink that a mask keeps and the ink it should keep.

    .. math::

        \mathrm{IoU} = \frac{|M \cap I \cap R|}{|(M \cap I) \cup R|}

    for mask M, ink I and right ink R. Paper does not count, because windows are square and digits
    are not.

    Args:
        masks: (N, ...), boolean: the pixels that each mask keeps.
        ink: (N, ...), boolean: all ink of each picture.
        right: (N, ...), boolean: the ink that a perfect mask keeps; some in every picture.

    Returns:
        (N,), from 0 to 1.

    Raises:
        ArgumentError: Shapes or dtypes differ, or a picture has no right ink.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import ink_iou
        >>> mask = torch.tensor([[True, True, False]])
        >>> ink = torch.tensor([[True, False, True]])
        >>> ink_iou(mask, ink, ink)
        tensor([0.5000])
    """
    _check("masks", masks, torch.bool, right)
    _check("ink", ink, torch.bool, right)
    kept = masks & ink
    return _count(kept & right) / _count(kept | right)


def positive_share(attributions: Tensor, right: Tensor) -> Tensor:
    r"""Share of the positive attribution that lies in the right place.

    .. math::

        \frac{\sum_{p \in R} \max(a_p, 0)}{\sum_p \max(a_p, 0)}

    Args:
        attributions: (N, ...), floating point, any unit.
        right: (N, ...), boolean: the right place, such as one half of each picture.

    Returns:
        (N,), from 0 to 1; 0 if no attribution is positive.

    Raises:
        ArgumentError: Shapes or dtypes differ, or a picture has no right place.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import positive_share
        >>> right = torch.tensor([[True, True, False]])
        >>> positive_share(torch.tensor([[3.0, -2.0, 1.0]]), right)
        tensor([0.7500])
    """
    _check("attributions", attributions, None, right)
    positive = attributions.clamp_min(0).flatten(1).double()
    inside = (positive * right.flatten(1)).sum(1)
    return (inside / positive.sum(1).clamp_min(torch.finfo(torch.float64).tiny)).float()


def average_precision(attributions: Tensor, right: Tensor) -> Tensor:
    """Average precision if each picture's pixels are ranked by attribution.

    Pixels of equal attribution have no order, so the result is the mean over all their orders.
    Values are equal if they differ by less than 1/10,000 of the picture's largest magnitude. So
    rounding does not matter.

    Args:
        attributions: (N, ...), floating point, any unit.
        right: (N, ...), boolean: the right pixels; some in every picture.

    Returns:
        (N,), from 0 to 1.

    Raises:
        ArgumentError: Shapes or dtypes differ, or a picture has no right pixel.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import average_precision
        >>> right = torch.tensor([[True, False, True]])
        >>> average_precision(torch.tensor([[3.0, 2.0, 1.0]]), right)
        tensor([0.8333])

    Source: without equal values, ``sklearn.metrics.average_precision_score``, which takes equal
    values at their last place; :func:`mean_average_precision`.
    """
    _check("attributions", attributions, None, right)
    values = attributions.flatten(1).double()
    steps = values.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny) / 1e4
    ranks = (values / steps).round()
    pairs = zip(ranks, right.flatten(1), strict=True)
    return torch.tensor([mean_average_precision(value, truth) for value, truth in pairs])


def bootstrap(values: Tensor, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean over pictures with the 95% percentile interval of its bootstrap.

    Args:
        values: (N,), one value per picture.
        draws: The number of times that N pictures are drawn with repetition.
        seed: The seed of this function's own generator; the global one is not used.

    Returns:
        The mean and its interval. An interval needs ten pictures: with fewer, resampling finds too
        little spread, and "95%" would cover far less.

    Raises:
        ArgumentError: ``values`` is not a vector, or is empty.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.ground_truth import bootstrap
        >>> str(bootstrap(torch.ones(10)))
        '1.000 [1.000, 1.000]'

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ArgumentError(f"Expected `values` to be a vector (N,); got {describe(values)}.")
    own = values.double().cpu()
    if len(own) < FEWEST:
        return Estimate(own.mean().item(), None, None)
    generator = torch.Generator().manual_seed(random_seed(seed))
    # In portions, so memory does not grow with the number of draws.
    portions = torch.arange(positive_int("draws", draws)).split(max(1, _DRAWN_AT_ONCE // len(own)))
    means = torch.cat(
        [
            own[torch.randint(len(own), (len(portion), len(own)), generator=generator)].mean(1)
            for portion in portions
        ]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(values.double().mean().item(), low, high)


def _count(pixels: Tensor) -> Tensor:
    """Pixels per picture, as floats."""
    return pixels.flatten(1).sum(1).float()


def _check(argument: str, given: Tensor, dtype: torch.dtype | None, right: Tensor) -> None:
    """Refuse tensors that do not fit ``right``, and pictures without a right pixel."""
    if right.dtype != torch.bool or right.ndim < 2 or not right.flatten(1).any(1).all():
        raise ArgumentError(
            "Expected `right` to be a boolean tensor (N, ...) with at least one True in every "
            f"picture; got {describe(right)}."
        )
    fits = given.is_floating_point() if dtype is None else given.dtype == dtype
    if not fits or given.shape != right.shape:
        kind = "floating-point" if dtype is None else "boolean"
        raise ArgumentError(
            f"Expected `{argument}` to be {kind} and of the shape of `right`, "
            f"{tuple(right.shape)}; got {describe(given)}."
        )
