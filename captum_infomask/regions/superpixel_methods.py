# scikit-image's four ways to cut a picture, each as a function of how many regions are wanted.
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from captum_infomask._checks import finite_number, positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.regions.merging import Labels

Picture: TypeAlias = npt.NDArray[np.float64]
Cut: TypeAlias = Callable[[float], Labels]
Prepare: TypeAlias = Callable[..., Cut]
Checks: TypeAlias = Mapping[str, Callable[[str, Any], float]]

# Felzenszwalb's scale for one region wanted: a search begins at this over the number wanted.
_SCALE = 12_800


def _slic(
    picture: Picture,
    colours: Picture,
    compactness: float | None = None,
    sigma: float = 1.0,
    max_num_iter: int = 10,
) -> Cut:
    """K-means of places and colours; the wanted number is that of its grid of first means."""
    from skimage.segmentation import slic

    if compactness is None:
        channels = picture.shape[2]
        compactness = 10.0 if channels == 3 else 0.1 * math.sqrt(channels)

    def cut(wanted: float) -> Labels:
        labels: Labels = slic(
            picture,
            min(round(wanted), picture.shape[0] * picture.shape[1]),
            compactness=compactness,
            sigma=sigma,
            max_num_iter=max_num_iter,
            start_label=0,
        )
        return labels

    return cut


def _felzenszwalb(
    picture: Picture, colours: Picture, sigma: float = 0.8, min_size: int | None = None
) -> Cut:
    """Joins along edges of the graph of pixels; the wanted number sets the scale."""
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
    ratio: float = 1.0,
    kernel_size: int = 3,
    sigma: float = 0.0,
) -> Cut:
    """A tree of links to pixels of higher density; the longest links are cut, as many as needed."""
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
    # Roots have themselves as parents and come first: they need no cut.
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
    picture: Picture, colours: Picture, compactness: float = 0.03, sigma: float = 1.0
) -> Cut:
    """Floods the picture's gradient from a regular grid of the wanted number of seeds."""
    from skimage.filters import gaussian, sobel
    from skimage.segmentation import watershed

    smooth = gaussian(colours, sigma=sigma, channel_axis=-1) if sigma > 0 else colours
    slopes = [sobel(smooth[..., channel]) for channel in range(smooth.shape[2])]
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


METHODS: Mapping[str, tuple[Prepare, Checks]] = {
    "slic": (
        _slic,
        {"compactness": _above_zero, "sigma": _at_least_zero, "max_num_iter": positive_int},
    ),
    "felzenszwalb": (_felzenszwalb, {"sigma": _at_least_zero, "min_size": positive_int}),
    "quickshift": (
        _quickshift,
        {"ratio": _above_zero, "kernel_size": positive_int, "sigma": _at_least_zero},
    ),
    "watershed": (_watershed, {"compactness": _at_least_zero, "sigma": _at_least_zero}),
}
