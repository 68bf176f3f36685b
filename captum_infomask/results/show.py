# show draws any method's attributions, or an InfoMap, over a picture, a signal or a volume.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typing_extensions import Unpack

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._process import default_on_cpu
from captum_infomask._types import TensorOrTensors
from captum_infomask.report.page_content import FloatArray
from captum_infomask.results.drawing import Drawing, DrawingSettings
from captum_infomask.results.drawn_inputs import check_no_features
from captum_infomask.results.info_map import InfoMap
from captum_infomask.results.map_pictures import DIMS, Kind, ShownMap, in_kernel
from captum_infomask.results.shown_info_map import drawn_map
from captum_infomask.results.shown_inputs import array_of


@default_on_cpu()
@told(options_of=Drawing)
def show(
    attributions: InfoMap | TensorOrTensors | FloatArray,
    picture: Any = None,
    *,
    unit: str = "attribution",
    kind: Kind | None = None,
    features: Sequence[str] | None = None,
    **settings: Unpack[DrawingSettings],
) -> Drawn:
    r"""Draw a map over its picture, with a colour bar and an outline of its mask.

    A signal is drawn with its values under it, as steps. The mask's samples are shaded, and a
    dashed line is their threshold. A volume is drawn as the three slices that meet at the largest
    magnitude, a video as frames. Slices and frames are counted from 0.

    The picture keeps its own colours where the map is near 0. A value :math:`a` has the opacity

    .. math::

        \alpha \, t^2 (3 - 2 t), \qquad t = \frac{|a| / \max |a| - 0.1}{0.8} \in [0, 1].

    Colours and outlines are smoothed for the eye: windows run into each other, and parts of the
    mask below 0.5% of the picture are left out. The colour bar has the map's own range, and a white
    line at the value that the outline follows. Outside of the outline the picture is dimmed.

    Args:
        attributions: An :class:`InfoMap` of one image; or any method's attributions of one image,
            (1, C, H, W), (C, H, W) or (H, W), a tensor, a 1-tuple or an array; or of one volume,
            (1, C, D, H, W), or of another ``kind``. Channels are averaged, but for signals. A
            smaller map, such as Grad-CAM's, is resized to the picture (bilinear).
        picture: Pillow's picture; an array (H, W, 3) or (H, W); or a tensor (3, H, W), (1, H, W) or
            with a batch dimension of 1. uint8, or floating point from 0 to 1. Other floating-point
            values, such as normalised inputs, are stretched from their minimum to their maximum.
            It may be larger than the map if it shows the same part. For a signal, (C, T); for a
            volume (D, H, W); for a video (3, T, H, W). None draws the map alone.
        unit: The colour bar's label for attributions. An InfoMap has its own.
        kind: What attributions are of: ``picture``, ``signal``, ``volume`` or ``video``. None takes
            five dimensions for a volume (three channels: a video), and fewer for a picture, or for
            a signal (1, C, T) if T is at least 16 C. An InfoMap knows it.
        features: The names of the columns of tables beside a picture, as for
            :meth:`InfoMap.figure`.
        **settings: ``ax``, ``cmap``, ``alpha``, ``smooth``, ``contour``, ``title`` and ``at``.
        ax: The axes to draw a picture in; None makes a figure.
        cmap: A colour map of matplotlib, from 0 to the largest value, or from −max to max if values
            below 0 occur. By default values above 0 are pink to yellow, and below 0 blue to cyan.
        alpha: The opacity of the strongest colour, from 0 to 1: 0.8, and 1 without a picture.
        smooth: False shows the map and its mask as they are. A signal's are never smoothed.
        contour: The rule of the mask to outline, as in :func:`threshold_mask`, in the colour bar's
            unit. ``auto`` is at least 1 bit where a region says so much, else half of the maximum.
            None outlines nothing and dims nothing.
        title: The title. By default an InfoMap says its class and bits, and other maps nothing.
        at: The voxel (d, h, w) of a volume at which the slices meet, or of a video whose frame is
            among those drawn; None takes that of the largest magnitude.

    Returns:
        ``(figure, axes)``: the axes of the map; of a signal those of the values, of a volume those
        of the slice at d. A notebook shows the figure at once. It belongs to no window and to no
        pyplot state: ``figure.savefig("map.png")`` writes it.

    Raises:
        ArgumentError: ``attributions`` holds several images or is no map; the picture is none, or
            has another aspect ratio; another argument is unknown.

    Example:
        >>> import torch
        >>> from captum.attr import Occlusion
        >>> from captum_infomask import show
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
        >>> x = torch.rand(1, 3, 8, 8)
        >>> attributions = Occlusion(model).attribute(x, (3, 2, 2), target=2)
        >>> figure, axes = show(attributions, x, title="Occlusion")
        >>> axes.get_title("left"), figure.axes[1].get_ylabel()
        ('Occlusion', 'attribution')
    """
    drawing = Drawing(**settings)
    if not isinstance(unit, str):
        raise ArgumentError(f"Expected `unit` to be words; got {describe(unit)}.")
    if kind is not None:
        one_of("kind", kind, DIMS)
    if isinstance(attributions, InfoMap):
        if len(attributions.scores) != 1:
            raise ArgumentError(
                f"Expected `attributions` of one image; got an InfoMap of "
                f"{len(attributions.scores)}. show(infomap[0], picture) draws the first."
            )
        drawn = Drawn(*drawn_map(attributions, drawing, picture, features=features))
    else:
        check_no_features(features)
        drawn = Drawn(*drawing.draw_shown(_shown(attributions, kind, unit), picture))
    if drawing.ax is None and in_kernel():
        from IPython.display import display

        display(drawn.figure)  # type: ignore[no-untyped-call]
    return drawn


_LONG = 16  # no picture is so many times as wide as it is high


class Drawn(NamedTuple):
    """A figure and its axes; a notebook that has shown the figure does not show it again."""

    figure: Figure
    axes: Axes

    def _ipython_display_(self) -> None:
        """Show nothing: :func:`show` has shown the figure."""


def _shown(given: object, kind: Kind | None, unit: str) -> ShownMap:
    """Return attributions of one example as they are shown."""
    tensor = given[0] if isinstance(given, tuple | list) and len(given) == 1 else given
    array = array_of(tensor)
    asked = "" if kind is None else f", kind={kind!r}"
    wanted = "" if kind is None else f" of a {kind}"
    if array.dtype.kind in "fiub" and array.size:
        own = array.astype(np.float32)
        if kind is None:
            kind = _kind_of(array.shape)
        dims = DIMS[kind]
        if array.ndim == dims + 2:
            if len(own) > 1:
                # Without its batch dimension, a volume would look like pictures.
                one = "image" if kind == "picture" else kind
                raise ArgumentError(
                    f"Expected `attributions` of one {one}; got {describe(given)}. "
                    f"show(attributions[:1], {kind}{asked}) draws the first."
                )
            own = own[0]
        if kind == "signal" and own.ndim in (1, 2):
            return ShownMap(np.atleast_2d(own), unit, kind)
        if dims == 2 and own.ndim == 3:
            # Captum's pictures have their channels last.
            is_last = own.shape[-1] in (1, 3) and own.shape[0] not in (1, 3)
            own = np.moveaxis(own, -1, 0) if is_last else own
        if dims > 1 and own.ndim in (dims, dims + 1):
            plane: FloatArray = own if own.ndim == dims else own.mean(0)
            return ShownMap(plane, unit, kind)
    raise ArgumentError(
        f"Expected `attributions`{wanted} to be an InfoMap, or attributions of one image "
        f"(1, C, H, W), (C, H, W) or (H, W), or of a volume (1, C, D, H, W); got "
        f"{describe(given)}.{_meant(given)}"
    )


def _kind_of(shape: tuple[int, ...]) -> Kind:
    """Return what attributions of a shape are of, if the user does not say it."""
    if len(shape) == 5:
        return "video" if shape[1] == 3 else "volume"
    is_long = len(shape) == 3 and shape[0] != 3 and shape[2] >= _LONG * shape[1]
    return "signal" if is_long else "picture"


def _meant(given: object) -> str:
    """Say how to draw something else."""
    if callable(getattr(given, "rank", None)):
        return " Its rank(0) is the InfoMap of its first class."
    if callable(getattr(given, "figure", None)):
        return " Its own figure() draws it."
    return ""
