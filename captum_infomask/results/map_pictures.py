# Check the pictures that users give beside maps, and make what notebooks show.
from __future__ import annotations

import html
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from os import PathLike
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_output_file, output_file
from captum_infomask._messages import printable, utf8
from captum_infomask._types import TensorOrTensors
from captum_infomask.masks import MaxFraction
from captum_infomask.regions.label_regions import LabelRegions
from captum_infomask.regions.map_cells import MapCells
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import Scales
from captum_infomask.report.colours import base64_text
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.page_content import (
    FloatArray,
    PageContent,
    PhotoArray,
    RegionScores,
    as_shown,
    density,
)

Pictures: TypeAlias = (
    PhotoArray | Sequence[Image.Image | PhotoArray] | Mapping[str, Image.Image | PhotoArray]
)


def checked_pictures(argument: str, given: Any, n: int, height: int, width: int) -> PhotoArray:
    """Return uint8 pictures (n, H, W, 3) from an array, or a list of Pillow's pictures or arrays.

    Raises:
        ArgumentError: There are none, too few or too many, or their size is not that of the maps.
    """
    wanted = f"{n} picture{'s' * (n != 1)} of {height} × {width} pixels, as the network sees them"
    if not isinstance(given, np.ndarray | list | tuple) or len(given) != n:
        raise ArgumentError(f"Expected `{argument}` to be {wanted}; got {describe(given)}.")
    made = []
    for picture in given:
        is_image = isinstance(picture, Image.Image)
        array = rgb_of(picture) if is_image else picture
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != np.uint8
            or array.shape != (height, width, 3)
        ):
            raise ArgumentError(
                f"Expected `{argument}` to be {wanted}, uint8 (H, W, 3) or Pillow's; got "
                f"{describe(array)}."
            )
        made.append(array)
    return np.stack(made)


def rgb_of(picture: Image.Image) -> PhotoArray:
    """Return Pillow's picture as uint8 (H, W, 3); more than 8 bits are stretched to the range.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from captum_infomask.results.map_pictures import rgb_of
        >>> deep = Image.fromarray(np.array([[1000, 1500, 2000]], np.uint16))
        >>> rgb_of(deep)[0, :, 0].tolist()
        [0, 128, 255]
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        # Pillow would cut all values above 255.
        values = np.nan_to_num(np.asarray(picture).astype(np.float64))
        low, high = values.min(), values.max()
        grey: PhotoArray = np.rint(255 * (values - low) / (high - low or 1)).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def short_name(source: str) -> str:
    """Return the last part of a file's path or address.

    Example:
        >>> from captum_infomask.results.map_pictures import short_name
        >>> short_name("photos/cat.jpg"), short_name("https://a.org/dog.png")
        ('cat.jpg', 'dog.png')
    """
    return source.replace("\\", "/").rstrip("/").rpartition("/")[2] or source


def checked_place(k: object, n: int) -> int:
    """Return the checked number of a picture among n."""
    place = int(k) if isinstance(k, numbers.Integral) and not isinstance(k, bool) else -1
    if not 0 <= place < n:
        raise ArgumentError(f"Expected `k` from 0 to {n - 1}; got {short_repr(k)}.")
    return place


def region_scores(
    regions: Regions, scores: Tensor, k: int, errors: Tensor | None = None
) -> RegionScores | None:
    """Return picture k's regions and scores; None unless they are boxes or one label a pixel.

    The standard errors come with them, if there are any.

    Several scales give the mean over regions of different kinds, and a pixel shows none of these
    alone. The scores of cells of a feature map are spread over the pixels.
    """
    if isinstance(regions, Scales | MapCells):
        return None
    own_scores = scores[k].detach().double().cpu().numpy()
    own_errors = None if errors is None else errors[k].detach().double().cpu().numpy()
    rectangles = regions.rectangles()
    if rectangles is not None:
        boxes = rectangles[k if len(rectangles) > 1 else 0].cpu().numpy().astype(np.int64)
        return RegionScores(own_scores, boxes=boxes, errors=own_errors)
    labels = regions.labels[0] if isinstance(regions, LabelRegions) else None
    if labels is None or labels.dim() not in (4, 5) or bool((labels != labels[:, :1]).any()):
        return None
    own = labels[k if len(labels) > 1 else 0, 0].expand(regions.shapes[0][1:])
    return RegionScores(own_scores, labels=own.cpu().numpy().astype(np.int64), errors=own_errors)


def attributions_unit(regions: Regions, unit: str) -> str:
    """Return the unit of attributions; for cells of feature maps they are a density."""
    return density(unit) if _is_density(regions) else unit


def suited_rule(regions: Regions) -> MaxFraction:
    """Return the paper's rule, 20% of the maximum; for a density, half of it (docs/masks.md)."""
    return MaxFraction(0.5 if _is_density(regions) else 0.2)


def _is_density(regions: Regions) -> bool:
    return isinstance(regions.parts[0] if isinstance(regions, Scales) else regions, MapCells)


Kind = Literal["signal", "picture", "volume", "video"]
DIMS: Mapping[Kind, int] = {"signal": 1, "picture": 2, "volume": 3, "video": 3}


class ShownMap(NamedTuple):
    """A map as it is shown.

    Args:
        values: (H, W) of a picture, (C, T) of a signal, (D, H, W) of a volume or a video.
        unit: Their unit.
        kind: What the map is of.
    """

    values: FloatArray
    unit: str
    kind: Kind

    @property
    def label(self) -> str:
        """The unit in words: that of a density names what it is 1% of."""
        return f"{self.unit} of the {self.kind}" if self.unit.endswith("1%") else self.unit


def kind_of(shape: Sequence[int]) -> Kind | None:
    """Return what inputs of a shape are, without the batch; None if they have no figure.

    A volume of three channels is a video.

    Example:
        >>> from captum_infomask.results.map_pictures import kind_of
        >>> kind_of((12, 1000)), kind_of((3, 224, 224)), kind_of((1, 64, 64, 64)), kind_of((9,))
        ('signal', 'picture', 'volume', None)
    """
    if len(shape) == 4:
        return "video" if shape[0] == 3 else "volume"
    found: dict[int, Kind] = {2: "signal", 3: "picture"}
    return found.get(len(shape))


def shown_map(attributions: TensorOrTensors, regions: Regions, unit: str, k: int) -> ShownMap:
    """Return example k's attributions as shown; but for signals, the mean over channels.

    Raises:
        ArgumentError: The inputs were no pictures, signals or volumes.
    """
    tensor = attributions[0] if isinstance(attributions, tuple) else attributions
    kind = kind_of(regions.shapes[0]) if len(regions.shapes) == 1 else None
    if kind is None:
        raise ArgumentError(
            f"Expected an InfoMap of pictures (C, H, W), signals (C, T) or volumes (C, D, H, W) to "
            f"show; got one of {', '.join(map(str, regions.shapes))}."
        )
    own = tensor[k].detach()
    values: FloatArray = (own if kind == "signal" else own.mean(0)).float().cpu().numpy()
    values, unit = as_shown(values, attributions_unit(regions, unit), DIMS[kind])
    return ShownMap(values, unit, kind)


def plane_of(
    attributions: TensorOrTensors, regions: Regions, unit: str, k: int
) -> tuple[FloatArray, str]:
    """Return picture k's attributions as shown, (H, W), the mean over channels, and their unit.

    Raises:
        ArgumentError: The inputs were not pictures.
    """
    if len(regions.shapes) != 1 or kind_of(regions.shapes[0]) != "picture":
        raise ArgumentError(
            f"Expected inputs that are pictures (C, H, W) to show; got "
            f"{', '.join(map(str, regions.shapes))}. An InfoMap shows signals and volumes too."
        )
    values, shown_unit, _ = shown_map(attributions, regions, unit, k)
    return values, shown_unit


def widget(content: PageContent) -> Any:
    """Return the viewer as a widget."""
    from captum_infomask.report.widget import viewer_widget

    return viewer_widget(content)


def write_html(content: PageContent, path: str | PathLike[str]) -> None:
    """Write the page; after an interrupt the earlier file is still there."""
    from captum_infomask.report.page import page_html

    check_output_file("path", path)
    with output_file("path", path) as beside:
        beside.write_bytes(utf8(page_html(content)))


def static(content: PageContent) -> str:
    """Return pictures without a script."""
    from captum_infomask.report.page import static_html

    return static_html(content)


def png_html(figure: Figure, words: str) -> str:
    """Return a figure as an HTML fragment, sharp on any screen.

    Args:
        figure: The figure.
        words: What it shows, for those who cannot see it.
    """
    assert isinstance(figure, DrawnFigure), "a figure of our own"
    data, size = figure._repr_png_()
    return (
        f'<img src="data:image/png;base64,{base64_text(data)}" width="{size["width"]}" '
        f'style="max-width: 100%" alt="{html.escape(printable(words))}">'
    )


def mimebundle(content: Callable[[], PageContent], still: Callable[[], str], text: str) -> Any:
    """Return the widget with its fallbacks, in a kernel that has widgets; else None."""
    if not in_kernel() or find_spec("anywidget") is None:
        return None
    found = widget(content())._repr_mimebundle_()
    data, metadata = found if isinstance(found, tuple) else (found, {})
    return {**data, "text/html": still(), "text/plain": text}, metadata


def in_kernel() -> bool:
    """Whether this runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
