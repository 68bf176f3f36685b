# Regions that follow the picture: scikit-image's superpixels, in a given number.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import (
    check_inputs,
    describe,
    finite_number,
    one_of,
    positive_int,
    short_repr,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._process import default_on_cpu, quiet
from captum_infomask._types import Shape
from captum_infomask.regions.label_regions import (
    LabelRegions,
    Labels,
    connected,
    from_label_map,
    merged_labels,
)
from captum_infomask.regions.region_protocol import place_sizes

Picture: TypeAlias = npt.NDArray[np.float64]
Cut: TypeAlias = Callable[[float], Labels]
Prepare: TypeAlias = Callable[..., Cut]
Checks: TypeAlias = Mapping[str, Callable[[str, Any], object]]

# Felzenszwalb's scale for one region. A search begins at this value over the wanted number.
_SCALE = 12_800


def _slic(
    picture: Picture,
    colours: Picture,
    in_colour: bool,
    compactness: float | None = None,
    sigma: float = 1.0,
    max_num_iter: int = 10,
    spacing: tuple[float, ...] | None = None,
) -> Cut:
    """K-means of places and colours; the wanted number sets its grid of first means."""
    from skimage.segmentation import slic

    if compactness is None:
        compactness = 10.0 if in_colour else 0.1 * math.sqrt(picture.shape[-1])

    def cut(wanted: float) -> Labels:
        labels: Labels = slic(
            picture,
            min(round(wanted), math.prod(picture.shape[:-1])),
            compactness=compactness,
            sigma=sigma,
            max_num_iter=max_num_iter,
            spacing=spacing,
            convert2lab=in_colour,
            start_label=0,
            channel_axis=-1,
        )
        return labels

    return cut


def _felzenszwalb(
    picture: Picture,
    colours: Picture,
    in_colour: bool,
    sigma: float = 0.8,
    min_size: int | None = None,
) -> Cut:
    """Joins pixels along edges of their graph; the wanted number sets the scale."""
    from skimage.segmentation import felzenszwalb

    def cut(wanted: float) -> Labels:
        least = colours[..., 0].size / (16 * wanted) if min_size is None else min_size
        # It warns of images of other than one or three channels, "which may not be intended".
        with quiet("Got image with third dimension"):
            labels: Labels = felzenszwalb(
                picture, scale=_SCALE / wanted, sigma=sigma, min_size=math.ceil(least)
            )
        return labels

    return cut


def _quickshift(
    picture: Picture,
    colours: Picture,
    in_colour: bool,
    ratio: float = 1.0,
    kernel_size: int = 3,
    sigma: float = 0.0,
) -> Cut:
    """A tree of links to pixels of higher density; the longest links are cut."""
    from skimage.segmentation import quickshift

    found = quickshift(
        colours,
        ratio=ratio,
        kernel_size=kernel_size,
        max_dist=math.inf,
        return_tree=True,
        sigma=sigma,
        convert2lab=False,
        rng=42,
    )
    parents, lengths = (np.asarray(part).ravel() for part in found[1:])
    own = np.arange(len(parents))
    # Roots are their own parents and come first. They need no cut.
    longest_first = np.argsort(np.where(parents == own, -np.inf, -lengths), kind="stable")

    def cut(wanted: float) -> Labels:
        roots = longest_first[: round(wanted)]
        labels = parents.copy()
        labels[roots] = roots
        while (labels != labels[labels]).any():
            labels = labels[labels]
        return labels.reshape(picture.shape[:2])

    return cut


def _watershed(
    picture: Picture,
    colours: Picture,
    in_colour: bool,
    compactness: float = 0.03,
    sigma: float = 1.0,
) -> Cut:
    """Floods the picture's gradient from a regular grid of the wanted number of seeds."""
    from skimage.filters import gaussian, sobel
    from skimage.segmentation import watershed

    smooth = gaussian(colours, sigma=sigma, channel_axis=-1) if sigma > 0 else colours
    slopes = [sobel(smooth[..., channel]) for channel in range(smooth.shape[-1])]
    gradient = np.sqrt(np.mean(np.square(slopes), axis=0))

    def cut(wanted: float) -> Labels:
        seeds = min(round(wanted), gradient.size)
        labels: Labels = watershed(gradient, markers=seeds, compactness=compactness)
        return labels

    return cut


def _above_zero(name: str, given: object) -> float:
    return finite_number(name, given, above=0)


def _at_least_zero(name: str, given: object) -> float:
    number = finite_number(name, given, above=-math.inf)
    if number < 0:
        raise ArgumentError(f"Expected `{name}` of at least 0; got {short_repr(given)}.")
    return number


def _side_lengths(name: str, given: object) -> object:
    if not isinstance(given, tuple | list) or not given:
        raise ArgumentError(
            f"Expected `{name}` to hold a voxel's length along each place; got {describe(given)}."
        )
    return [_above_zero(name, one) for one in given]


METHODS: Mapping[str, tuple[Prepare, Checks]] = {
    "slic": (
        _slic,
        {
            "compactness": _above_zero,
            "sigma": _at_least_zero,
            "max_num_iter": positive_int,
            "spacing": _side_lengths,
        },
    ),
    "felzenszwalb": (_felzenszwalb, {"sigma": _at_least_zero, "min_size": positive_int}),
    "quickshift": (
        _quickshift,
        {"ratio": _above_zero, "kernel_size": positive_int, "sigma": _at_least_zero},
    ),
    "watershed": (_watershed, {"compactness": _at_least_zero, "sigma": _at_least_zero}),
}


_COUNT = 64  # regions, if no number is given
_OF_VOLUMES = ("slic", "watershed")  # scikit-image's other methods are for planes

# A search for the wanted number of regions aims at the first surplus. It ends within the second,
# larger surplus, or after this number of tries.
_AIM, _NEAR, _TRIES = 1.15, 1.3, 8


@default_on_cpu()
def superpixels(
    inputs: Tensor,
    count: int | None = None,
    *,
    method: str = "slic",
    mean: float | Iterable[float] | None = None,
    std: float | Iterable[float] | None = None,
    **options: Any,
) -> LabelRegions:
    r"""Regions that follow the colours and edges of each image, signal or volume.

    The network's normalisation is undone, :math:`x \cdot \text{std} + \text{mean}`, and each image
    is scaled to [0, 1] by its own range, over all channels. Three channels are compared as colours
    (in CIELAB), in images and in volumes such as video. One channel, or any other number, and the
    channels of signals are compared without conversion. Every pixel is in
    one region, and every region is connected (pixels that share an edge). The method runs until it
    gives ``count`` regions or a few more. Then the smallest regions are joined, each with the
    neighbour of the nearest mean colour. So there are ``count`` regions, or fewer if the picture
    has no more: for ``felzenszwalb``, a constant picture is one region.

    Args:
        inputs: Images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, H, W), floating-point,
            of any range, on any device. A signal is cut as an image of one row.
        count: The number of regions of each image, at most its number of pixels. None takes 64, or
            all pixels of a smaller image.
        method: ``slic``, ``felzenszwalb``, ``quickshift`` or ``watershed`` (of the gradient, from a
            regular grid of seeds). Volumes take ``slic`` and ``watershed``.
        mean: The mean that was subtracted from the picture, a number or one per channel; 0 if None.
        std: The deviation by which it was divided, a number or one per channel; 1 if None.
        options: scikit-image's own options, with these defaults: slic ``compactness`` (10; 0.1 · √C
            if images do not have three channels), ``sigma`` (1), ``max_num_iter`` (10) and, for
            volumes, ``spacing`` (a voxel's length along D, H and W, in any unit);
            felzenszwalb ``sigma`` (0.8) and ``min_size`` (a 16th of the mean region); quickshift
            ``ratio`` (1), ``kernel_size`` (3) and ``sigma`` (0); watershed ``compactness`` (0.03)
            and ``sigma`` (1), the sigma of the gradient.

    Returns:
        The regions of each image, numbered from the top left; on the inputs' device.

    Raises:
        ArgumentError: ``inputs`` have no places or are not finite, ``count`` is less than 1 or
            above the number of pixels, ``method`` or an option is unknown or not for these inputs,
            or a value is out of range.

    Example:
        >>> import torch
        >>> from captum_infomask import superpixels
        >>> from captum_infomask.datasets import sample_photo
        >>> photo = torch.from_numpy(sample_photo("coffee").copy()).permute(2, 0, 1)[None] / 255
        >>> len(superpixels(photo, 100))
        100

    Source: Achanta et al., TPAMI 2012 (SLIC); Felzenszwalb & Huttenlocher, IJCV 2004; Vedaldi &
    Soatto, ECCV 2008 (quick shift); Neubert & Protzel, ICPR 2014 (compact watershed).
    """
    check_inputs(inputs)
    sizes, channels = place_sizes(inputs), inputs.shape[1]
    if not bool(inputs.isfinite().all()):
        raise ArgumentError("Expected `inputs` to be finite; they hold NaN or infinity.")
    pixels = math.prod(sizes)
    wanted = min(_COUNT, pixels) if count is None else positive_int("count", count)
    if wanted > pixels:
        raise ArgumentError(
            f"Expected `count` of at most {pixels}, the pixels of an example of "
            f"{' × '.join(map(str, sizes))}; got {count}."
        )
    prepare, checks = METHODS[one_of("method", method, METHODS)]
    for name, value in options.items():
        one_of(f"options of method={method!r}", name, checks)
        checks[name](name, value)
    _check_places(method, options, sizes)
    scale = _per_channel("std", std, channels, 1.0)
    shift = _per_channel("mean", mean, channels, 0.0)
    labels = []
    for one in inputs:
        values = one.detach().cpu().double().flatten(1) * scale + shift
        picture = values.T.reshape(*sizes, channels).numpy()
        labels.append(label_map(picture, wanted, prepare, options))
    return from_label_map(inputs, np.stack(labels))


def _check_places(method: str, options: Mapping[str, Any], sizes: Shape) -> None:
    """Refuse a method or an option that is not for inputs of these places."""
    is_volume = len(sizes) == 3
    if len(sizes) > 2 and not (is_volume and method in _OF_VOLUMES):
        raise ArgumentError(
            f"Expected `method` 'slic' or 'watershed' for volumes (N, C, D, H, W); got {method!r} "
            f"for places {sizes}. grid() and sliding_windows() cut inputs of any places."
        )
    spacing = options.get("spacing")
    if spacing is not None and not (is_volume and len(spacing) == len(sizes)):
        raise ArgumentError(
            f"Expected `spacing` of 3 lengths, along D, H and W of a volume; got {spacing} for "
            f"places {sizes}."
        )


def label_map(
    picture: Picture, count: int, prepare: Prepare = _slic, options: Mapping[str, Any] | None = None
) -> Labels:
    """One picture's label map, (*sizes), with ``count`` regions or fewer.

    Args:
        picture: (T, C), (H, W, C) or (D, H, W, C); a signal is cut as an image of one row.
        count: The number of regions wanted.
        prepare: The method.
        options: The method's own options.
    """
    from skimage.color import rgb2lab

    row = in_unit_range(picture)
    if picture.ndim == 2:
        row = row[None]
    in_colour = picture.ndim > 2 and picture.shape[-1] == 3
    colours = rgb2lab(row) if in_colour else 100 * row
    labels = _near(prepare(row, colours, in_colour, **(options or {})), count)
    return merged_labels(connected(labels), colours, count).reshape(picture.shape[:-1])


def in_unit_range(picture: Picture) -> Picture:
    """Scale a picture to [0, 1] by its range over all channels; a constant picture becomes 0."""
    low, high = float(picture.min()), float(picture.max())
    # We halve the values, because the range of finite numbers may be infinite.
    spread = high / 2 - low / 2
    return (picture / 2 - low / 2) / spread if spread > 0 else np.zeros_like(picture)


def _near(cut: Cut, count: int) -> Labels:
    """The coarsest labels with ``count`` regions or more; if there are none, the finest labels."""
    tried: list[tuple[int, Labels]] = []
    wanted, low, high = _AIM * count, 0.0, math.inf
    for _ in range(_TRIES):
        labels = cut(wanted)
        found = len(np.unique(labels))
        tried.append((found, labels))
        if count <= found <= _NEAR * count:
            break
        low, high = (low, wanted) if found > count else (wanted, high)
        wanted *= _AIM * count / found
        if not low < wanted < high:
            wanted = 4 * low if high == math.inf else math.sqrt(max(low, high / 16) * high)
    enough = [pair for pair in tried if pair[0] >= count]
    best = min(enough, key=_found) if enough else max(tried, key=_found)
    return best[1]


def _found(pair: tuple[int, Labels]) -> int:
    return pair[0]


def _per_channel(name: str, given: object, channels: int, otherwise: float) -> Tensor:
    """A normalisation's numbers as a tensor (C or 1, 1)."""
    if given is None:
        return torch.full((1, 1), otherwise, dtype=torch.float64)
    try:
        values = torch.as_tensor(given, dtype=torch.float64).detach().cpu().flatten()
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    lowest = 0 if name == "std" else -math.inf
    if len(values) not in (1, channels) or not bool((values.isfinite() & (values > lowest)).all()):
        kind = "finite numbers above 0" if name == "std" else "finite numbers"
        raise ArgumentError(
            f"Expected `{name}` to be {kind}, one or one for each of the {channels} channels; got "
            f"{describe(given)}."
        )
    return values.reshape(-1, 1)
