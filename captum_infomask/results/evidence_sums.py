# Sums over pictures, from which their evidence is made; the pictures' maps are not kept.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.results.combined_evidence import By, CombinedEvidence
from captum_infomask.scores.betting import AnyPrior, Counts, Floats, log2_of_mean


class SamePlaces:
    """Checks that all pictures have the same regions: only these can be added up by place.

    Args:
        regions: The regions of the first pictures.
    """

    def __init__(self, regions: Regions) -> None:
        self._state = regions.of_images(torch.tensor([0])).state()

    def check(self, regions: Regions, n: int) -> None:
        """Refuse other regions, or some that differ between n pictures."""
        for k in range(n):
            one = regions.of_images(torch.tensor([k]))
            state = one.state()
            same = state.keys() == self._state.keys() and all(
                torch.equal(own, self._state[name]) for name, own in state.items()
            )
            if not same:
                raise ArgumentError(
                    "Expected `maps` with the same regions for every picture, such as grid or "
                    "sliding windows; got regions that differ, and have no common places."
                )
            if one is regions:
                return


class BitSums:
    """Sums of bits over pictures, in groups, at each place.

    Args:
        groups: G, the number of groups of pictures.
        places: P.
    """

    def __init__(self, groups: int, places: int) -> None:
        self._sums = np.zeros((3, groups, places))  # pictures, bits, squares of bits

    def add(self, groups: Counts, bits: Floats) -> None:
        """Add the bits, (n, P), of pictures in groups, (n,); NaN where a picture has no region."""
        known = ~np.isnan(bits)
        values = np.where(known, bits, 0.0)
        for group in np.unique(groups):
            rows = groups == group
            of_group = known[rows], values[rows], values[rows] ** 2
            self._sums[:, group] += [part.sum(0) for part in of_group]

    def of(self, groups: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Bits, pictures, and standard errors of the mean bits, of one group or several."""
        count, total, squares = self._sums[:, groups]
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.maximum(squares - total**2 / count, 0) / (count - 1)
            errors = np.sqrt(variance / count)
        errors[count < 2] = np.nan
        bits, pictures, spread = map(torch.from_numpy, (total, count.astype(np.int64), errors))
        return bits, pictures, spread


class EvidenceSums:
    """The sums over pictures from which evidence by class and place is made, without their maps.

    Args:
        classes: M, the number of classes.
        regions: The R places.
    """

    def __init__(self, classes: int, regions: Regions) -> None:
        self._regions = regions
        self._capital = AnyPrior(classes, len(regions))
        self._by_place = BitSums(1, len(regions))
        self._by_class = BitSums(classes, 1)
        self._by_both = BitSums(classes, len(regions))

    def add(self, labels: Counts, bits: Floats, classes: Counts, posteriors: Floats) -> None:
        """Add n pictures.

        Args:
            labels: Their labels, (n,).
            bits: What each place tells about the picture's own label, (n, R), in bits.
            classes: Classes that each place's view alone has chosen, (n, R, K).
            posteriors: q(c | v) of these, (n, R, K).
        """
        self._capital.add(labels, classes, posteriors)
        self._by_place.add(np.zeros_like(labels), bits)
        self._by_both.add(labels, bits)
        known = ~np.isnan(bits)
        total = np.where(known, bits, 0.0).sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            self._by_class.add(labels, total / known.sum(1, keepdims=True))

    def result(self, by: By, categories: Sequence[str]) -> CombinedEvidence:
        """The evidence of all pictures so far."""
        occur = np.flatnonzero(self._capital.counts)
        if not len(occur):
            raise ArgumentError("Expected at least one picture with scores; got none.")
        every = self._capital.log2_e_values()
        log2_e = every[occur]
        names = tuple(categories[k] for k in occur.tolist()) if categories else ()
        classes: Tensor | None = torch.from_numpy(occur)
        if by == "class and place":
            sums = self._by_both.of(occur)
        elif by == "class":
            log2_e = log2_of_mean(log2_e, 1)
            bits, pictures, errors = self._by_class.of(occur)
            sums = bits[:, 0], pictures[:, 0], errors[:, 0]
        else:
            # Over all classes, whose number does not depend on the pictures.
            log2_e, classes, names = log2_of_mean(every, 0), None, ()
            sums = self._by_place.of(0)
        null = "labels do not depend on what the place shows, whatever their distribution"
        return CombinedEvidence(
            by, torch.from_numpy(log2_e), *sums, self._regions, classes, names, null
        )
