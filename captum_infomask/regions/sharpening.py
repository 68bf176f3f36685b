# Averages attributions over superpixels of the picture, and chooses the superpixels.
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask._types import Tensors
from captum_infomask.regions.choose_regions import checked_regions
from captum_infomask.regions.label_regions import LabelRegions, Labels
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.superpixels import Picture, in_unit_range, label_map, superpixels

Sharpen: TypeAlias = Literal["superpixels"] | Regions | Sequence[Regions] | Callable[[Picture], Any]

# Scales are for pictures of 224² pixels, and change with the side of other pictures. Least sizes
# are shares of the picture. We chose all of them by measurement (docs/regions.md). Smoothing would
# make thin superpixels along sharp edges.
_SCALES, _SIDE = (50, 300, 1800, 12000), 224
_LEAST = (0.004, 0.008, 0.016, 0.032)
_ORDER = 0.01  # the weight of the map inside superpixels; it keeps their pixels in order
_MOST = 512 * 512  # pixels: felzenszwalb's time grows faster than their number
_MAPS = 64  # maps that are averaged at a time


def check_sharpen(sharpen: object, inputs: Tensors) -> None:
    """Refuse a value that cannot sharpen attributions of these inputs; compute nothing yet."""
    if sharpen is None:
        return
    if len(inputs) != 1 or not 3 <= inputs[0].dim() <= 5:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ArgumentError(
            f"Expected `sharpen` None for inputs other than pictures (N, C, H, W), signals (N, C, "
            f"T) or volumes (N, C, D, H, W); the inputs are {shapes}."
        )
    if sharpen is superpixels or (isinstance(sharpen, str) and sharpen != "superpixels"):
        hint = " Call it: superpixels(inputs, ...)." if callable(sharpen) else ""
        raise ArgumentError(
            f"Expected `sharpen` to be 'superpixels', regions with a label for each pixel or a "
            f"list of them, a function from a picture (H, W, C) in [0, 1] to label maps, or None; "
            f"got {describe(sharpen)}.{hint}"
        )
    if not (isinstance(sharpen, str) or _is_function(sharpen)):
        _labels_of_regions(sharpen, inputs)
    elif not bool(inputs[0].isfinite().all()):
        raise ArgumentError(
            "Expected finite `inputs` for `sharpen`, which follows their edges; they hold NaN or "
            "infinity."
        )


def label_maps(sharpen: object, inputs: Tensors, seed: int) -> Tensor | None:
    """The superpixels of every scale, int32 (N or 1, S, H, W), on the CPU; None if not sharpened.

    Args:
        sharpen: As checked by :func:`check_sharpen`.
        inputs: One tensor of pictures (N, C, H, W), signals or volumes.
        seed: The seed for random numbers in the user's function.

    Raises:
        ArgumentError: The user's function gives no label maps, or different numbers of them.
    """
    if sharpen is None:
        return None
    if not (isinstance(sharpen, str) or _is_function(sharpen)):
        return _labels_of_regions(sharpen, inputs)
    found = []
    for picture in inputs[0].detach().cpu().double():
        unit = in_unit_range(picture.movedim(0, -1).numpy())
        own = _default(unit) if isinstance(sharpen, str) else _asked(sharpen, unit, seed)
        found.append(torch.from_numpy(own))
    if len({len(own) for own in found}) > 1:
        raise ArgumentError(
            f"Expected `sharpen` to give as many label maps for every picture; it gave "
            f"{', '.join(str(len(own)) for own in found)}."
        )
    return torch.stack(found).int()


def averaged(maps: Tensor, labels: Tensor) -> Tensor:
    r"""Average maps over superpixels, scale by scale, and take the mean over the scales.

    .. math::

        \bar a(p) = \frac{1}{S} \sum_s \frac{1}{|P_s(p)|} \sum_{q \in P_s(p)} a(q)
            + 0.01 \Bigl(a(p) - \frac{1}{|P(p)|} \sum_{q \in P(p)} a(q)\Bigr),

    where :math:`P_s(p)` is the superpixel of scale s that holds pixel p, and :math:`P(p)` the
    common piece of these superpixels. The second part keeps the pixels of a piece in the map's own
    order. Without it, all pixels of a piece would share the largest value. The sum over pixels does
    not change.

    Args:
        maps: (N, ..., C, H, W), floating-point; of signals (N, ..., C, T), of volumes likewise.
        labels: Superpixels' numbers from 0, (N or 1, S, H, W).

    Returns:
        A tensor of the maps' shape and type.
    """
    channels = 1 - labels.dim()  # the dimension of maps, from the end
    first = maps.narrow(channels, 0, 1)
    if maps.shape[channels] > 1 and bool((maps == first).all()):
        return averaged(first, labels).expand_as(maps).contiguous()
    rows = [
        _averaged(own.flatten(0, channels), labels[k if len(labels) > 1 else 0].to(maps.device))
        for k, own in enumerate(maps)
    ]
    return torch.stack(rows).reshape(maps.shape)


def _averaged(maps: Tensor, labels: Tensor) -> Tensor:
    """One picture's maps (K, H, W) over its superpixels (S, H, W).

    Sums are taken once, over the pieces that superpixels of all scales share. A superpixel's sum is
    the sum of its pieces.
    """
    flat = labels.flatten(1).long()
    piece_of, count = _pieces(flat)
    wide = torch.float32 if maps.device.type == "mps" else torch.float64
    pixels = torch.bincount(piece_of, minlength=count).to(wide)
    members = []
    for own in flat:
        of_piece = own.new_zeros(count).scatter_(0, piece_of, own)
        size = torch.zeros(int(own.max()) + 1, dtype=wide, device=maps.device)
        members.append((of_piece, size.index_add_(0, of_piece, pixels)))
    found = []
    for some in maps.flatten(1).split(_MAPS):
        zeros = torch.zeros(len(some), count, dtype=wide, device=maps.device)
        values = some.to(wide)
        sums = zeros.scatter_add(1, piece_of.expand_as(some), values)
        means = torch.zeros_like(sums)
        for of_piece, size in members:
            total = sums.new_zeros(len(some), len(size)).index_add_(1, of_piece, sums)
            means += (total / size).index_select(1, of_piece)
        inside = values - (sums / pixels).index_select(1, piece_of)
        ordered = (means / len(flat)).index_select(1, piece_of) + _ORDER * inside
        found.append(ordered.to(maps.dtype))
    return torch.cat(found).reshape(maps.shape)


def _pieces(labels: Tensor) -> tuple[Tensor, int]:
    """For labels (S, P), the piece of every pixel, long (P,), and the number of pieces."""
    key, below = torch.zeros_like(labels[0]), 1
    for own in labels:
        regions = int(own.max()) + 1
        if below * regions >= 2**62:
            key = key.unique(return_inverse=True)[1]
            below = int(key.max()) + 1
        key, below = key * regions + own, below * regions
    names, pieces = key.unique(return_inverse=True)
    return pieces, len(names)


def _is_function(given: object) -> bool:
    return callable(given) and not isinstance(given, type | Regions)


def _default(picture: Picture) -> Labels:
    """Superpixels of a picture in [0, 1], (S, H, W), by Felzenszwalb & Huttenlocher's method.

    It is a method for planes: signals and volumes are cut by SLIC, in as many superpixels as the
    least sizes allow, of four elements at least.
    """
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    if picture.ndim != 3:
        voxels = math.prod(picture.shape[:-1])
        counts = [min(max(1, voxels // 4), round(1 / share)) for share in _LEAST]
        return np.stack([label_map(picture, count) for count in counts])
    height, width, channels = picture.shape
    shrink = math.sqrt(_MOST / (height * width))
    if shrink < 1:
        size = (max(1, int(height * shrink)), max(1, int(width * shrink)))
        rows, columns = (
            np.arange(full) * part // full for full, part in zip((height, width), size, strict=True)
        )
        tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
        picture = F.interpolate(tensor, size, mode="area")[0].permute(1, 2, 0).numpy()
        return _default(picture)[:, rows[:, None], columns]
    colours = rgb2lab(picture) / 100 if channels == 3 else picture
    side = math.sqrt(height * width) / _SIDE
    least = [max(1, round(share * height * width)) for share in _LEAST]
    # It warns of images of other than one or three channels, "which may not be intended".
    with quiet("Got image with third dimension"):
        return np.stack(
            [
                felzenszwalb(colours, scale=scale * side, sigma=0, min_size=size)
                for scale, size in zip(_SCALES, least, strict=True)
            ]
        )


def _asked(function: Any, picture: Picture, seed: int) -> Labels:
    """The result of the user's function, as labels (S, H, W) from 0."""
    size = picture.shape[:-1]
    with OwnGenerators(seed) as generators:
        given = LibraryDraws(seed, generators).run(lambda: function(picture.copy()))
    try:
        found = np.stack([np.asarray(own) for own in given]) if _is_list(given) else given
        array = np.asarray(found)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0)
    has_places = array.shape[-len(size) :] == size and array.ndim - len(size) in (0, 1)
    if array.dtype.kind not in "iub" or not has_places:
        raise ArgumentError(
            f"Expected `sharpen` to give integers {size}, a label per pixel, or several such maps; "
            f"it gave {describe(given)}."
        )
    maps = array.reshape(-1, *size)
    if not len(maps):
        raise ArgumentError("Expected `sharpen` to give a label map at least; it gave none.")
    return np.stack([np.unique(own, return_inverse=True)[1].reshape(size) for own in maps])


def _is_list(given: object) -> bool:
    return isinstance(given, list | tuple)


def _labels_of_regions(sharpen: object, inputs: Tensors) -> Tensor:
    """The label maps of regions that a user made for these pictures."""
    parts = sharpen if isinstance(sharpen, list | tuple) and sharpen else [sharpen]
    maps = [_label_map(checked_regions("sharpen", part, inputs)) for part in parts]
    n = max(map(len, maps))
    return torch.cat([own.expand(n, *own.shape[1:]) for own in maps], dim=1)


def _label_map(regions: Regions) -> Tensor:
    """The label map of regions, int32 (N or 1, 1, H, W), if each pixel is in one region."""
    labels = regions.labels[0] if isinstance(regions, LabelRegions) else None
    if labels is None or bool((labels != labels[:, :1]).any()):
        raise ArgumentError(
            f"Expected `sharpen` to hold regions with one label for each pixel, over all channels, "
            f"as superpixels() and from_label_map() make them; got {regions!r}."
        )
    return labels[:, :1].expand(-1, -1, *regions.shapes[0][1:]).int().cpu()
