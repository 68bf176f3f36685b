# The outcome of one method on N pictures: its maps, masks, errors, costs and measures.
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
    """The difference of a metric from the reference method's, over the pictures that both have.

    Attributes:
        mean: This method's mean minus the reference's.
        low: Lower end of the 95% interval; None if there are too few pictures.
        high: Upper end of the interval.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class MethodOutcome:
    """One method on N pictures; NaN stands for missing values.

    Attributes:
        name: The method's name.
        unit: The unit of its values; for cells of feature maps it is bits per pixel.
        meaning: The meaning of its values, in a few words.
        planes: (N, H, W), float32: the attributions, the mean over channels; NaN where it failed.
        masks: (N, H, W), boolean: the pixels that the rule keeps; none where it failed.
        errors: The reason of the failure for each picture; empty where it did not fail.
        infomaps: The regions' scores for each picture, if it is an InfoMask that did not fail.
        forward_passes: (N,), pictures sent through the network; NaN if they could not be counted.
        seconds: (N,), wall-clock time.
        peak_bytes: (N,), the most memory held beyond the memory held before.
        metrics: Each metric's values, (N,).
        curves: For each metric that walks through the picture, (K,) values for each picture.
        differences: The difference of each metric from the reference method's.

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
        """Show the name and the number of pictures, for prompts."""
        done = sum(not error for error in self.errors)
        return f"MethodOutcome({self.name!r}, {done} of {len(self.errors)} pictures, {self.unit})"

    @property
    def done(self) -> BoolArray:
        """(N,), True where the method did not fail."""
        return np.array([not error for error in self.errors])

    @property
    def failed(self) -> bool:
        """Whether the method failed on every picture."""
        return all(self.errors)

    @property
    def error(self) -> str:
        """The errors in a sentence: the first, and the number of pictures."""
        wrong = [(k, error) for k, error in enumerate(self.errors) if error]
        if not wrong or len(self.errors) == 1:
            return wrong[0][1] if wrong else ""
        place, first = wrong[0]
        return f"on {len(wrong)} of {len(self.errors)} pictures, first on picture {place}: {first}"

    def shown(self, k: int) -> tuple[FloatArray, str]:
        """Return picture k's map as it is shown, (H, W), and its unit."""
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
        """Return (N,) values of a metric, or of ``share``, ``largest``, ``seconds`` and so on."""
        if name in self.metrics:
            return self.metrics[name]
        found: Numbers = getattr(self, name)
        return found

    def mean(self, name: str) -> float:
        """Return the mean of ``values`` over the pictures that have one; NaN if none has."""
        with quiet("Mean of empty slice"):
            return float(np.nanmean(self.values(name)))
