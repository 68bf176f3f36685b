# Every kind of regions on one photo: what docs/regions.md shows.
#
#     python examples/region_gallery.py docs/regions.png
from __future__ import annotations

import argparse
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from captum_infomask import (
    from_boxes,
    from_label_map,
    from_masks,
    grid,
    sliding_windows,
    superpixels,
)
from captum_infomask.datasets import sample_photo
from captum_infomask.regions.region_protocol import Regions

SIDE = 224
METHODS = ("slic", "felzenszwalb", "quickshift", "watershed")
LINE, UNDER = "#ffe24a", "#202020"


def photo() -> Tensor:
    """The photo of a cup, (1, 3, 224, 224) in [0, 1]: its middle square."""
    pixels = torch.from_numpy(sample_photo("coffee").copy()).permute(2, 0, 1)[None] / 255
    height, width = pixels.shape[2:]
    left = (width - height) // 2
    square = pixels[..., left : left + height]
    return F.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 1)


def ellipse(x: float, y: float, half_width: float, half_height: float) -> Tensor:
    """The pixels inside an ellipse, bool (224, 224)."""
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    return ((columns - x) / half_width) ** 2 + ((rows - y) / half_height) ** 2 <= 1


def objects() -> Tensor:
    """Saucer, cup, coffee and spoon, drawn by hand: bool (4, 224, 224). The first three overlap."""
    return torch.stack(
        [
            ellipse(103, 123, 112, 94),
            ellipse(105, 62, 65, 53) | ellipse(100, 92, 55, 48),
            ellipse(107, 78, 45, 28),
            ellipse(149, 160, 24, 25),
        ]
    )


def gallery(inputs: Tensor) -> dict[str, Regions]:
    """The kinds of regions, by the calls that make them."""
    saucer, cup, coffee, _ = objects()
    labels = torch.zeros(SIDE, SIDE, dtype=torch.long)
    for number, mask in enumerate((saucer, cup, coffee), start=1):
        labels[mask] = number
    kinds: dict[str, Regions] = {
        "grid(x, 8, 8)": grid(inputs, 8, 8),
        "sliding_windows(x, (3, 64, 64), (3, 40, 40))": sliding_windows(
            inputs, (3, 64, 64), (3, 40, 40)
        ),
        "from_boxes(x, boxes)": from_boxes(
            inputs, [[38, 7, 175, 142], [60, 48, 154, 108], [124, 133, 175, 187]]
        ),
        "from_label_map(x, labels)": from_label_map(inputs, labels),
        "from_masks(x, masks), from_run_lengths(x, …)": from_masks(inputs, objects()),
    }
    for method in METHODS:
        name = "superpixels(x)" if method == "slic" else f'superpixels(x, method="{method}")'
        kinds[name] = superpixels(inputs, method=method)
    return kinds


def draw(axes: Axes, picture: Tensor, regions: Regions) -> None:
    """The regions' outlines; pixels in none are darkened."""
    count = len(regions)
    found = regions.masks(torch.zeros(count).long(), torch.arange(count), picture.device)[0]
    assert found is not None, "one input"
    masks = found.expand(-1, 1, SIDE, SIDE)[:, 0].numpy()
    shown = picture[0].permute(1, 2, 0).numpy()
    shown = np.where(masks.any(0)[..., None], shown, 0.35 * shown)
    axes.imshow(shown, extent=(0, SIDE, SIDE, 0))
    places = np.arange(-1, SIDE + 1) + 0.5
    for colour, width in ((UNDER, 1.8), (LINE, 0.8)):
        for mask in masks:
            # A border of False closes the outlines of regions at the picture's own border.
            axes.contour(
                places, places, np.pad(mask, 1), levels=[0.5], colors=colour, linewidths=width
            )
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0))
    axes.axis("off")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="where the picture is written")
    path = parser.parse_args(arguments).path
    inputs = photo()
    figure, grid_of_axes = plt.subplots(3, 3, figsize=(9, 9.6), layout="constrained")
    for axes, (name, regions) in zip(grid_of_axes.flat, gallery(inputs).items(), strict=True):
        draw(axes, inputs, regions)
        axes.set_title(f"{name}\n{len(regions)} regions", fontsize=8.5)
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
