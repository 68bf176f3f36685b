# The local-mean imputer: a weighted mean of the visible pixels around.
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._types import Tensors
from captum_infomask.imputers.checks import float_images
from captum_infomask.imputers.filled import Filled, visible_means

_FAR = 1e-3  # the weight of the mean of all visible pixels, beside a Gaussian's whole weight of 1


@dataclass(frozen=True)
class LocalMean:
    r"""Hidden pixels take the mean of the visible pixels around them, weighted by a Gaussian.

    .. math::

        \hat x_p = \frac{\sum_{q \notin R} g(p - q)\, x_q + \epsilon\, \bar x}
                        {\sum_{q \notin R} g(p - q) + \epsilon},

    with g the normal density of standard deviation ``sigma`` and :math:`\bar x` the channel's mean
    over all visible pixels, to which values go over smoothly where next to none are near
    (:math:`\epsilon` = 0.001). Where a whole channel is hidden, its mean stands in. Blur differs:
    it mixes the hidden pixels themselves in, so that a part of what they say stays in the picture.

    Args:
        sigma: Standard deviation in pixels; a sixteenth of the shorter side if None.

    Raises:
        ArgumentError: ``sigma`` is not above 0; when used: the inputs are no floating-point images.

    Example:
        >>> from captum_infomask.imputers import LocalMean
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 9.0, 4.0, 5.0]).reshape(1, 1, 1, 5)
        >>> stand_in = LocalMean(sigma=1).prepare((x,))
        >>> (filled,) = stand_in(torch.tensor([0]), (x == 9,))
        >>> round(filled[0, 0, 0, 2].item(), 4)
        3.0

    Source: normalised convolution, Knutsson & Westin, CVPR 1993.
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            finite_number("sigma", self.sigma, above=0)

    def prepare(self, inputs: Tensors) -> Filled:
        """Check that the inputs are images."""
        float_images("LocalMean", inputs)
        return Filled(inputs, partial(_filled, self.sigma))


def _filled(sigma: float | None, pictures: Tensor, hidden: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    sigma = sigma or min(height, width) / 16
    down, across = (_densities(size, sigma, pictures) for size in (height, width))
    # Differences from the mean are smaller than the values, and so their sums are more precise.
    middle = visible_means(pictures, hidden)
    differences = torch.where(hidden, 0, pictures - middle)
    weights = down @ (~hidden).to(pictures) @ across
    return middle + down @ differences @ across / (weights + _FAR)


def _densities(size: int, sigma: float, like: Tensor) -> Tensor:
    """The normal density between any two of ``size`` places, (size, size)."""
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    distances = (place[:, None] - place) / sigma
    return (-0.5 * distances.square()).exp() / (sigma * math.sqrt(2 * math.pi))
