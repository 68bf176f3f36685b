# The objects of one picture: their boxes and names, as a data set's annotations have them.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import positive_int
from captum_infomask._errors import ArgumentError


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """The boxes of one picture's objects.

    Args:
        boxes: (K, 4), float64: x0, y0, x1, y1 in pixels, half-open. K may be 0.
        names: The K objects' categories.
        size: (height, width) of the picture, in pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.image_boxes import ImageBoxes
        >>> boxes = torch.tensor([[10.0, 0.0, 30.0, 20.0], [0.0, 0.0, 4.0, 4.0]])
        >>> objects = ImageBoxes(boxes, ("dog", "ball"), (100, 200))
        >>> objects.of("dog").resized(224, 224).boxes
        tensor([[11.2000,  0.0000, 33.6000, 44.8000]])
    """

    boxes: Tensor
    names: tuple[str, ...]
    size: tuple[int, int]

    def of(self, name: str) -> ImageBoxes:
        """Only the objects of one category.

        Raises:
            ArgumentError: The picture has none.
        """
        places = [place for place, own in enumerate(self.names) if own == name]
        if not places:
            held = ", ".join(sorted(set(self.names))) or "none"
            raise ArgumentError(
                f"Expected `name` to be a category of the picture ({held}); got {name!r}."
            )
        return ImageBoxes(self.boxes[places], tuple(self.names[p] for p in places), self.size)

    def resized(self, height: int, width: int) -> ImageBoxes:
        """The boxes after the whole picture was resized, as networks and their attributions see it.

        Raises:
            ArgumentError: ``height`` or ``width`` is no integer of at least 1.
        """
        height, width = positive_int("height", height), positive_int("width", width)
        down, across = height / self.size[0], width / self.size[1]
        scale = torch.tensor([across, down, across, down], dtype=self.boxes.dtype)
        return ImageBoxes(self.boxes * scale, self.names, (height, width))
