"""The default map of packaged photographs beside Grad-CAM's, successes and failures.

Draws docs/maps.png and the pictures of docs/gallery.md. Run from the repository's root:

    python examples/gallery.py docs
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
import sklearn
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from captum_infomask import InfoMap, InfoMask, show
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.evaluation.method_calls import grad_cam
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.report.colours import Shades
from captum_infomask.report.overlay import draw_map
from captum_infomask.report.smoothing import limit_of

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
PHOTOS = {
    "coffee": SKIMAGE / "coffee.png",
    "camera": SKIMAGE / "camera.png",
    "china": SKLEARN / "china.jpg",
    "flower": SKLEARN / "flower.jpg",
    "rocket": SKIMAGE / "rocket.jpg",
    "motorcycle": SKIMAGE / "motorcycle_left.png",
    "chelsea": SKIMAGE / "chelsea.png",
    "astronaut": SKIMAGE / "astronaut.png",
    "horse": SKIMAGE / "horse.png",
    "coins": SKIMAGE / "coins.png",
}
FRONT = ("camera", "coffee", "china", "rocket", "flower", "motorcycle")
PLACES = (0.005, 0.272), (0.29, 0.2925), (0.645, 0.2925)  # the bars take 7% of the maps' widths
INK, GREY = "#1b1f24", "#69707a"


@dataclass(frozen=True)
class Explained:
    """A photograph as the network sees it, its likeliest class, and two maps for that class."""

    photo: np.ndarray
    label: str
    probability: float
    cam: np.ndarray
    infomap: InfoMap

    @property
    def bits(self) -> np.ndarray:
        """InfoMask's map, (H, W), in bits per pixel."""
        return self.infomap.attributions()[0, 0].numpy()


def explain(classifier: Classifier, path: Path) -> Explained:
    network, image = classifier.network, Image.open(path).convert("RGB")
    x = classifier.preprocess(image)
    with torch.no_grad():
        posterior = network(x).softmax(1)[0]
    target = int(posterior.argmax())
    cam = grad_cam(layer_map(network, x).module)(network, x, target, False)[0, 0].numpy()
    return Explained(
        np.asarray(classifier.preprocess.frame(image)),
        classifier.categories[target],
        float(posterior[target]),
        cam,
        InfoMask(network).score_regions(x, target=target),
    )


def front(shown: list[Explained]) -> Figure:
    """A column for each photograph: as the network sees it, Grad-CAM's map, and ours."""
    figure = Figure(figsize=(13.2, 6.9), facecolor="white", dpi=95)
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        3, len(shown), gridspec_kw={"left": 0.03, "right": 0.995, "top": 0.94, "bottom": 0.035,
                                    "wspace": 0.04, "hspace": 0.05}
    )  # fmt: skip
    for column, one in zip(panels.T, shown, strict=True):
        column[0].imshow(one.photo)
        for axes, plane in ((column[1], one.cam), (column[2], one.bits)):
            draw_map(axes, plane, one.photo, Shades(limit_of(plane)))
        for axes in column:
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        column[0].set_title(one.label, fontsize=11, color=INK, loc="left")
        words = f"sums to {one.bits.sum():.1f} bits"
        column[2].set_xlabel(words, fontsize=9, color=GREY, loc="left")
    for axes, words in zip(panels[:, 0], ("", "Grad-CAM", "InfoMask"), strict=True):
        axes.set_ylabel(words, fontsize=11, color=INK)
    return figure


def row(one: Explained) -> Figure:
    """The photograph, Grad-CAM's map and ours, each with its own colour bar."""
    figure = Figure(figsize=(11, 3.45), facecolor="white", dpi=110)
    FigureCanvasAgg(figure)
    photo, *maps = (figure.add_axes((left, 0.02, width, 0.88)) for left, width in PLACES)
    photo.imshow(one.photo)
    photo.set_axis_off()
    photo.set_title(f"{one.label}, p = {one.probability:.2f}", fontsize=11, loc="left")
    show(one.cam, one.photo, ax=maps[0], title="Grad-CAM", unit="no unit")
    words = f"InfoMask: the map sums to {one.bits.sum():.1f} bits"
    show(one.infomap, one.photo, ax=maps[1], title=words)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="the folder of maps.png and gallery/")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    classifier = efficientnet_lite0()
    shown = {name: explain(classifier, path) for name, path in PHOTOS.items()}
    (out / "gallery").mkdir(parents=True, exist_ok=True)
    front([shown[name] for name in FRONT]).savefig(out / "maps.png")
    for name, one in shown.items():
        row(one).savefig(out / "gallery" / f"{name}.jpg", pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
