# By how much a method differs from another on the same pictures, and how sure that is.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_infomask._checks import describe, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask.comparison.ground_truth import bootstrap

DRAWS = 10_000


class Difference(NamedTuple):
    """A mean difference over pictures with its 95% interval; None where there is none."""

    mean: float | None
    low: float | None
    high: float | None


def paired_difference(
    values: Sequence[float] | Tensor, reference: Sequence[float] | Tensor, seed: int = 0
) -> Difference:
    r"""Mean of the differences per picture, with the percentile interval of its bootstrap.

    .. math::

        \bar d = \frac{1}{N} \sum_n (v_n - r_n)

    Pictures are drawn with repetition, both values of a picture together, 10,000 times.

    Args:
        values: N numbers, one per picture; NaN where there is none.
        reference: The same of the method that is compared with.
        seed: Of this function's own generator; the global one is left alone.

    Returns:
        The mean over the pictures that have both, and the interval's ends; None where fewer than
        ten have, and for the mean where none has.

    Raises:
        ArgumentError: The two are no vectors of one length; ``seed`` is no integer from 0.

    Example:
        >>> from captum_infomask.comparison.metrics.bootstrap import paired_difference
        >>> paired_difference([3.0, 4.0, 5.0] * 4, [1.0, 2.0, 3.0] * 4)
        Difference(mean=2.0, low=2.0, high=2.0)

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
        return Difference(None, None, None)
    found = bootstrap(differences, draws=DRAWS, seed=seed)
    return Difference(found.mean, found.low, found.high)


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
