# Are the bits true? Known truth, two digits, and EfficientNet-Lite0 on what can be had.
from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum_infomask import (
    BitsReliability,
    InfoMask,
    bits_reliability,
    fit_critic,
    fit_temperature,
    grid,
)
from captum_infomask.datasets import GaussianPatches, IndependentPatches, TwoDigits, sample_photo
from captum_infomask.models.classifier import Classifier
from captum_infomask.report.drawn_figure import DrawnFigure

# scikit-image's photographs, and ImageNet's classes of what they show.
PHOTOS = {"coffee": 967, "camera": 872, "rocket": 657, "chelsea": 282, "motorcycle_left": 665}
SIDE = 224  # pixels of EfficientNet-Lite0's pictures


@dataclass(frozen=True)
class Panel:
    """Curves that stand in one panel.

    Attributes:
        title: Words above.
        found: A result for each curve.
    """

    title: str
    found: tuple[BitsReliability, ...]


def named(name: str, found: BitsReliability) -> BitsReliability:
    """The same result under another name."""
    return dataclasses.replace(found, name=name)


def known_truth(count: int) -> list[Panel]:
    """A network with the exact posterior; the same, twice too sure; a skewed and a wrong prior."""
    family = GaussianPatches.random(classes=8, strength=1.2, seed=1)
    skewed = [0.44, 0.2, 0.12, 0.08, 0.06, 0.04, 0.03, 0.03]
    panels = []
    for prior, title in ((None, "known truth, equal classes"), (skewed, "known truth, 44% to 3%")):
        pictures = IndependentPatches(family, rows=2, columns=2, prior=prior)
        images, labels = pictures.draw(count, seed=3)
        network, options = (
            pictures.network(),
            {"crop_size": "native", "regions": grid(images, 2, 2)},
        )
        readings: list[tuple[str, dict[str, Any]]] = [("exact posterior", {"prior": prior})]
        if prior is None:
            readings.append(("its logits × 2", {"temperature": 0.5}))
        else:
            readings.append(("read as equal classes", {}))
        found = tuple(
            named(name, bits_reliability(InfoMask(network, **settings), images, labels, **options))
            for name, settings in readings
        )
        panels.append(Panel(title, found))
    return panels


def two_digits_panels(
    network: nn.Module,
    trained_on: TwoDigits,
    held_out: TwoDigits,
    tested_on: TwoDigits,
    *,
    steps: int,
    sizes: Sequence[tuple[int, int]] = ((20, 4), (10, 6)),
) -> list[Panel]:
    """Views and windows of the two-digit network, before and after both fits.

    Args:
        network: The two-class network.
        trained_on: Its training pictures, for the critic; their labels are not used.
        held_out: For the temperature.
        tested_on: For the curves.
        steps: The steps of fit_critic.
        sizes: Windows' sides and strides, in pixels.
    """
    temperature = fit_temperature(network, [(held_out.images, held_out.labels)])
    critic = fit_critic(
        network,
        DataLoader(TensorDataset(trained_on.images), batch_size=64),
        views=("windows", "rest", "crops"),
        window_shapes=[10, 14, 20],
        crop_size="native",
        temperature=temperature,
        steps=steps,
        learning_rate=1e-2,
        show_progress=sys.stderr.isatty(),
    )
    readings = (
        ("as trained", InfoMask(network)),
        (
            f"fit_temperature, τ = {float(temperature):.2f}",
            InfoMask(network, temperature=temperature),
        ),
        ("then fit_critic", InfoMask(critic)),
    )
    panels = []
    for view in ("crop", "keep"):
        for side, stride in sizes:
            options: dict[str, Any] = {"crop_size": "native"} if view == "crop" else {}
            found = tuple(
                named(
                    name,
                    bits_reliability(
                        infomask,
                        tested_on.images,
                        tested_on.labels,
                        view=view,
                        sliding_window_shapes=(1, side, side),
                        strides=(1, stride, stride),
                        **options,
                    ),
                )
                for name, infomask in readings
            )
            panels.append(Panel(f"two digits, {view}, {side} × {side} pixels", found))
    return panels


def photographs(folder: Path | None) -> tuple[list[npt.NDArray[np.uint8]], list[int]]:
    """Labelled photographs: a folder's ``imagenet_*_LABEL.jpg``; else scikit-image's five."""
    files = [] if folder is None else sorted(folder.glob("imagenet_*_*.jpg"))
    if not files:
        return [sample_photo(name) for name in PHOTOS], list(PHOTOS.values())
    labels = [int(file.stem.rpartition("_")[2]) for file in files]
    pictures = []
    for file in files:
        with Image.open(file) as photo:
            pictures.append(np.asarray(photo.convert("RGB")))
    return pictures, labels


def foolbox_folder() -> Path | None:
    """The folder of 20 ImageNet pictures in the package foolbox, if it is installed."""
    found = importlib.util.find_spec("foolbox")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"


def resized_crops(
    photo: npt.NDArray[np.uint8], count: int, classifier: Classifier, seed: int
) -> Tensor:
    """The centre square, and random squares of 35 to 100% of the area, half of them mirrored."""
    generator = torch.Generator().manual_seed(seed)
    height, width = photo.shape[:2]
    made = []
    for number in range(count):
        share, down, right, mirrored = torch.rand(4, generator=generator).tolist()
        side = min(height, width)
        if number > 0:
            side = round(side * math.sqrt(0.35 + 0.65 * share))
        top, left = round(down * (height - side)), round(right * (width - side))
        if number == 0:
            top, left = (height - side) // 2, (width - side) // 2
        cut = photo[top : top + side, left : left + side]
        cut = cut[:, ::-1] if mirrored < 0.5 and number > 0 else cut
        square = Image.fromarray(np.ascontiguousarray(cut)).resize((SIDE, SIDE), 2)
        made.append(classifier.preprocess(square))
    return torch.cat(made)


def efficientnet_panels(
    classifier: Classifier,
    photos: Sequence[npt.NDArray[np.uint8]],
    labels: Sequence[int],
    *,
    copies: int,
) -> list[Panel]:
    """Crops of three sizes, and small crops beside features, of EfficientNet-Lite0 as it is."""
    images = torch.cat(
        [resized_crops(photo, copies, classifier, seed) for seed, photo in enumerate(photos)]
    )
    clusters = torch.arange(len(photos)).repeat_interleave(copies)
    classes = torch.tensor(labels).repeat_interleave(copies)
    infomask = InfoMask(classifier)
    views: tuple[tuple[str, dict[str, Any]], ...] = (
        ("the whole picture", {"regions": grid(images, 1, 1)}),
        ("crop, quarters", {"regions": grid(images, 2, 2)}),
        ("crop, 56 × 56 pixels", {"regions": grid(images, 4, 4)}),
        ("features, 56 × 56 pixels", {"view": "features", "regions": grid(images, 4, 4)}),
    )
    whole, quarters, small, features = (
        named(name, bits_reliability(infomask, images, classes, clusters=clusters, **options))
        for name, options in views
    )
    title = f"EfficientNet-Lite0, {len(photos)} photographs"
    return [
        Panel(title, (whole, quarters)),
        Panel("EfficientNet-Lite0, small regions", (small, features)),
    ]


def reliability_panels(panels: Sequence[Panel], columns: int = 4) -> Figure:
    """All panels in one figure."""
    rows = -(-len(panels) // columns)
    figure = DrawnFigure((3.9 * columns, 4.2 * rows), "constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, one in enumerate(axes.flat):
        if place >= len(panels):
            one.remove()
            continue
        first, *others = panels[place].found
        first.figure(*others, ax=one, title=panels[place].title)
        if place % columns:
            one.set_ylabel("")
    return figure


def reliability_table(panels: Sequence[Panel]) -> str:
    """The errors in a Markdown table: said − observed, and the distance, in bits."""
    lines = [
        "| | | error | excess | pictures | furthest off |",
        "|---|---|---|---|---|---|",
    ]
    for panel in panels:
        for one in panel.found:
            # "says … where it says …; error …" or "error …, nowhere by more than chance"
            parts = re.split(r"; |, nowhere", one.verdict())
            words = "nowhere" + parts[1] if parts[0].startswith("error") else parts[0]
            lines.append(
                f"| {panel.title} | {one.name} | {one.error} | {one.excess} | {one.pictures} | "
                f"{words} |"
            )
    return "\n".join(lines)
