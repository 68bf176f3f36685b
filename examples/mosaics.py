"""Does the attribution lie in the photograph that was asked about? 2 × 2 mosaics of photographs.

Five of scikit-image's photographs that EfficientNet-Lite0 recognises; every choice of four, in two
arrangements; each photograph of a mosaic is the target once. Run from the repository's root:

    python examples/mosaics.py                 # every method, on mosaics of 448 pixels
    python examples/mosaics.py --side 224      # the same on mosaics of 224 pixels
    python examples/mosaics.py --sweep         # settings of `crop`: quality against cost
    python examples/mosaics.py --overlaps      # how values of overlapping windows combine
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.mosaic_experiment import (
    CountedPixels,
    Mosaic,
    MosaicRow,
    measure_maps,
    mosaic_experiment,
    mosaic_methods,
    mosaic_table,
    photo_mosaics,
)
from experiments.mosaic_figures import MapsRow, Setting, mosaic_figure, quality_figure
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from captum_infomask import InfoMask
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.datasets import sample_photo
from captum_infomask.evaluation.ground_truth import Estimate, bootstrap
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.results import ClassMaps

PHOTOS = {"coffee": 967, "camera": 872, "rocket": 657, "chelsea": 282, "motorcycle_left": 665}
# The side of the pictures that the network was trained on; two smaller ones, chosen by --sweep.
SIZES = (224, 160, 128)

# Window / stride in pixels of the 448-pixel mosaic, size of the crops, margin; by series.
SWEEP: dict[str, tuple[tuple[int, int, int, float], ...]] = {
    "112/56, by size": tuple((112, 56, size, 0.0) for size in (224, 160, 128, 112, 96, 64)),
    "84/42, by size": tuple((84, 42, size, 0.0) for size in (224, 160, 112)),
    "other windows, size 160": ((112, 112, 160, 0.0), (168, 56, 160, 0.0), (112, 28, 160, 0.0)),
    "margins, size 160": tuple((112, 56, 160, margin) for margin in (0.1, 0.25, 0.5)),
    "margin, size 224": ((112, 56, 224, 0.25),),
}
JOINED = ("112/56, by size", "84/42, by size")  # series of sizes, which the figure joins by lines
# Several scales: the mean of the maps of these settings, as lists of regions or of sizes give it.
SCALES = (
    ((112, 56, 160, 0.0), (112, 56, 128, 0.0)),
    ((112, 56, 128, 0.0), (112, 56, 96, 0.0)),
    ((112, 56, 160, 0.0), (112, 56, 128, 0.0), (112, 56, 96, 0.0)),
    ((112, 56, 160, 0.0), (84, 42, 160, 0.0)),
    ((168, 56, 160, 0.0), (112, 56, 160, 0.0)),
)


@dataclasses.dataclass(frozen=True)
class Swept:
    """One setting of ``crop``, or the mean over several scales.

    Args:
        series: Settings of one series share a colour in the figure.
        row: Share, average precision and cost.
        inside: Mean bits of the windows that lie wholly in the right photograph; None for scales.
    """

    series: str
    row: MosaicRow
    inside: Estimate | None


def make_mosaics(classifier: Classifier, side: int, count: int) -> list[Mosaic]:
    """The first mosaics, photographs cut out as for the network, at half the mosaic's side."""
    half = side // 2
    cut = dataclasses.replace(classifier.preprocess, resize=round(half * 256 / 224), crop=half)
    return photo_mosaics({name: cut(_photo(name)) for name in PHOTOS})[:count]


def draw(classifier: Classifier, mosaic: Mosaic, rows: Sequence[MosaicRow]) -> Figure:
    """The first mosaic with the maps of all methods but the controls."""
    half = mosaic.picture.shape[-1] // 2
    cut = dataclasses.replace(classifier.preprocess, resize=round(half * 256 / 224), crop=half)
    a, b, c, d = (np.asarray(cut.frame(_photo(name))) for name in mosaic.names)
    picture = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)
    targets = [PHOTOS[name] for name in mosaic.names]
    drawn = [
        MapsRow(
            row.method.replace(", ", ",\n", 1),
            row.unit,
            f"mean share {row.share.mean:.3f}",
            row.maps.cpu().numpy().astype(np.float32),
        )
        for row in rows
        if "control" not in row.method
    ]
    names = [classifier.categories[target] for target in targets]
    title = "One mosaic, four questions: does the attribution lie in the framed photograph?"
    figure, _ = mosaic_figure(picture, names, drawn, title=title)
    return figure


def run_setting(
    network: nn.Module, mosaics: Sequence[Mosaic], **options: Any
) -> tuple[list[ClassMaps], float, float]:
    """All mosaics' information in one setting, and its cost per mosaic: pixels, seconds."""
    counted = CountedPixels(network)
    start = time.process_time()
    found = [
        InfoMask(counted).score_classes(
            mosaic.picture, classes=[PHOTOS[name] for name in mosaic.names], **options
        )
        for mosaic in mosaics
    ]
    seconds = (time.process_time() - start) / len(mosaics)
    return found, counted.pixels / len(mosaics), seconds


def crop_options(window: int, stride: int, size: int, margin: float, side: int) -> dict[str, Any]:
    """A setting of the 448-pixel mosaic, for a mosaic of another side."""
    window, stride = window * side // 448, stride * side // 448
    return {
        "sliding_window_shapes": (3, window, window),
        "strides": (3, stride, stride),
        "crop_size": (size, size),
        "crop_margin": margin,
    }


def maps_of(found: ClassMaps) -> torch.Tensor:
    """The attributions for a mosaic's four photographs, (4, H, W)."""
    return torch.stack([found.rank(k).attributions()[0, 0] for k in range(4)])


def sweep(network: nn.Module, mosaics: Sequence[Mosaic]) -> list[Swept]:
    """Every setting of ``crop``, and the means of some over scales."""
    side = mosaics[0].picture.shape[-1]
    results: dict[tuple[int, int, int, float], Any] = {}
    made = []
    for series, settings in SWEEP.items():
        for setting in settings:
            results[setting] = run_setting(network, mosaics, **crop_options(*setting, side))
            bits = torch.stack(
                [
                    information_inside(found, mosaic).mean()
                    for found, mosaic in zip(results[setting][0], mosaics, strict=True)
                ]
            )
            made.append(Swept(series, mean_row([setting], results, mosaics), bootstrap(bits)))
            print(f"{made[-1].row.method}: {made[-1].row.share}", flush=True)
    for settings in SCALES:
        made.append(Swept("several scales", mean_row(settings, results, mosaics), None))
    return made


def sweep_table(made: Sequence[Swept]) -> str:
    """The table of all settings."""
    lines = [
        "| windows, size of the crops | share in the right quarter | lowest | average precision "
        "| bits of windows inside | megapixels | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in made:
        row = one.row
        inside = "–" if one.inside is None else _bits(one.inside)
        lines.append(
            f"| {row.method} | {row.share} | {row.shares.min():.3f} | {row.precision} | {inside} "
            f"| {row.pixels / 1e6:.2f} | {row.seconds:.2f} |"
        )
    return "\n".join(lines)


def information_inside(found: ClassMaps, mosaic: Mosaic) -> torch.Tensor:
    """Mean information that windows wholly in a photograph hold about its class, (4,)."""
    rectangles = found.stacked.regions.rectangles()
    top, left, bottom, right = rectangles[0].T
    quarters = mosaic.quarters
    inside = quarters[:, top, left] & quarters[:, bottom - 1, right - 1]
    return torch.stack([found.scores[0, inside[k], k].mean() for k in range(4)])


def overlap_table(network: nn.Module, mosaics: Sequence[Mosaic]) -> str:
    """Share and average precision for every way in which overlapping windows combine."""
    views: list[tuple[str, dict[str, Any]]] = [
        (f"crop, size {size}", {"crop_size": (size, size), "reference": "blank"})
        for size in SIZES[:2]
    ]
    views += [("keep", {"view": "keep"}), ("drop", {"view": "drop"})]
    lines = [
        "| view | reference | mean | mixture | max |",
        "|---|---|---|---|---|",
    ]
    for name, options in views:
        found, _, _ = run_setting(network, mosaics, **options)
        counted = {"–" if found[0].stacked.blank is None else "blank": found}
        if found[0].stacked.blank is not None:
            counted["prior"] = [_from_prior(one) for one in found]
        for reference, maps in counted.items():
            cells = []
            for overlap in ("mean", "mixture", "max"):
                shares, precisions = _measured(
                    [_with(one, overlap=overlap) for one in maps], mosaics
                )
                cells.append(f"{bootstrap(shares.mean(1))}; {precisions.mean():.3f}")
            lines.append(f"| {name} | {reference} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _bits(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _photo(name: str) -> Image.Image:
    return Image.fromarray(sample_photo(name))


def _with(found: ClassMaps, **parts: Any) -> ClassMaps:
    return dataclasses.replace(found, stacked=dataclasses.replace(found.stacked, **parts))


def _from_prior(found: ClassMaps) -> ClassMaps:
    """Scores counted from the prior instead of the blank."""
    return _with(found, scores=found.stacked.scores + found.stacked.blank, blank=None)


def _measured(
    found: Sequence[ClassMaps], mosaics: Sequence[Mosaic]
) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [measure_maps(maps_of(one), mosaic) for one, mosaic in zip(found, mosaics, strict=True)]
    shares, precisions = (torch.stack(values) for values in zip(*pairs, strict=True))
    return shares, precisions


def mean_row(
    settings: Sequence[tuple[int, int, int, float]],
    results: dict[Any, Any],
    mosaics: Sequence[Mosaic],
) -> MosaicRow:
    """One setting, or the mean over several as scales, as a row of the table."""
    measured, kept = [], []
    for index, mosaic in enumerate(mosaics):
        maps = torch.stack([maps_of(results[setting][0][index]) for setting in settings]).mean(0)
        measured.append(measure_maps(maps, mosaic))
        kept = kept or [maps]
    shares, precisions = (torch.stack(values) for values in zip(*measured, strict=True))
    names = [
        f"{window}/{stride} at {size}" + (f", margin {margin}" if margin else "")
        for window, stride, size, margin in settings
    ]
    return MosaicRow(
        method=" + ".join(names),
        unit="bits",
        shares=shares,
        precisions=precisions,
        maps=kept[0],
        pixels=sum(results[setting][1] for setting in settings),
        seconds=sum(results[setting][2] for setting in settings),
    )


def draw_sweep(made: Sequence[Swept], cams: Sequence[MosaicRow]) -> Figure:
    """Share and bits against megapixels, with Grad-CAM's shares as lines."""
    points = []
    for one in made:
        name = one.row.method.split(" at ")[-1] if one.series in JOINED else ""
        if one.series.startswith("other windows"):
            name = one.row.method.split(" at ")[0]
        qualities = [
            None if estimate is None else (estimate.mean, estimate.low, estimate.high)
            for estimate in (one.row.share, one.inside)
        ]
        points.append(Setting(name, one.series, one.row.pixels / 1e6, tuple(qualities)))
    figure, _ = quality_figure(
        points,
        measures={
            "share of positive attribution in the right quarter": (0.84, 1.005),
            "mean bits of windows wholly in the right photograph": (0, 10),
        },
        cost="megapixels sent through the network, per mosaic",
        title="InfoMask crop on 2 × 2 mosaics: sizes of the crops, windows, margins, scales",
        joined=JOINED,
        references={row.method: (row.share.mean, None) for row in cams},
    )
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=448, help="pixels of a mosaic's side")
    parser.add_argument("--sweep", action="store_true", help="settings of crop, quality and cost")
    parser.add_argument("--overlaps", action="store_true", help="rules for overlapping windows")
    parser.add_argument("--quick", action="store_true", help="one small mosaic, for a look")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("build/mosaics"))
    options = parser.parse_args(arguments)
    if options.side < 64 or options.side % 32:
        parser.error(f"--side: expected a multiple of 32 of at least 64, got {options.side}")
    torch.set_num_threads(options.threads)
    classifier = efficientnet_lite0()
    network = classifier.network
    side, count = (64, 1) if options.quick else (options.side, 10)
    mosaics = make_mosaics(classifier, side, count)
    options.out.mkdir(parents=True, exist_ok=True)
    layers = {
        "last convolution": network.get_submodule("_conv_head"),
        "its batch norm": layer_map(network, mosaics[0].picture).module,
        "its ReLU6": network.get_submodule("_swish"),
    }
    methods = mosaic_methods(layers, side=side, sizes=SIZES)
    if options.sweep:
        cams = [method for method in methods if method.name.startswith("Grad-CAM")][:2]
        made = sweep(network, mosaics)
        text, stem = sweep_table(made), f"sweep_{side}"
        figure = draw_sweep(made, mosaic_experiment(network, mosaics, PHOTOS, cams))
    elif options.overlaps:
        text, stem, figure = overlap_table(network, mosaics), f"overlaps_{side}", None
    else:
        rows = mosaic_experiment(network, mosaics, PHOTOS, methods)
        text, stem = mosaic_table(rows), f"mosaics_{side}"
        figure = draw(classifier, mosaics[0], rows)
    head = (
        f"{len(mosaics)} mosaics of {side} × {side} pixels × 4 targets; torch {torch.__version__}"
    )
    print(f"{head}\n\n{text}")
    (options.out / f"{stem}.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    if figure is not None:
        figure.savefig(options.out / f"{stem}.png", dpi=150 if options.sweep else 110)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
