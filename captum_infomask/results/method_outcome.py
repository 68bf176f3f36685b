# What one method gave on N pictures: its maps, masks, errors, costs and measures.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from captum_infomask._process import quiet
from captum_infomask.report.page_content import BoolArray, FloatArray, as_shown
from captum_infomask.results.info_map import InfoMap

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """By how much a metric differs from the reference method's, over the pictures that both have.

    Attributes:
        mean: This method's minus the reference's.
        low: Lower end of the 95% interval; None where there are too few pictures.
        high: Its upper end.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class MethodOutcome:
    """One method on N pictures; NaN stands for what there is not.

    Attributes:
        name: The method's name.
        unit: What its values are counted in; those of cells of feature maps are bits per pixel.
        meaning: What its values say, in a few words.
        planes: (N, H, W), float32: the attributions, the mean over channels; NaN where it failed.
        masks: (N, H, W), boolean: what the rule keeps; nothing where it failed.
        errors: Why it failed on each picture; empty where it did not.
        infomaps: The regions' scores for each picture, of an InfoMask that did not fail.
        forward_passes: (N,), pictures sent through the network; NaN where nobody could count.
        seconds: (N,), wall-clock time.
        peak_bytes: (N,), the most memory held beyond what was held before.
        metrics: Each metric's values, (N,).
        curves: For each metric that walks through the picture, (K,) values for each picture.
        differences: Each metric's difference from the reference method.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.results.method_outcome import MethodOutcome
        >>> plane = np.eye(2, dtype=np.float32)[None]
        >>> one = np.ones(1)
        >>> outcome = MethodOutcome(
        ...     "mine", "bits", "", plane, plane > 0, ("",), (None,), one, one, one)
        >>> outcome, outcome.mean("share")
        (MethodOutcome('mine', 1 of 1 pictures, bits), 0.5)
    """

    name: str
    unit: str
    meaning: str
    planes: FloatArray
    masks: BoolArray
    errors: tuple[str, ...]
    infomaps: tuple[InfoMap | None, ...]
    forward_passes: Numbers
    seconds: Numbers
    peak_bytes: Numbers
    metrics: Mapping[str, Numbers] = field(default_factory=dict)
    curves: Mapping[str, tuple[Numbers | None, ...]] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What a prompt shows."""
        done = sum(not error for error in self.errors)
        return f"MethodOutcome({self.name!r}, {done} of {len(self.errors)} pictures, {self.unit})"

    @property
    def done(self) -> BoolArray:
        """(N,), where it did not fail."""
        return np.array([not error for error in self.errors])

    @property
    def failed(self) -> bool:
        """Whether it failed on every picture."""
        return all(self.errors)

    @property
    def error(self) -> str:
        """Its errors in a sentence: the first, and on how many pictures."""
        wrong = [(k, error) for k, error in enumerate(self.errors) if error]
        if not wrong or len(self.errors) == 1:
            return wrong[0][1] if wrong else ""
        place, first = wrong[0]
        return f"on {len(wrong)} of {len(self.errors)} pictures, first on picture {place}: {first}"

    def shown(self, k: int) -> tuple[FloatArray, str]:
        """Picture k's map as it is shown, (H, W), and its unit."""
        return as_shown(self.planes[k], self.unit)

    @property
    def largest(self) -> Numbers:
        """(N,), the largest value of each map, in the unit."""
        found: Numbers = self.planes.max((1, 2)).astype(np.float64)
        return found

    @property
    def share(self) -> Numbers:
        """(N,), the share of each picture that the mask keeps."""
        return np.where(self.done, self.masks.mean((1, 2)), np.nan)

    def values(self, name: str) -> Numbers:
        """(N,) of a metric, or of ``share``, ``largest``, ``seconds`` and so on."""
        if name in self.metrics:
            return self.metrics[name]
        found: Numbers = getattr(self, name)
        return found

    def mean(self, name: str) -> float:
        """The mean of ``values`` over the pictures that have one; NaN where none has."""
        with quiet("Mean of empty slice"):
            return float(np.nanmean(self.values(name)))
