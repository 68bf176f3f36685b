# What places say about classes, in plain arrays and words, and the pictures of it on a run's page.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from captum_infomask.report.colour_planes import own_limit
from captum_infomask.report.colours import OPACITY, RGB, Shades, picture_uri
from captum_infomask.report.page_content import BoolArray, FloatArray, PhotoArray
from captum_infomask.report.smoothing import shown_plane

_SIDE = 320  # pixels of a map's longer side
_GROUND = 0.5  # the brightness under a map without a picture: colours show on light and dark pages
_RIM, _LINE = 5, 3  # pixels from a place's edge inwards: the dark rim's end, and the white line's


@dataclass(frozen=True)
class PlaceEvidence:
    """What one place says about one class.

    Args:
        label: The class's name. It may be any text: it is escaped wherever it is shown.
        place: The place in words.
        box: x0, y0, x1, y1 in pixels, half-open: the smallest box that holds the place.
        pictures: The number of pictures of the class that have the place.
        mean: The mean of i(y; v) over them, in bits.
        low: The lower end of the mean's interval; NaN if it is not known.
        high: The upper end.
        evidence: log₂ of the e-value, in bits.
        is_found: Whether it is beyond chance.

    Example:
        >>> from captum_infomask.report.evidence_content import PlaceEvidence
        >>> PlaceEvidence("husky", "0", (0, 0, 8, 8), 9, 0.5, 0.4, 0.6, 12.0, True).box[2:]
        (8, 8)
    """

    label: str
    place: str
    box: tuple[int, int, int, int]
    pictures: int
    mean: float
    low: float
    high: float
    evidence: float
    is_found: bool


@dataclass(frozen=True, eq=False)
class ClassEvidence:
    """The places that say one class.

    Args:
        label: The class's name.
        pictures: The number of its pictures.
        found: The number of its places that are beyond chance.
        evidence: log₂ of its largest e-value, in bits.
        plane: (H, W), the mean of i(y; v) over its pictures, in bits.
        places: (H, W), where a place is beyond chance.
        pixels: (H, W, 3), one picture of the class; None if there is none to show.
    """

    label: str
    pictures: int
    found: int
    evidence: float
    plane: FloatArray
    places: BoolArray
    pixels: PhotoArray | None = None

    def uri(self) -> str:
        """The map with the places outlined, over the picture, as a data URI."""
        return picture_uri(outlined_map(self.plane, self.places, self.pixels))

    @property
    def largest(self) -> float:
        """The largest mean of a pixel of the found places, in bits."""
        finite = self.plane[self.places & np.isfinite(self.plane)]
        return float(finite.max(initial=-np.inf)) if len(finite) else float("nan")


@dataclass(frozen=True, eq=False)
class EvidenceContent:
    """What the places of a run's pictures say about classes; the strongest evidence comes first.

    Args:
        size: Height and width of the pictures.
        rate: The false discovery rate.
        pictures: The number of pictures.
        classes: The number of classes that occur.
        places: The number of places.
        found: The number of pairs of a class and a place that are beyond chance.
        rows: The strongest pairs.
        edges: The strongest of those that are beyond chance in a small place at the picture's edge.
        maps: The strongest classes of those with places beyond chance.
        others: The names of the others.
        is_of_labels: Whether classes are labels, and not the network's own answers.
    """

    size: tuple[int, int]
    rate: float
    pictures: int
    classes: int
    places: int
    found: int
    rows: tuple[PlaceEvidence, ...]
    edges: tuple[PlaceEvidence, ...] = ()
    maps: tuple[ClassEvidence, ...] = ()
    others: tuple[str, ...] = ()
    is_of_labels: bool = True

    @property
    def pairs(self) -> int:
        """The number of pairs of a class and a place."""
        return self.classes * self.places

    @property
    def found_in_rows(self) -> int:
        """The number of ``rows`` that are beyond chance."""
        return sum(row.is_found for row in self.rows)


def outlined_map(plane: FloatArray, places: BoolArray, pixels: PhotoArray | None) -> PhotoArray:
    """Paint a map over a picture, and outline places in white with a dark rim.

    Args:
        plane: (H, W); NaN where nothing is known.
        places: (H, W).
        pixels: (H, W, 3); None for a grey ground.

    Returns:
        uint8 (h, w, 3), enlarged by a whole number if the map is small.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.evidence_content import outlined_map
        >>> places = np.eye(2, dtype=bool)
        >>> drawn = outlined_map(places.astype(np.float32), places, None)
        >>> drawn.shape, drawn[2, 80].tolist()
        ((320, 320, 3), [255, 255, 255])
    """
    ground: RGB = np.full((*plane.shape, 3), _GROUND)
    if pixels is not None:
        ground = pixels / 255.0
    shades = Shades(own_limit(plane), alpha=OPACITY if pixels is not None else 1.0)
    painted = np.rint(255 * shades.over(shown_plane(plane), ground).clip(0, 1)).astype(np.uint8)
    factor = max(1, round(_SIDE / max(plane.shape)))
    height, width = (factor * side for side in plane.shape)
    large = np.array(
        Image.fromarray(painted).resize((width, height), Image.Resampling.NEAREST), np.uint8
    )
    inside = places.repeat(factor, 0).repeat(factor, 1)
    large[inside & ~_shrunk(inside, _RIM)] = 0
    large[inside & ~_shrunk(inside, _LINE)] = 255
    return large


def _shrunk(mask: BoolArray, by: int) -> BoolArray:
    """A mask without the pixels that are so near to its edge, or to the picture's."""
    padded = np.pad(mask, by)
    height, width = mask.shape
    across = np.logical_and.reduce([padded[:, k : k + width] for k in range(2 * by + 1)])
    shrunk: BoolArray = np.logical_and.reduce([across[k : k + height] for k in range(2 * by + 1)])
    return shrunk
