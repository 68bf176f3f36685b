"""The view `features` beside `crop` and Grad-CAM: where the attribution lies, and what it costs.

Where: on the 2 × 2 mosaics of `mosaics.py`. Cost: one picture of 224 × 224 pixels, by process time.
Run from the repository's root:

    python examples/features.py                # the mosaics, 448 pixels
    python examples/features.py --side 224     # the mosaics, 224 pixels
    python examples/features.py --cost
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerAttribution, LayerGradCam
from experiments.mosaic_experiment import (
    MosaicMethod,
    MosaicRow,
    grad_cam_classes,
    info_mask_classes,
    mosaic_experiment,
)
from mosaics import PHOTOS, draw, make_mosaics
from torch import Tensor, nn

from captum_infomask import InfoMask, grid, sliding_windows, superpixels
from captum_infomask.evaluation.method_calls import Forward
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.regions.region_protocol import Regions

CELL = 32  # pixels of the picture per cell of the network's last feature map
ROUNDS = 15


def windows(size: int, stride: int) -> Callable[[Tensor], Regions]:
    """Square windows over all channels."""
    return lambda picture: sliding_windows(picture, (3, size, size), (3, stride, stride))


def cells(picture: Tensor) -> Regions:
    """The cells of the feature map."""
    return grid(picture, picture.shape[2] // CELL, picture.shape[3] // CELL)


def of_features(network: nn.Module, name: str, make: Callable[[Tensor], Any]) -> MosaicMethod:
    """The view `features` with the regions that a function makes of the picture."""

    def attribute(forward: Forward, picture: Tensor, targets: Sequence[int]) -> Tensor:
        maps = InfoMask(network).score_classes(
            picture, classes=list(targets), view="features", regions=make(picture)
        )
        return torch.stack([maps.rank(k).attributions()[0, 0] for k in range(len(targets))])

    return MosaicMethod(f"features, {name}", "bits", attribute)


def methods(network: nn.Module, side: int) -> list[MosaicMethod]:
    """`features` with several kinds of regions, and what it is compared with."""
    quarter, eighth = side // 4, side // 8
    scales = (windows(quarter, eighth), windows(quarter // 2, eighth // 2))
    regions: dict[str, Callable[[Tensor], Any]] = {
        f"windows {quarter}/{eighth}": scales[0],
        f"windows {quarter // 2}/{eighth // 2}": scales[1],
        "both": lambda picture: [make(picture) for make in scales],
        "the map's own cells": cells,
        "64 superpixels": lambda picture: superpixels(picture, 64),
    }
    layers = {"last convolution": "_conv_head", "its batch norm": "_bn1", "its ReLU6": "_swish"}
    return [
        *(of_features(network, name, make) for name, make in regions.items()),
        MosaicMethod("crop, size 224", "bits", info_mask_classes(crop_size=(224, 224))),
        *(
            MosaicMethod(f"Grad-CAM, {name}", "a.u.", grad_cam_classes(network.get_submodule(path)))
            for name, path in layers.items()
        ),
    ]


def quality_table(rows: Sequence[MosaicRow]) -> str:
    """Share, average precision and time of every method."""
    lines = [
        "| method | share in the right quarter | lowest | average precision | seconds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.method} | {row.share} | {row.shares.min():.3f} | {row.precision} "
        f"| {row.seconds:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def cost_table(network: nn.Module, picture: Tensor) -> str:
    """Process time of each way to a map, and its ratio to Grad-CAM's, in rounds of all ways."""
    infomask, layer = InfoMask(network), network.get_submodule("_swish")

    def forward() -> None:
        with torch.no_grad():
            network(picture)

    def grad_cam() -> None:
        coarse = LayerGradCam(network, layer).attribute(picture, 967, relu_attributions=True)
        LayerAttribution.interpolate(coarse.detach(), (224, 224), "bilinear")

    def features(**options: Any) -> Callable[[], Any]:
        return lambda: infomask.attribute(picture, target=967, view="features", **options)

    ways = {
        "the forward pass alone": forward,
        "Grad-CAM, its ReLU6": grad_cam,
        "features, 49 windows (default)": features(),
        "features, 49 cells": features(regions=cells(picture)),
        "features, 729 windows of 16, 8 apart": features(regions=windows(16, 8)(picture)),
        "features, 64 superpixels": features(regions=superpixels(picture, 64)),
        "crop, 49 windows (default)": lambda: infomask.attribute(picture, target=967, view="crop"),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for turn in range(ROUNDS):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            ways[name]()
            spent[name].append(time.process_time() - start)
    lines = ["| one picture, one class | milliseconds | over Grad-CAM's |", "|---|---|---|"]
    for name, seconds in spent.items():
        ratios = [a / b for a, b in zip(seconds, spent["Grad-CAM, its ReLU6"], strict=True)]
        lines.append(
            f"| {name} | {1000 * statistics.median(seconds):.0f} "
            f"| {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=448, help="pixels of a mosaic's side")
    parser.add_argument("--cost", action="store_true", help="times of one picture instead")
    parser.add_argument("--figure", type=Path, help="where to draw the first mosaic's maps")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    classifier = efficientnet_lite0()
    mosaics = make_mosaics(classifier, 224 if options.cost else options.side, 10)
    if options.cost:
        print(cost_table(classifier.network, mosaics[0].picture))
        return
    rows = mosaic_experiment(
        classifier.network, mosaics, PHOTOS, methods(classifier.network, options.side)
    )
    print(quality_table(rows))
    if options.figure:
        draw(classifier, mosaics[0], rows).savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
