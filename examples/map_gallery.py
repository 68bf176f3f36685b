"""The default map of six photographs beside Grad-CAM's.

Draws the picture of docs/evidence.md. Run from the repository's root:

    python examples/map_gallery.py docs/maps.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from captum_infomask import InfoMask
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.datasets import sample_photo
from captum_infomask.evaluation.method_calls import grad_cam
from captum_infomask.models.imagenet import efficientnet_lite0

PHOTOS = ("camera", "coffee", "chelsea", "rocket", "astronaut", "motorcycle_left")
INK, GREY = "#1b1f24", "#69707a"


def draw(names: tuple[str, ...]) -> Figure:
    """A column for each photograph: as the network sees it, Grad-CAM's map, and ours."""
    classifier = efficientnet_lite0()
    network, rows = classifier.network, ("", "Grad-CAM", "InfoMask")
    figure = Figure(figsize=(13.2, 6.9), facecolor="white", dpi=95)
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        3, len(names), gridspec_kw={"left": 0.03, "right": 0.995, "top": 0.94, "bottom": 0.035,
                                    "wspace": 0.04, "hspace": 0.05}
    )  # fmt: skip
    for column, name in zip(panels.T, names, strict=True):
        image = Image.fromarray(sample_photo(name)).convert("RGB")
        x, photo = classifier.preprocess(image), np.asarray(classifier.preprocess.frame(image))
        target = int(network(x).argmax())
        layer = layer_map(network, x)
        infomap = InfoMask(network).score_regions(x, target=target)
        bits = infomap.attributions()[0, 0].numpy()
        cam = grad_cam(layer.module)(network, x, target, False)[0, 0].numpy()
        for axes, shown in zip(
            column, (photo, tinted(photo, cam), tinted(photo, bits)), strict=True
        ):
            axes.imshow(shown)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        column[0].set_title(classifier.categories[target], fontsize=11, color=INK, loc="left")
        column[2].set_xlabel(f"sums to {bits.sum():.1f} bits", fontsize=9, color=GREY, loc="left")
    for axes, words in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(words, fontsize=11, color=INK)
    return figure


def tinted(photo: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The photograph, grey, in the colours of a map: red speaks for the class, blue against it."""
    scaled = values / np.abs(values).max()
    colours = colormaps["RdBu_r"](0.5 + 0.45 * scaled)[..., :3]
    opacity = 0.85 * np.abs(scaled)[..., None]
    grey = np.repeat(photo.mean(2, keepdims=True), 3, 2) / 255
    return opacity * colours + (1 - opacity) * (0.35 + 0.65 * grey)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="where to write the picture")
    parser.add_argument("--photos", nargs="+", default=PHOTOS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw(tuple(arguments.photos)).savefig(arguments.out)


if __name__ == "__main__":
    main()
