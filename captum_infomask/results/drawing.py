# How a map is drawn: the checked settings of show and InfoMap.figure.
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from captum_infomask._checks import describe, finite_number, plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.masks import Rule
from captum_infomask.masks.rules import as_rule
from captum_infomask.report.colours import OPACITY, Shades
from captum_infomask.report.overlay import draw_places, overlay_figure, suited_contour
from captum_infomask.report.page_content import BoolArray, FloatArray, PhotoArray
from captum_infomask.report.signal_figure import signal_figure
from captum_infomask.report.smoothing import limit_of, resized, smooth_plane
from captum_infomask.report.volume_figure import VolumeMap, frames_figure, volume_figure
from captum_infomask.results.map_pictures import DIMS, ShownMap
from captum_infomask.results.shown_inputs import photo_for, signal_for, volume_for
from captum_infomask.scores.score_settings import NATS_PER_UNIT


class DrawingSettings(TypedDict, total=False):
    """The settings of a :class:`Drawing`."""

    ax: Axes | None
    cmap: str | Colormap | None
    alpha: float | None
    smooth: bool
    contour: Rule | float | Literal["auto"] | None
    title: str | None
    at: tuple[int, int, int] | None


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
    at: tuple[int, int, int] | None = None

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
        if self.at is not None and not _is_point(self.at):
            raise ArgumentError(
                f"Expected `at` to be the place (d, h, w) of a voxel; got {describe(self.at)}."
            )
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
        return overlay_figure(
            self.ax,
            plane,
            unit,
            photo,
            self.shades(plane, is_bare=photo is None),
            heads=self.heads(heads),
            smooth=self.smooth,
            contour=self.rule(plane, unit),
        )

    def draw_shown(
        self,
        shown: ShownMap,
        given: Any,
        heads: tuple[str, str] = ("", ""),
        places: BoolArray | None = None,
    ) -> tuple[Figure, Axes]:
        """Draw a map of a picture, a signal, a volume or a video.

        Args:
            shown: The map.
            given: The picture, signal or volume that it is of, as the user gave it; or None.
            heads: The title and the line below it, if the user gave none.
            places: Elements to outline instead of the mask, of the map's shape.

        Raises:
            ArgumentError: ``given`` does not fit the map, or a setting is not for such a map.
        """
        if self.ax is not None and shown.kind != "picture":
            raise ArgumentError(
                f"Expected `ax` with the map of a picture; a {shown.kind} has several panels, in a "
                f"figure of their own."
            )
        if self.at is not None and DIMS[shown.kind] != 3:
            raise ArgumentError(
                f"Expected `at` with the map of a volume; got one of a {shown.kind}."
            )
        draw = self if places is None else replace(self, contour=None)
        if shown.kind == "picture":
            photo = photo_for("picture", given, shown.values)
            drawn = draw.draw(shown.values, photo, shown.unit, heads)
            if places is not None:
                draw_places(drawn[1], places, photo)
            return drawn
        if shown.kind == "signal":
            return signal_figure(
                shown.values,
                signal_for("picture", given, shown.values),
                shown.label,
                self.shades(shown.values, is_bare=True),
                heads=self.heads(heads),
                contour=draw.rule(shown.values, shown.unit),
                places=places,
            )
        return draw._draw_volume(shown, given, heads, places)

    def _draw_volume(
        self, shown: ShownMap, given: Any, heads: tuple[str, str], places: BoolArray | None
    ) -> tuple[Figure, Axes]:
        photo = volume_for("picture", given, shown.values)
        values = shown.values
        if photo is not None and photo.shape[:3] != values.shape:
            values = resized(values, photo.shape[:3], "trilinear")
            places = None if places is None else resized(places, photo.shape[:3], "nearest") > 0.5
        at = None if self.at is None else (int(self.at[0]), int(self.at[1]), int(self.at[2]))
        if at is not None and not all(
            0 <= place < size for place, size in zip(at, values.shape, strict=True)
        ):
            raise ArgumentError(
                f"Expected `at` inside the volume of {' × '.join(map(str, values.shape))}; got "
                f"{at}."
            )
        figure = frames_figure if shown.kind == "video" else volume_figure
        volume = VolumeMap(
            values,
            photo,
            shown.label,
            self.shades(values, is_bare=photo is None),
            smooth=self.smooth,
            contour=self.rule(values, shown.unit),
            places=places,
        )
        return figure(volume, heads=self.heads(heads), at=at)

    def heads(self, heads: tuple[str, str]) -> tuple[str, str]:
        """Return the title and the line below it, or the user's title alone."""
        return heads if self.title is None else (self.title, "")

    def shades(self, values: FloatArray, *, is_bare: bool) -> Shades:
        """Return the map's colours; without a picture they are opaque."""
        alpha = (1.0 if is_bare else OPACITY) if self.alpha is None else float(self.alpha)
        return Shades(limit_of(values), self._colours(), bool((values < 0).any()), alpha)

    def rule(self, values: FloatArray, unit: str) -> Rule | None:
        """Return the outline's rule."""
        if not self._is_auto():
            return None if self.contour is None else as_rule(self.contour, "contour")
        one_bit = NATS_PER_UNIT["bits"] / NATS_PER_UNIT[unit] if unit in NATS_PER_UNIT else None
        is_smoothed = self.smooth and values.ndim == 2  # a picture's outline follows what is drawn
        return suited_contour(smooth_plane(values) if is_smoothed else values, one_bit)

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


def _is_point(given: object) -> bool:
    """Whether this is a tuple of three whole numbers."""
    return (
        isinstance(given, tuple | list)
        and len(given) == 3
        and all(isinstance(plain(one), int) and not isinstance(plain(one), bool) for one in given)
    )
