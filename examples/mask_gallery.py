"""What each rule and each step of the clean-up keeps of one photo.

Draws the picture of docs/masks.md and prints its table. Run from the repository's root:

    python examples/mask_gallery.py --out docs/masks.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from captum_infomask import (
    AtLeast,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    bounding_boxes,
    threshold_mask,
)
from captum_infomask.datasets import sample_photo
from captum_infomask.masks import Hysteresis, contours
from captum_infomask.models.imagenet import efficientnet_lite0

INK, GREY, OUTLINE, BOX = "#1b1f24", "#69707a", "#c8102e", "#1f6fb2"
ROUGH = AtLeast(2.5)
RULES = {
    "MaxFraction(0.2)": (MaxFraction(0.2), {}),
    "TopFraction(0.1)": (TopFraction(0.1), {}),
    "Otsu()": (Otsu(), {}),
    "AtLeast(5.0)": (AtLeast(5.0), {}),
    "Hysteresis(AtLeast(5.0), AtLeast(7.0))": (Hysteresis(AtLeast(5.0), AtLeast(7.0)), {}),
}
CLEAN_UP = {
    "AtLeast(2.5)": (ROUGH, {}),
    "AtLeast(2.5), min_area=0.01": (ROUGH, {"min_area": 0.01}),
    "AtLeast(2.5), smooth=8": (ROUGH, {"smooth": 8}),
    "AtLeast(2.5), smooth=8, min_area=0.01": (ROUGH, {"smooth": 8, "min_area": 0.01}),
    "AtLeast(2.5), smooth=16": (ROUGH, {"smooth": 16}),
}


def photo_and_bits() -> tuple[np.ndarray, Tensor]:
    """The cameraman as the network sees him, and what each place says about its tripod."""
    classifier = efficientnet_lite0()
    image = Image.fromarray(sample_photo("camera"))
    bits = InfoMask(classifier.network).attribute(
        classifier.preprocess(image),
        target=classifier.categories.index("tripod"),
        view="crop",
        crop_size=(224, 224),
        reference="prior",
        overlap="mean",
        sliding_window_shapes=(3, 56, 56),
        strides=(3, 14, 14),
    )
    return np.asarray(classifier.preprocess.frame(image)), bits


def draw(photo: np.ndarray, bits: Tensor, masks: dict[str, Tensor]) -> Figure:
    """The photo and its bits, and beside them two rows of masks with outlines and boxes."""
    figure = Figure(figsize=(13.2, 5.0), facecolor="white", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        2, 6, gridspec_kw={"left": 0.008, "right": 0.992, "top": 0.93, "bottom": 0.01,
                           "wspace": 0.06, "hspace": 0.2}
    )  # fmt: skip
    tinted = _tinted(photo, bits[0, 0].numpy())
    low, high = (f"{float(end):.1f}".replace("-", "−") for end in (bits.min(), bits.max()))
    _show(panels[0, 0], photo, "the photo", "target: tripod")
    _show(panels[1, 0], tinted, f"its bits, {low} to {high}", "red for a tripod, blue against")
    for axes, (name, mask) in zip(panels[:, 1:].flat, masks.items(), strict=True):
        kept = np.where(mask[0, 0, :, :, None], photo, 0.25 * photo + 0.75 * 235)
        first, comma, second = name.partition(", ")
        _show(axes, kept.astype(np.uint8), first + comma.strip(), second)
        for outline in contours(mask)[0]:
            axes.plot(*outline.T, color=OUTLINE, linewidth=1.2)
        for x0, y0, x1, y1 in bounding_boxes(mask)[0].tolist():
            # Boxes are half-open in pixels; imshow puts a pixel's middle on whole numbers.
            corner = (x0 - 0.5, y0 - 0.5)
            axes.add_patch(
                Rectangle(corner, x1 - x0, y1 - y0, fill=False, color=BOX, lw=1, ls=(0, (4, 2)))
            )
    return figure


def _show(axes, picture: np.ndarray, first: str, second: str) -> None:
    """A picture and two lines above it: what it is, and what is special."""
    axes.imshow(picture)
    # A margin, so that outlines along the border are seen whole.
    axes.set_xlim(-3, picture.shape[1] + 2)
    axes.set_ylim(picture.shape[0] + 2, -3)
    axes.set_axis_off()
    style = {"transform": axes.transAxes, "fontsize": 8.5, "va": "bottom"}
    axes.text(0.01, 1.09, first, color=INK, **style)
    axes.text(0.01, 1.015, second, color=GREY, **style)


def _tinted(photo: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The photo in the colours of its bits."""
    scaled = bits / np.abs(bits).max()
    colours = colormaps["RdBu_r"](0.5 + 0.42 * scaled)[..., :3]
    opacity = (0.85 * np.abs(scaled) ** 0.5)[..., None]
    return opacity * colours + (1 - opacity) * (0.3 + 0.7 * photo / 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="where to write the picture")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    photo, bits = photo_and_bits()
    masks = {
        name: threshold_mask(bits, rule, **settings)
        for name, (rule, settings) in (RULES | CLEAN_UP).items()
    }
    print("| mask | kept | parts | box of the largest |\n|---|---|---|---|")
    for name, mask in masks.items():
        boxes = bounding_boxes(mask, keep="all")[0].tolist()
        share = mask[:, 0].float().mean()
        print(f"| `{name}` | {share:.1%} | {len(boxes)} | {', '.join(map(str, boxes[0]))} |")
    if arguments.out:
        draw(photo, bits, masks).savefig(arguments.out)


if __name__ == "__main__":
    main()
