# The inpainting imputer: OpenCV's two methods.
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import one_of, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.imputers.checks import float_images
from captum_infomask.imputers.filled import Filled, visible_means

InpaintMethod = Literal["telea", "navier_stokes"]
_LARGEST_RADIUS = 100  # OpenCV would silently take it for any larger one


@dataclass(frozen=True)
class Inpaint:
    """Hidden pixels are painted inwards from the region's border, by OpenCV.

    OpenCV's terms have the size of 8-bit grey levels. So each channel's visible values are scaled
    to 0–255, painted in 32-bit floats without rounding to whole levels, held to 0–255 as 8-bit
    pictures are, and scaled back: pictures of any range and number of channels come out alike, and
    none of float32's precision is lost. Where a whole channel is hidden, its mean stands in. The
    work is done on the CPU, one region's surroundings at a time.

    Args:
        method: ``telea`` (fast marching) or ``navier_stokes`` (isophotes carried on as a flow).
        radius: How far around a pixel its new value is gathered from, in pixels, at most 100.

    Raises:
        ArgumentError: A setting is wrong; when used: the inputs are no floating-point images.

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
        float_images("Inpaint", inputs)
        return Filled(inputs, partial(_filled, self.method, self.radius))


def _filled(method: InpaintMethod, radius: int, pictures: Tensor, hidden: Tensor) -> Tensor:
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
    # What lies further off than this does not change the result by one bit.
    rows, columns = (
        slice(max(int(places[0]) - r - 2, 0), int(places[-1]) + r + 3)
        for places in (np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0)))
    )
    near, hole = plane[rows, columns], mask[rows, columns]
    levels = (np.where(hole, low, near) - low) * (255 / (high - low))
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    painted = cv2.inpaint(levels.astype(np.float32), hole.astype(np.uint8), r, flag)
    near[hole] = painted[hole].clip(0, 255) * ((high - low) / 255) + low
