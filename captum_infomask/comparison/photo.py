# The main job: four methods on one photograph, as a table, a figure, and arrays on disk.
from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captum_infomask._checks import ArgumentError
from captum_infomask.attribution import InfoMask
from captum_infomask.comparison.measure import measure_methods
from captum_infomask.comparison.methods import Windows, photo_methods, square_windows
from captum_infomask.comparison.missingness import FillDisagreement, fill_disagreement
from captum_infomask.models.classifier import Classifier, log_probabilities, resolve_target
from captum_infomask.report.figure import Caption, methods_figure
from captum_infomask.report.rows import MethodRow, PhotoArray
from captum_infomask.report.table import methods_table

SAME_QUANTITY = (
    "With the same windows and fill, Occlusion of log p(y | x) is InfoMask drop in nats."
)
NOTES = (
    "Both InfoMask rows have one scale, in bits: their colours can be compared.",
    "InfoMask crop shows the network a window and nothing else. InfoMask drop shows it everything "
    "but the window, and so counts only what the rest of the picture does not say too.",
    "Grad-CAM and Occlusion have scales of their own. " + SAME_QUANTITY,
)


@dataclass(frozen=True)
class PhotoComparison:
    """What four methods said about one photograph.

    Args:
        classifier: The network.
        photo: (H, W, 3), uint8, the pixels that the network saw.
        target: Index of the class.
        predicted: Whether the target is the network's own answer.
        log_probability: log p(y | x) of the target, in nats.
        windows: InfoMask's and Occlusion's windows.
        rows: One per method.
        fills: How far InfoMask's drop moves with what stands in for hidden pixels.

    Example:
        >>> from PIL import Image
        >>> from captum_infomask.comparison.photo import compare_on_photo
        >>> from captum_infomask.models.imagenet import efficientnet_lite0
        >>> grey = Image.new("RGB", (224, 224), "grey")
        >>> made = compare_on_photo(efficientnet_lite0(), grey, window=224)
        >>> made.bits <= made.most_bits
        True
    """

    classifier: Classifier
    photo: PhotoArray
    target: int
    predicted: bool
    log_probability: float
    windows: Windows
    rows: tuple[MethodRow, ...]
    fills: FillDisagreement

    @property
    def category(self) -> str:
        """The target's name."""
        return self.classifier.categories[self.target]

    @property
    def most_bits(self) -> float:
        """The most information that a picture can hold about one of M classes: log₂ M."""
        return math.log2(len(self.classifier.categories))

    @property
    def bits(self) -> float:
        """What the whole photograph says: i(y; x) = log₂ p(y | x) + log₂ M."""
        return self.log_probability / math.log(2) + self.most_bits

    def text(self) -> str:
        """The result in plain text: target, information, windows, table."""
        most = f"log2 {len(self.classifier.categories)} = {self.most_bits:.2f} bits"
        height, width = self.photo.shape[:2]
        side, stride = self.windows.side, self.windows.stride
        kind = "its prediction" if self.predicted else "not its prediction"
        return "\n".join(
            [
                f"Target: {self.category} (class {self.target} of {self.classifier.name}, {kind}), "
                f"p(y | x) = {math.exp(self.log_probability):.3f}",
                f"i(y; x) = {self.bits:.2f} bits of at most {most}",
                f"Windows: {side} x {side} pixels every {stride}, on {width} x {height} pixels",
                "",
                methods_table(self.rows),
                "",
                SAME_QUANTITY,
                "",
                "InfoMask drop with other fills (windows of a quarter, an eighth apart):",
                str(self.fills),
            ]
        )

    def save(self, folder: Path, stem: str) -> tuple[Path, Path]:
        """Write the figure (``stem.png``) and the plain arrays (``stem.npz``).

        Args:
            folder: An existing folder.
            stem: Name of both files, without suffix.

        Returns:
            The two paths.

        Raises:
            ArgumentError: if the files cannot be written.
        """
        figure_path, arrays_path = folder / f"{stem}.png", folder / f"{stem}.npz"
        count = len(self.classifier.categories)
        probability = math.exp(self.log_probability)
        moved = float(self.fills.movement.median())
        facts = (
            (f"{probability:.1%}", f"p(y | x), by {self.classifier.name}"),
            (f"{self.bits:.2f} bits", "i(y; x), what the whole picture says"),
            (f"{self.most_bits:.2f} bits", f"log₂ {count}, the most it could say"),
            (f"{moved:.2f} bits", "how far drop moves with the fill (median)"),
        )
        figure, _ = methods_figure(self.photo, self.rows, Caption(self.category, facts, NOTES))
        try:
            figure.savefig(figure_path, dpi=150)
            np.savez_compressed(arrays_path, **self._arrays())
        except OSError as error:
            raise ArgumentError(f"Expected `out` to be writable; got {error}.") from error
        return figure_path, arrays_path

    def _arrays(self) -> dict[str, Any]:
        """Everything that the figure shows, as arrays that need no pickle."""
        arrays: dict[str, Any] = {
            "photo": self.photo,
            "target": np.array(self.target),
            "category": np.array(self.category),
            "information_bits": np.array(self.bits),
        }
        for row in self.rows:
            if row.result is not None:
                key = row.name.lower().replace(" ", "_").replace("-", "_")
                arrays[key] = row.result.attribution
                arrays[f"{key}_mask"] = row.result.mask
                arrays[f"{key}_unit"] = np.array(row.unit)
        return arrays


def compare_on_photo(
    classifier: Classifier,
    image: Image.Image,
    target: int | str | None = None,
    *,
    layer: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    show_progress: bool = False,
) -> PhotoComparison:
    """Run InfoMask (crop and drop), Grad-CAM and Occlusion on one photograph.

    Args:
        classifier: The network.
        image: The photograph, RGB.
        target: Index or category name; None takes the class that the network predicts.
        layer: Name of Grad-CAM's layer; None takes the last feature map.
        window: Side of the windows, in pixels; see ``square_windows``.
        stride: Step between windows, in pixels.
        show_progress: Show progress bars on stderr.

    Returns:
        The comparison.

    Raises:
        ArgumentError: if the target, the layer or the windows do not fit (before any long work),
            or no method succeeded.

    Example:
        >>> from PIL import Image
        >>> from torch import nn
        >>> from captum_infomask.comparison.photo import compare_on_photo
        >>> from captum_infomask.models.classifier import Classifier
        >>> from captum_infomask.models.pictures import Preprocess
        >>> net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> tiny = Classifier("tiny", net, ("cat", "dog"), Preprocess(16, 16))
        >>> compare_on_photo(tiny, Image.new("RGB", (20, 20), "red")).predicted
        True
    """
    chosen = None if target is None else resolve_target(target, classifier.categories)
    inputs = classifier.preprocess(image)
    windows = square_windows(inputs, window, stride)
    log_p = log_probabilities(classifier, inputs)
    predicted = int(log_p.argmax())
    chosen = predicted if chosen is None else chosen
    methods = photo_methods(classifier.network, inputs, windows, layer)
    rows = measure_methods(methods, classifier.network, inputs, chosen, show_progress=show_progress)
    if all(row.result is None for row in rows):
        raise ArgumentError(f"No method succeeded; {rows[0].name}: {rows[0].error}")
    return PhotoComparison(
        classifier=classifier,
        photo=np.array(classifier.preprocess.frame(image)),
        target=chosen,
        predicted=chosen == predicted,
        log_probability=float(log_p[chosen]),
        windows=windows,
        rows=rows,
        fills=fill_disagreement(InfoMask(classifier.network), inputs, chosen),
    )
