# Evidence of many pictures that places say something about labels: the result.
from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_infomask._checks import open_share, plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.masks import FalseDiscoveries
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.report.overlay import draw_places
from captum_infomask.report.page_content import BoolArray, FloatArray
from captum_infomask.results.drawing import Drawing
from captum_infomask.results.map_pictures import plane_of, png_html
from captum_infomask.results.region_table import frame, region_boxes, table_columns
from captum_infomask.results.shown_inputs import photo_for
from captum_infomask.scores.discoveries import e_bh

By = Literal["place", "class", "class and place"]

_MOST = 3  # entries that a repr shows


@dataclass(frozen=True, eq=False, repr=False)
class CombinedEvidence:
    """Evidence of many pictures that places say something about labels.

    Tensors have an entry per place (R,), per class (C,), or per class and place (C, R), as ``by``
    says; they are float64.

    Attributes:
        by: ``place``, ``class`` or ``class and place``.
        log2_e_values: log₂ of the e-values. An e-value of 2^b or more has a probability of at most
            2^−b if labels do not depend on what the place shows.
        bits: The sum of i(y; v) over the pictures, in bits; for classes, over those of the class.
            For ``class`` it is the sum of each picture's mean over the places.
        pictures: The number of pictures in each sum.
        standard_errors: The standard error of the mean bits; NaN for a single picture.
        regions: The R places.
        classes: The classes that occur among the labels, long (C,); None for ``place`` alone.
        labels: The classes' names; empty if they are not known.
        null: The null hypothesis, in words.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, combine_evidence, grid
        >>> x = torch.rand(3, 1, 4, 4)
        >>> infomask = InfoMask(lambda x: 9 * x.flatten(1)[:, :2], prior="balanced")
        >>> infomap = infomask.score_regions(x, target=0, view="crop", regions=grid(x, 2, 2))
        >>> evidence = combine_evidence(infomap)
        >>> evidence.log2_e_values.shape, evidence.pictures.tolist()
        (torch.Size([4]), [3, 3, 3, 3])
    """

    by: By
    log2_e_values: Tensor
    bits: Tensor
    pictures: Tensor
    standard_errors: Tensor
    regions: Regions
    classes: Tensor | None
    labels: tuple[str, ...]
    null: str

    @property
    def e_values(self) -> Tensor:
        """The e-values; infinite above 2^1024."""
        return self.log2_e_values.exp2()

    @property
    def p_values(self) -> Tensor:
        """min(1, 1/e)."""
        return (-self.log2_e_values).exp2().clamp_max(1)

    @property
    def mean_bits(self) -> Tensor:
        """The mean of i(y; v) over the pictures, in bits."""
        return self.bits / self.pictures

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        r"""Return the interval of the mean bits: mean ± t · standard error, with Student's t.

        It is approximate, and needs some tens of pictures. The e-values need no such number.

        Args:
            level: The share of such intervals that cover the mean, between 0 and 1.

        Returns:
            Lower and upper ends; NaN for a single picture.

        Raises:
            ArgumentError: ``level`` is not between 0 and 1.
        """
        from scipy.special import stdtrit

        level = open_share("level", level)
        degrees = (self.pictures - 1).clamp_min(1).double().numpy()
        width = torch.from_numpy(np.asarray(stdtrit(degrees, (1 + level) / 2)))
        return self.mean_bits - width * self.standard_errors, (
            self.mean_bits + width * self.standard_errors
        )

    def discoveries(self, rate: float = 0.05, *, closed: bool = False) -> Tensor:
        """Return the entries beyond chance; the expected share of false ones is at most ``rate``.

        Args:
            rate: The false discovery rate, above 0 and below 1.
            closed: Use closed e-BH, which finds at least as much as e-BH.

        Returns:
            Bool, of the shape of ``log2_e_values``.

        Raises:
            ArgumentError: ``rate`` is wrong.

        Source: :func:`captum_infomask.scores.discoveries.e_bh`.
        """
        rule = FalseDiscoveries(rate, closed)
        return e_bh(self.log2_e_values, rule.rate, closed=rule.closed)

    def to_pandas(self, rate: float = 0.05) -> Any:
        """Return a pandas DataFrame with a row per entry, the strongest evidence first.

        Columns: ``class`` and ``label`` if there are classes; ``place`` and its box ``x0``, ``y0``,
        ``x1``, ``y1`` if there are places; ``pictures``, ``mean_bits`` and the ends ``low`` and
        ``high`` of its interval, ``log2_e`` (log₂ of the e-value), and ``found`` at this false
        discovery rate. For classes, ``mean_bits`` is over the pictures of the class, and the bets
        are on all pictures. So strong evidence may go with a mean below 0: a few pictures
        with very low bits pull the mean down, while a bet risks only a share.
        """
        order = self.ranked()
        low, high = self.interval()
        columns: dict[str, Any] = {}
        classes, places = self._entries(order)
        if self.classes is not None:
            columns["class"] = self.classes[classes].numpy()
            if self.labels:
                columns["label"] = np.array([self.labels[k] for k in classes.tolist()], object)
        if self.by != "class":
            columns["place"] = places.numpy()
            boxes = region_boxes(self.regions, torch.zeros_like(places), places)
            columns |= dict(zip(table_columns(self.regions), boxes, strict=True))
        numbers = {"pictures": self.pictures, "mean_bits": self.mean_bits, "low": low, "high": high}
        numbers |= {"log2_e": self.log2_e_values, "found": self.discoveries(rate)}
        columns |= {name: values.flatten()[order].numpy() for name, values in numbers.items()}
        return frame(columns)

    def figure(
        self, label: int | str | None = None, picture: Any = None, rate: float = 0.05
    ) -> tuple[Figure, Axes]:
        """Draw the mean bits of the places, and outline those that are beyond chance.

        Args:
            label: The class, its number or name; None takes that of the strongest evidence. For
                ``place`` it must be None.
            picture: A picture under the map, as for :func:`show`; None draws the map alone.
            rate: The false discovery rate over all entries, not only those of the class.

        Returns:
            The figure, on an Agg canvas (no window, no pyplot state), and the map's axes.

        Raises:
            ArgumentError: The evidence has no places (``class``); the class did not occur; the
                inputs were no pictures; and as :func:`show`.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, combine_evidence, grid
            >>> x = torch.rand(9, 1, 8, 8)
            >>> infomask = InfoMask(lambda x: 9 * x.flatten(1)[:, :2], prior="balanced")
            >>> maps = infomask.score_regions(x, target=0, view="crop", regions=grid(x, 2, 2))
            >>> figure, axes = combine_evidence(maps).figure()
            >>> axes.get_title("left")
            'all classes'
        """
        row = self._row(label)
        found = self.discoveries(rate)
        plane, kept = self.plane(row), self.places_where(found, row)
        values = self.log2_e_values if row is None else self.log2_e_values[row]
        count = int((found if row is None else found[row]).sum())
        title = "all classes" if row is None else self._class_name(row)
        below = (
            f"{count} of {len(self.regions)} places beyond chance at rate {rate:g}; strongest "
            f"e-value 2^{float(values.max()):.1f}"
        )
        photo = photo_for("picture", picture, plane)
        drawn = Drawing(contour=None).draw(plane, photo, "mean bits", (title, below))
        draw_places(drawn[1], kept, photo)
        return drawn

    def plane(self, row: int | None = None) -> FloatArray:
        """Return the mean bits painted over the picture, (H, W), of one of ``classes`` or of all.

        Raises:
            ArgumentError: The inputs were no pictures.
        """
        mean = (self.mean_bits if row is None else self.mean_bits[row])[None]
        painted = self.regions.paint(mean.float(), "mean", 1.0)
        return plane_of(painted, self.regions, "bits", 0)[0]

    def places_where(self, chosen: Tensor, row: int | None = None) -> BoolArray:
        """Return the pixels, (H, W), that some chosen entries cover, of one of ``classes``."""
        own = (chosen if row is None else chosen[row])[None]
        (painted,) = self.regions.paint(own.float(), "max", 1.0)
        covered: BoolArray = (painted[0] > 0).any(0).cpu().numpy()
        return covered

    def _row(self, label: int | str | None) -> int | None:
        """Return the row of a class; None if there are no classes."""
        if self.by == "class":
            raise ArgumentError(
                "Expected evidence of places for a map; got by='class'. Pass by='class and place'."
            )
        if self.classes is None:
            if label is not None:
                raise ArgumentError(
                    f"Expected no `label` for by='place', which is about all classes; got "
                    f"{label!r}. Pass by='class and place'."
                )
            return None
        if label is None:
            return int(self.ranked()[0]) // len(self.regions)
        known = dict(zip(self.classes.tolist(), range(len(self.classes)), strict=True))
        names = dict(zip(self.labels, known.values(), strict=False))
        given = plain(label)
        row: int | None = None
        if isinstance(given, str):
            if self.labels.count(given) > 1:
                raise ArgumentError(
                    f"Expected `label` to name one class; several are called {short_repr(given)}. "
                    f"Give a number."
                )
            row = names.get(given)
        elif isinstance(given, int) and not isinstance(given, bool):
            row = known.get(given)
        if row is None:
            some = f"{', '.join(map(repr, [*self.labels[:3], *known][:4]))}, …"
            raise ArgumentError(
                f"Expected `label` to be one of the {len(known)} classes that occur, its number or "
                f"name ({some}); got {short_repr(label)}."
            )
        return row

    def __repr__(self) -> str:
        """Show the strongest entries."""
        found = self.discoveries()
        order = self.ranked()[:_MOST]
        strongest = "; ".join(
            f"{self.describe(k)}: 2^{float(self.log2_e_values.flatten()[k]):.1f}"
            for k in order.tolist()
        )
        return (
            f"CombinedEvidence(by {self.by}, {int(found.sum())} of {found.numel()} beyond chance "
            f"at rate 0.05; strongest e-values: {strongest})"
        )

    def _repr_html_(self) -> str | None:
        """Return the map of the strongest class, if the inputs are pictures, and the words."""
        if self.by == "class" or [len(shape) for shape in self.regions.shapes] != [3]:
            return None
        return f"{png_html(self.figure()[0], repr(self))}<pre>{html.escape(repr(self))}</pre>"

    def ranked(self) -> Tensor:
        """Return the numbers of the entries, flattened, the strongest evidence first."""
        return self.log2_e_values.flatten().argsort(descending=True, stable=True)

    def _entries(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The places of some entries in ``classes`` and among the regions."""
        count = len(self.regions)
        if self.by == "class":
            return order, torch.zeros_like(order)
        return order // count, order % count

    def describe(self, entry: int) -> str:
        """Name an entry by its number: its class and its place."""
        (row,), (place,) = (part.tolist() for part in self._entries(torch.tensor([entry])))
        words = []
        if self.classes is not None:
            words.append(self._class_name(row))
        if self.by != "class":
            words.append(self._place(place))
        return " at ".join(words)

    def _place(self, place: int) -> str:
        """Name a place: its box in pictures, or the region's own name."""
        row = torch.tensor([place])
        box = region_boxes(self.regions, torch.zeros_like(row), row)[:, 0].tolist()
        if None in box:
            return f"place {place} {self.regions.describe(place)}"
        axes = [name[0] for name in table_columns(self.regions)[: len(box) // 2]]
        spans = zip(axes, box, box[len(axes) :], strict=False)
        return f"place {place} ({', '.join(f'{axis} {a} to {b}' for axis, a, b in spans)})"

    def _class_name(self, row: int) -> str:
        assert self.classes is not None, "by class"
        return self.labels[row] if self.labels else f"class {int(self.classes[row])}"
