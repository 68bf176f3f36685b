# Imputers that fill in from the surroundings: by a blur, a local mean or inpainting.
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import finite_number, one_of, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._process import full_precision
from captum_infomask._types import Shape, Tensors
from captum_infomask.imputers.imputer_protocol import (
    Filled,
    Pictures,
    float_images,
    float_places,
    visible_means,
    wide,
)

Sigma = float | tuple[float, ...]

_FAR = 1e-3  # the weight of the mean of all visible pixels; a Gaussian's whole weight is 1
_LARGEST_RADIUS = 100  # OpenCV would silently use this for any larger radius


def _check_sigma(sigma: object) -> None:
    """Refuse anything but None, a number above 0, or a tuple of such numbers."""
    for one in sigma if isinstance(sigma, tuple) and sigma else (sigma,):
        if one is not None or isinstance(sigma, tuple):
            finite_number("sigma", one, above=0)


def _sigmas(sigma: Sigma | None, sizes: Shape) -> tuple[float, ...]:
    """The standard deviation along each place, in pixels."""
    if sigma is None:
        # Few slices or frames are deep for what they are, so their own number counts too.
        shorter = min(sizes[-2:])
        return tuple(min(size, shorter) / 16 for size in sizes)
    sigmas = sigma if isinstance(sigma, tuple) else (sigma,) * len(sizes)
    if len(sigmas) != len(sizes):
        raise ArgumentError(
            f"Expected `sigma` to be a number, or one for each of the {len(sizes)} places of "
            f"inputs (N, C, {', '.join(map(str, sizes))}); got {sigma}."
        )
    return sigmas


@dataclass(frozen=True)
class Blur:
    """Hidden pixels take the values of a Gaussian-blurred copy of the picture.

    Args:
        sigma: Standard deviation in pixels, one number or one for each place after the channels.
            If None, a sixteenth of the shorter side; for volumes of height and width, and along D
            no more than a sixteenth of D.

    Raises:
        ArgumentError: ``sigma`` is not above 0; when used: inputs are not floating-point images,
            signals or volumes.

    Example:
        >>> from captum_infomask import Blur, InfoMask
        >>> import torch
        >>> infomask = InfoMask(lambda x: 2 + x.flatten(1)[:, :2])
        >>> infomask.attribute(torch.rand(1, 1, 8, 8), target=0, view="drop", imputer=Blur(2)).shape
        torch.Size([1, 1, 8, 8])
    """

    sigma: Sigma | None = None

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def prepare(self, inputs: Tensors) -> Pictures:
        """Blur every image once."""
        float_places("Blur", inputs)
        return Pictures(tuple(self._blurred(x) for x in inputs))

    def _blurred(self, x: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import gaussian_blur

        sizes = x.shape[2:]
        blurred = wide(x.detach())
        # One dimension at a time gives the same Gaussian at a fraction of the cost of a
        # two-dimensional kernel. Planes hold that dimension, and the others beside it.
        for dim, (size, sigma) in enumerate(zip(sizes, _sigmas(self.sigma, sizes), strict=True), 2):
            taps = 2 * min(round(4 * sigma), size - 1) + 1
            is_last = dim == x.dim() - 1
            beside = (-1, size) if is_last else (size, -1)
            planes = x.shape[1] * math.prod(x.shape[2 : dim - is_last])
            with full_precision(x.device.type):
                blurred = gaussian_blur(
                    blurred.reshape(len(x), planes, *beside),
                    [taps, 1] if is_last else [1, taps],
                    [sigma, sigma],
                ).reshape(x.shape)
        return blurred.to(x.dtype)


@dataclass(frozen=True)
class LocalMean:
    r"""Hidden pixels take the mean of the visible pixels around them, weighted by a Gaussian.

    .. math::

        \hat x_p = \frac{\sum_{q \notin R} g(p - q)\, x_q + \epsilon\, \bar x}
                        {\sum_{q \notin R} g(p - q) + \epsilon},

    with g the normal density of standard deviation ``sigma`` and :math:`\bar x` the channel's mean
    over all visible pixels. If almost no visible pixels are near, values approach this mean
    smoothly (:math:`\epsilon` = 0.001). If a whole channel is hidden, its mean is used. Blur is
    different: it also averages the hidden pixels themselves, so a part of their information stays
    in the picture.

    Args:
        sigma: As for :class:`Blur`.

    Raises:
        ArgumentError: ``sigma`` is not above 0; when used: inputs are not floating-point images,
            signals or volumes.

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

    sigma: Sigma | None = None

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def prepare(self, inputs: Tensors) -> Filled:
        """Check that the inputs have places."""
        float_places("LocalMean", inputs)
        for x in inputs:
            _sigmas(self.sigma, tuple(x.shape[2:]))
        return Filled(inputs, partial(_with_means, self.sigma))


def _with_means(sigma: Sigma | None, pictures: Tensor, hidden: Tensor) -> Tensor:
    sizes = pictures.shape[2:]
    pairs = zip(sizes, _sigmas(sigma, sizes), strict=True)
    densities = [_densities(size, one, pictures) for size, one in pairs]
    # Differences from the mean are smaller than the values, so their sums are more precise.
    middle = visible_means(pictures, hidden)
    differences = torch.where(hidden, 0, pictures - middle)
    weights = _weighted((~hidden).to(pictures), densities)
    return middle + _weighted(differences, densities) / (weights + _FAR)


def _weighted(values: Tensor, densities: list[Tensor]) -> Tensor:
    """The sums of values (V, C, ...) around each place, weighted along one place after another."""
    *further, last = densities
    with full_precision(values.device.type):
        for dim, density in enumerate(further, 2):
            values = (density @ values.flatten(dim + 1)).reshape(values.shape)
        return values @ last


def _densities(size: int, sigma: float, like: Tensor) -> Tensor:
    """The normal density between any two of ``size`` places, (size, size)."""
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    distances = (place[:, None] - place) / sigma
    return (-0.5 * distances.square()).exp() / (sigma * math.sqrt(2 * math.pi))


InpaintMethod = Literal["telea", "navier_stokes"]


@dataclass(frozen=True)
class Inpaint:
    """Hidden pixels are painted inwards from the region's border, by OpenCV.

    OpenCV's terms have the size of 8-bit grey levels. So each channel's visible values are scaled
    to 0–255, painted in 32-bit floats without rounding to whole levels, clipped to 0–255 like 8-bit
    pictures, and scaled back. So pictures of any range and any number of channels are treated
    alike, and float32's precision is kept. If a whole channel is hidden, its mean is used. The work
    is done on the CPU, for the surroundings of one region at a time.

    Args:
        method: ``telea`` (fast marching) or ``navier_stokes`` (isophotes continued as a flow).
        radius: The radius around a pixel that gives its new value, in pixels, at most 100.

    Raises:
        ArgumentError: A setting is wrong; when used: the inputs are not floating-point images.
            Signals and volumes take :class:`LocalMean` or :class:`Blur`.

    Example:
        >>> from captum_infomask.imputers import Inpaint
        >>> import torch
        >>> x = torch.linspace(0, 1, 8).expand(1, 3, 8, 8).contiguous()
        >>> hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> hidden[..., 2:5, 2:5] = True
        >>> (filled,) = Inpaint("navier_stokes").prepare((x,))(torch.tensor([0]), (hidden,))
        >>> filled.shape
        torch.Size([1, 3, 8, 8])

    Source: Telea, "An Image Inpainting Technique Based on the Fast Marching Method", Journal of
    Graphics Tools 9(1), 2004; Bertalmio, Bertozzi & Sapiro, "Navier-Stokes, Fluid Dynamics, and
    Image and Video Inpainting", CVPR 2001; both as in OpenCV's ``cv2.inpaint``.
    """

    method: InpaintMethod = "telea"
    radius: int = 3

    def __post_init__(self) -> None:
        one_of("method", self.method, get_args(InpaintMethod))
        if positive_int("radius", self.radius) > _LARGEST_RADIUS:
            raise ArgumentError(
                f"Expected `radius` of at most {_LARGEST_RADIUS} pixels, OpenCV's largest; got "
                f"{self.radius}."
            )

    def prepare(self, inputs: Tensors) -> Filled:
        """Check that the inputs are images."""
        float_images("Inpaint", inputs, " OpenCV paints planes: pass Blur() or LocalMean().")
        return Filled(inputs, partial(_with_paint, self.method, self.radius))


def _with_paint(method: InpaintMethod, radius: int, pictures: Tensor, hidden: Tensor) -> Tensor:
    means = visible_means(pictures, hidden).cpu()
    values = pictures.cpu().to(torch.float32, copy=True).numpy()
    masks = hidden.cpu().expand(pictures.shape).numpy()
    for view, channel in np.ndindex(*values.shape[:2]):
        plane, mask = values[view, channel], masks[view, channel]
        if mask.all():
            plane[:] = float(means[view, channel])
        elif mask.any():
            _paint(plane, mask, method, radius)
    return torch.from_numpy(values).to(pictures.device)


def _paint(
    plane: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], method: InpaintMethod, r: int
) -> None:
    """Paint over the hidden pixels of a channel in place."""
    import cv2

    visible = plane[~mask]
    low, high = visible.min(), visible.max()
    if low == high:
        plane[mask] = low
        return
    # Pixels further away than this do not change the result by one bit.
    rows, columns = (
        slice(max(int(places[0]) - r - 2, 0), int(places[-1]) + r + 3)
        for places in (np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0)))
    )
    near, hole = plane[rows, columns], mask[rows, columns]
    levels = (np.where(hole, low, near) - low) * (255 / (high - low))
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    painted = cv2.inpaint(levels.astype(np.float32), hole.astype(np.uint8), r, flag)
    near[hole] = painted[hole].clip(0, 255) * ((high - low) / 255) + low
