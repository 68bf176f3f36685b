# How a map is drawn over a picture: the checked settings of show and InfoMap.figure.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe, finite_number, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.masks import Rule
from captum_infomask.masks.rules import as_rule
from captum_infomask.report.colours import OPACITY, Shades
from captum_infomask.report.overlay import overlay_figure, suited_contour
from captum_infomask.report.page_content import FloatArray, PhotoArray
from captum_infomask.report.smoothing import limit_of
from captum_infomask.results.map_pictures import rgb_of
from captum_infomask.scores.score_settings import NATS_PER_UNIT


class DrawingSettings(TypedDict, total=False):
    """The settings of a :class:`Drawing`."""

    ax: Axes | None
    cmap: str | Colormap | None
    alpha: float | None
    smooth: bool
    contour: Rule | float | Literal["auto"] | None
    title: str | None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The settings of a drawing; :func:`captum_infomask.show` describes them.

    Raises:
        ArgumentError: One is of another kind.
    """

    ax: Axes | None = None
    cmap: str | Colormap | None = None
    alpha: float | None = None
    smooth: bool = True
    contour: Rule | float | Literal["auto"] | None = "auto"
    title: str | None = None

    def __post_init__(self) -> None:
        # Axes in three dimensions, polar ones and removed ones cannot show a picture.
        is_flat = isinstance(self.ax, Axes) and self.ax.name == "rectilinear" and self.ax.figure
        if self.ax is not None and not is_flat:
            raise ArgumentError(
                f"Expected `ax` to be axes of matplotlib, flat ones of a figure, such as "
                f"plt.gca(); got {describe(self.ax)}."
            )
        if not isinstance(self.smooth, bool):
            raise ArgumentError(
                f"Expected `smooth` to be True or False; got {describe(self.smooth)}."
            )
        if self.title is not None and not isinstance(self.title, str):
            raise ArgumentError(f"Expected `title` to be words; got {describe(self.title)}.")
        if self.alpha is not None and finite_number("alpha", self.alpha, least=0) > 1:
            raise ArgumentError(f"Expected `alpha` from 0 to 1; got {self.alpha:g}.")
        self._colours()
        if self.contour is not None and not self._is_auto():
            as_rule(self.contour, "contour")

    def draw(
        self,
        plane: FloatArray,
        photo: PhotoArray | None,
        unit: str,
        heads: tuple[str, str] = ("", ""),
    ) -> tuple[Figure, Axes]:
        """Draw a map.

        Args:
            plane: (H, W), in ``unit``.
            photo: (H, W, 3), uint8, or None.
            unit: The colour bar's label.
            heads: The title and the line below it, if the user gave none.
        """
        alpha = self.alpha
        if alpha is None:
            alpha = 1.0 if photo is None else OPACITY
        shades = Shades(limit_of(plane), self._colours(), bool((plane < 0).any()), float(alpha))
        contour = self.contour
        if self._is_auto():
            one_bit = NATS_PER_UNIT["bits"] / NATS_PER_UNIT[unit] if unit in NATS_PER_UNIT else None
            rule = suited_contour(plane, one_bit)
        else:
            rule = None if contour is None else as_rule(contour, "contour")
        return overlay_figure(
            self.ax,
            plane,
            unit,
            photo,
            shades,
            heads=heads if self.title is None else (self.title, ""),
            smooth=self.smooth,
            contour=rule,
        )

    def _is_auto(self) -> bool:
        return isinstance(self.contour, str) and self.contour == "auto"

    def _colours(self) -> Colormap | None:
        """Return matplotlib's colour map."""
        if self.cmap is None or isinstance(self.cmap, Colormap):
            return self.cmap
        if not isinstance(self.cmap, str) or self.cmap not in mpl.colormaps:
            raise ArgumentError(
                f"Expected `cmap` to be a colour map of matplotlib, such as 'viridis'; got "
                f"{short_repr(self.cmap)}."
            )
        return mpl.colormaps[self.cmap]


def photo_of(argument: str, given: Any) -> PhotoArray:
    """Return a picture as uint8 (H, W, 3).

    Args:
        argument: The argument's name.
        given: Pillow's picture; an array (H, W, 3), (H, W, 1) or (H, W); or a tensor (3, H, W),
            (1, H, W), (H, W), with or without a batch dimension of 1.

    Raises:
        ArgumentError: It is none of these.

    Example:
        >>> import torch
        >>> from captum_infomask.results.drawing import photo_of
        >>> photo_of("picture", torch.tensor([[[0.0, 1.0]]]))[0].tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    if isinstance(given, Image.Image):
        from captum_infomask.models.preprocessing import upright

        return rgb_of(upright(given))
    if isinstance(given, Tensor):
        own = given.detach().cpu()
        array = (own.float() if own.is_floating_point() else own).numpy()
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    else:
        array = given if isinstance(given, np.ndarray) else np.empty(0)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or not array.size:
        raise ArgumentError(
            f"Expected `{argument}` to be Pillow's picture, an array (H, W, 3) or a tensor "
            f"(3, H, W); got {describe(given)}."
        )
    return np.ascontiguousarray(np.broadcast_to(_as_bytes(argument, array), (*array.shape[:2], 3)))


def _as_bytes(argument: str, array: npt.NDArray[Any]) -> PhotoArray:
    """Return pixels as uint8; values outside 0 to 1 are stretched to the whole range."""
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    if array.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ArgumentError(
            f"Expected `{argument}` to have finite pixels, uint8 or floating point; got "
            f"{describe(array)}."
        )
    low, high = values.min(), values.max()
    if array.dtype.kind != "f" or low < 0 or high > 1:
        values = (values - low) / (high - low or 1)
    return np.rint(255 * values).astype(np.uint8)


def photo_for(argument: str, given: Any, plane: FloatArray) -> PhotoArray | None:
    """Return the picture under a map, uint8 (H, W, 3); None if there is none.

    Args:
        argument: The picture's name in errors.
        given: The picture, of the map's size or the same in another size; or None.
        plane: (H, W), the map.

    Raises:
        ArgumentError: The picture has another aspect ratio than the map, or is no picture.
    """
    if given is None:
        return None
    photo = photo_of(argument, given)
    (height, width), (rows, columns) = photo.shape[:2], plane.shape
    # A feature map's sides are rounded: one side may differ by up to a cell.
    if abs(height * columns - width * rows) > max(height + rows, width + columns):
        raise ArgumentError(
            f"Expected `{argument}` to show what the network sees, {rows} × {columns} pixels or "
            f"the same in another size; got {height} × {width}. "
            f"classifier.preprocess.frame(photo) resizes and crops a photograph; the network's "
            f"input itself can be shown too."
        )
    return photo
