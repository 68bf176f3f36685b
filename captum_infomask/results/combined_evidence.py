# Evidence of many pictures that places say something about labels: the result.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._errors import ArgumentError
from captum_infomask.masks import FalseDiscoveries
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.results.region_table import frame, region_boxes
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

        level = finite_number("level", level, above=0)
        if level >= 1:
            raise ArgumentError(f"Expected `level` below 1; got {level:g}.")
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
        discovery rate.
        """
        order = self._order()
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
            columns |= dict(zip(("x0", "y0", "x1", "y1"), boxes, strict=True))
        numbers = {"pictures": self.pictures, "mean_bits": self.mean_bits, "low": low, "high": high}
        numbers |= {"log2_e": self.log2_e_values, "found": self.discoveries(rate)}
        columns |= {name: values.flatten()[order].numpy() for name, values in numbers.items()}
        return frame(columns)

    def __repr__(self) -> str:
        """Show the strongest entries."""
        found = self.discoveries()
        order = self._order()[:_MOST]
        strongest = "; ".join(
            f"{self._name(k)}: 2^{float(self.log2_e_values.flatten()[k]):.1f}"
            for k in order.tolist()
        )
        return (
            f"CombinedEvidence(by {self.by}, {int(found.sum())} of {found.numel()} beyond chance "
            f"at rate 0.05; strongest e-values: {strongest})"
        )

    def _order(self) -> Tensor:
        """The entries, the strongest first."""
        return self.log2_e_values.flatten().argsort(descending=True, stable=True)

    def _entries(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The places of some entries in ``classes`` and among the regions."""
        count = len(self.regions)
        if self.by == "class":
            return order, torch.zeros_like(order)
        return order // count, order % count

    def _name(self, entry: int) -> str:
        (row,), (place,) = (part.tolist() for part in self._entries(torch.tensor([entry])))
        words = []
        if self.classes is not None:
            words.append(self.labels[row] if self.labels else f"class {int(self.classes[row])}")
        if self.by != "class":
            words.append(self._place(place))
        return " at ".join(words)

    def _place(self, place: int) -> str:
        """Name a place: its box in pictures, or the region's own name."""
        row = torch.tensor([place])
        box = region_boxes(self.regions, torch.zeros_like(row), row)[:, 0].tolist()
        if None in box:
            return f"place {place} {self.regions.describe(place)}"
        x0, y0, x1, y1 = box
        return f"place {place} (x {x0} to {x1}, y {y0} to {y1})"
