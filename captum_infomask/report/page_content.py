# The content of a page, a widget or a figure, in plain arrays and words: no model, no result.
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from captum_infomask.report.words import decimals

FloatArray: TypeAlias = npt.NDArray[np.float32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
PhotoArray: TypeAlias = npt.NDArray[np.uint8]

_PER_PIXEL, _PER_PERCENT = " per pixel", " per 1%"


def density(unit: str) -> str:
    """Return the unit of a density whose sum over the pixels is in ``unit``."""
    return f"{unit}{_PER_PIXEL}"


def as_shown(plane: FloatArray, unit: str, dims: int = 2) -> tuple[FloatArray, str]:
    """Return a map as pictures and tables show it: a density is given per 1% of the picture.

    Args:
        plane: (..., H, W), the density of each pixel.
        unit: Its unit.
        dims: The number of dimensions of the picture; 1 for a signal, 3 for a volume.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import as_shown, density
        >>> plane, unit = as_shown(np.full((20, 20), 0.5, np.float32), density("bits"))
        >>> float(plane[0, 0]), unit
        (2.0, 'bits per 1%')
    """
    if not unit.endswith(_PER_PIXEL):
        return plane, unit
    scale = np.float32(math.prod(plane.shape[-dims:]) / 100)
    return plane * scale, unit.removesuffix(_PER_PIXEL) + _PER_PERCENT


Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, eq=False)
class RegionScores:
    """The regions of one picture and their scores, shown for the region under the pointer.

    Args:
        scores: (R,), in the map's unit; NaN for a region that the picture does not have.
        boxes: (R, 4): y0, x0, y1, x1 in pixels, half-open; None if regions are not rectangles.
            Those of a volume are (R, 6): the three starts, and the three stops.
        labels: (H, W) or (D, H, W): the region of each pixel, −1 for none; None if regions overlap.
        errors: (R,), the scores' standard errors, if they are means over something random.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import RegionScores
        >>> RegionScores(np.array([1.0]), boxes=np.array([[0, 0, 4, 4]])).boxes.shape
        (1, 4)
    """

    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    errors: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class ClassContent:
    """What a picture and its regions say about one class, for a map whose class can be chosen.

    Args:
        name: The class's name. It may be any text: it is escaped wherever it is shown.
        total: The whole picture's information about the class, in bits or nats.
        plane: (H, W), the attribution of each pixel, in the map's unit.
        scores: (R,), the regions' scores, if the map has regions.
        errors: (R,), the scores' standard errors, if they have any.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import ClassContent
        >>> ClassContent("espresso", 9.9, np.eye(2, dtype=np.float32)).name
        'espresso'
    """

    name: str
    total: float
    plane: FloatArray
    scores: npt.NDArray[np.float64] | None = None
    errors: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class MapContent:
    """The map of one method for one picture.

    Args:
        name: The method's name.
        unit: The unit of its values. The colours of maps of one unit can be compared, where they
            share a scale.
        plane: (H, W), the attribution of each pixel; (D, H, W) of a volume; None if the method
            failed.
        meaning: The meaning of its values, in a few words.
        regions: The regions and their scores, if the method scores regions.
        error: The reason why it failed; empty if it did not.
        curves: For each metric that walks through the picture (``deletion``, ``insertion``), (K,)
            probabilities of the target after k / (K − 1) of the pixels.
        mask: (H, W), the pixels that a rule keeps, for figures. Pages cut masks themselves, by
            their slider.
        classes: The classes that can be chosen, if there are several. ``plane`` and ``regions`` are
            those of the first.
        contrasts: Whether one class's values minus another's are the contrast's values.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import MapContent
        >>> values = np.eye(2, dtype=np.float32)
        >>> MapContent("InfoMask crop", "bits", values, mask=values > 0.2).numbers
        'largest 1.00 bits, mask 50% of the picture'
    """

    name: str
    unit: str
    plane: FloatArray | None
    meaning: str = ""
    regions: RegionScores | None = None
    error: str = ""
    curves: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    mask: BoolArray | None = None
    classes: tuple[ClassContent, ...] = ()
    contrasts: bool = True

    @property
    def numbers(self) -> str:
        """The map's largest value, and the share that its mask keeps."""
        if self.plane is None:
            return ""
        words = f"largest {decimals(float(self.plane.max()))} {self.unit}"
        if self.unit.endswith(_PER_PERCENT):
            whole = 100 * float(self.plane.mean())
            words = f"sums to {decimals(whole)} {self.unit.removesuffix(_PER_PERCENT)}"
        if self.mask is not None:
            words += f", mask {float(self.mask.mean()):.0%} of the picture"
        return words


@dataclass(frozen=True, eq=False)
class PictureContent:
    """One picture with the maps of all methods.

    Args:
        pixels: (H, W, 3), uint8, the picture that the network saw; None if nobody gave it. A volume
            is (D, H, W), or (D, H, W, 3) in colour.
        title: The target's name. It may be any text: it is escaped wherever it is shown.
        facts: Pairs of a number with its unit, and its description.
        maps: One per method, in the same order for all pictures.
        truth: (H, W), boolean, the pixels that are known to be right; None if they are not known.
        group: The name of the picture's group, if pictures are sorted into groups. The pictures of
            one group follow each other.
        source: The name of the picture's file, if it is known.
        is_video: Whether a volume's first axis is time.

    Example:
        >>> from captum_infomask.report.page_content import PictureContent
        >>> PictureContent(None, "espresso", (("9.91 bits", "i(y; x)"),), ()).title
        'espresso'
    """

    pixels: PhotoArray | None
    title: str
    facts: tuple[tuple[str, str], ...]
    maps: tuple[MapContent, ...]
    truth: BoolArray | None = None
    group: str = ""
    source: str = ""
    is_video: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        name: Its head.
        better: Which end is better; empty if neither is.
        note: What the numbers are and how they were made; shown on demand.
        digits: Decimal places.
    """

    name: str
    better: Better = ""
    note: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Cell:
    """A number of the table, and its difference from the first method's.

    Args:
        value: The mean over pictures; None if there is none.
        difference: The value minus the reference method's, over the pictures that both have.
        low: Lower end of the difference's 95% interval, if there are enough pictures.
        high: Upper end of the interval.
    """

    value: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TableRow:
    """A method's row of the table: a cell per column, and the error if it failed on any picture."""

    name: str
    cells: tuple[Cell, ...]
    error: str = ""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How alike the methods' maps are: a square of numbers by method.

    Args:
        title: The measure of likeness, such as "Spearman's rank correlation".
        names: The M methods.
        values: (M, M).
    """

    title: str
    names: tuple[str, ...]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BitsCurve:
    """One curve: bins from the lowest bits to the highest.

    Args:
        name: Its words in the legend.
        said: (B,), in bits.
        observed: (B,); −inf if the class never occurred.
        lower: Lower ends of the intervals, (B,); NaN if there are none.
        upper: Upper ends, (B,).
        expected: Expected counts, (B,).
    """

    name: str
    said: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BitsCheck:
    """What the pictures' labels say about bits: curves of what was observed against what was said.

    Args:
        curves: The curves, which have names.
        verdicts: A sentence for each curve.
        notes: Paragraphs beside the diagram.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import BitsCheck, BitsCurve
        >>> said = np.array([-1.0, 2.0])
        >>> curve = BitsCurve("crop", said, said, said - 0.1, said + 0.1, np.array([20.0, 80.0]))
        >>> BitsCheck((curve,), ("error 0.00 bits, nowhere by more than chance",)).notes
        ()
    """

    curves: tuple[BitsCurve, ...]
    verdicts: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PageContent:
    """The content of a report.

    Args:
        title: The heading. It may be any text: it is escaped wherever it is shown.
        pictures: The pictures; at least one.
        threshold: Where the slider starts: ``max_fraction`` of each map's maximum, or ``at_least``
            a number of the unit.
        columns: The table's columns.
        rows: The table's rows, one per method.
        reference: The method that all others are compared with; empty if there is none.
        agreement: Squares of numbers.
        notes: Paragraphs under the pictures.
        call: Python code that makes the comparison again.
        provenance: Pairs of a name and a value: versions, seed, settings.
        origin: What the content was made from, and when, in a few words each: the model, the files,
            the date. They stand under the heading and in the window's title.
        reliability: What labels say about the bits, for a report; None if there are no labels.

    Example:
        >>> from captum_infomask.report.page_content import PageContent, PictureContent
        >>> PageContent("espresso", (PictureContent(None, "espresso", (), ()),)).threshold
        ('max_fraction', 0.2)
    """

    title: str
    pictures: tuple[PictureContent, ...]
    threshold: tuple[Literal["max_fraction", "at_least"], float] = ("max_fraction", 0.2)
    columns: tuple[Column, ...] = ()
    rows: tuple[TableRow, ...] = ()
    reference: str = ""
    agreement: tuple[Agreement, ...] = ()
    notes: tuple[str, ...] = ()
    call: str = ""
    provenance: tuple[tuple[str, str], ...] = ()
    origin: tuple[str, ...] = ()
    reliability: BitsCheck | None = None
