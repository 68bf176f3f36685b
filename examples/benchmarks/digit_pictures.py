# Two-digit pictures as files: a data set of any size, for runs over whole data sets.
from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from captum_infomask.datasets import sklearn_digits, two_digits
from captum_infomask.models.loading import load_classifier


def save_two_digits(
    folder: str | Path, count: int, *, seed: int = 0, in_classes: bool = False
) -> None:
    """Write 00000.png, 00001.png, …; ``in_classes`` in a sub-folder for each category."""
    pictures = two_digits(*sklearn_digits(train=False), target=0, count=count, seed=seed)
    names = load_classifier("two_digits").categories
    for name in names if in_classes else [""]:
        Path(folder, name).mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        pixels = np.uint8(np.rint(image[0].numpy() * 255))
        place = Path(folder, names[int(label)] if in_classes else "")
        Image.fromarray(pixels).save(place / f"{number:05}.png")
