# 2 × 2 mosaics of photographs: pictures in which it is known where each class's evidence lies.
from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Four photographs in one picture, row by row.

    Attributes:
        picture: (1, C, 2h, 2w).
        names: The photographs' names: upper left, upper right, lower left, lower right.
    """

    picture: Tensor
    names: tuple[str, str, str, str]

    @property
    def quarters(self) -> Tensor:
        """Where each photograph lies: bool (4, 2h, 2w)."""
        height, width = self.picture.shape[2:]
        places = torch.arange(4).reshape(2, 2)
        rows = places.repeat_interleave(height // 2, 0)
        place_of_pixel = rows.repeat_interleave(width // 2, 1)
        return place_of_pixel == torch.arange(4)[:, None, None]


def photo_mosaics(photos: Mapping[str, Tensor]) -> list[Mosaic]:
    """Every choice of four photographs, in two arrangements: the second is the first turned round.

    Args:
        photos: At least four photographs by name, (1, C, h, w) each, all of one shape.

    Returns:
        The mosaics; the two arrangements of one choice stand side by side.

    Raises:
        ArgumentError: There are fewer than four photographs, or they differ in shape.

    Example:
        >>> import torch
        >>> from captum_infomask.datasets.mosaics import photo_mosaics
        >>> photos = {name: torch.rand(1, 3, 8, 8) for name in "abcde"}
        >>> mosaics = photo_mosaics(photos)
        >>> len(mosaics), mosaics[0].picture.shape, mosaics[0].names, mosaics[1].names
        (10, torch.Size([1, 3, 16, 16]), ('a', 'b', 'c', 'd'), ('d', 'c', 'b', 'a'))
    """
    shapes = {tuple(photo.shape) for photo in photos.values()}
    if len(photos) < 4 or len(shapes) > 1 or any(len(s) != 4 or s[0] != 1 for s in shapes):
        raise ArgumentError(
            "Expected `photos` to be at least four tensors (1, C, h, w) of one shape; got "
            f"{', '.join(f'{name}: {describe(photo)}' for name, photo in photos.items())}."
        )
    made = []
    for chosen in itertools.combinations(photos, 4):
        for names in (chosen, chosen[::-1]):
            a, b, c, d = (photos[name] for name in names)
            made.append(Mosaic(torch.cat([torch.cat([a, b], 3), torch.cat([c, d], 3)], 2), names))
    return made
