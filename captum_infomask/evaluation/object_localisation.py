# Measures how well masks, boxes and attributions find objects at known places.
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_iou as torchvision_box_iou

from captum_infomask._checks import describe, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import TensorOrTensors
from captum_infomask.masks.mask_planes import attribution_planes, mask_planes, normalised
from captum_infomask.masks.outlines import component_boxes


def mask_iou(masks: TensorOrTensors, ground_truth: TensorOrTensors) -> Tensor:
    r"""Intersection over union of masks and the right pixels.

    .. math::

        \mathrm{IoU} = \frac{|M \cap R|}{|M \cup R|}

    A pixel counts if any channel has it. If both are empty, the value is 1.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one.
        ground_truth: The same, with any number of channels.

    Returns:
        (N,), float64, from 0 to 1, on the CPU.

    Raises:
        ArgumentError: One of them is not boolean, or their pictures differ in number or size.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.object_localisation import mask_iou
        >>> mask = torch.tensor([[[[True, True, False]]]])
        >>> mask_iou(mask, torch.tensor([[[[False, True, True]]]]))
        tensor([0.3333], dtype=torch.float64)

    Source: Jaccard's index.
    """
    kept, right = mask_planes(masks), mask_planes(ground_truth)
    if kept.shape != right.shape:
        raise ArgumentError(
            f"Expected `ground_truth` of the pictures of `masks`, (N, H, W) = {kept.shape}; got "
            f"{right.shape}."
        )
    both = (kept & right).sum((1, 2))
    either = (kept | right).sum((1, 2))
    return torch.from_numpy(np.where(either > 0, both / np.maximum(either, 1), 1.0))


def box_iou(boxes: Tensor, ground_truth: Tensor) -> Tensor:
    """Intersection over union of every box with every right box.

    Args:
        boxes: (A, 4): x0, y0, x1, y1 in pixels, half-open.
        ground_truth: (B, 4), the same.

    Returns:
        (A, B), float64, from 0 to 1.

    Raises:
        ArgumentError: The shape is wrong, there is NaN or infinity, or a box has no area.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.object_localisation import box_iou
        >>> box_iou(torch.tensor([[0, 0, 4, 2]]), torch.tensor([[2, 0, 6, 2], [0, 0, 4, 2]]))
        tensor([[0.3333, 1.0000]], dtype=torch.float64)

    Source: ``torchvision.ops.box_iou``.
    """
    overlaps: Tensor = torchvision_box_iou(
        checked_boxes("boxes", boxes), checked_boxes("ground_truth", ground_truth)
    )
    return overlaps


@dataclass(frozen=True, eq=False)
class BoxAccuracy:
    """The share of pictures whose object is found, at the best threshold.

    Args:
        iou: The D overlaps at which a box counts as right.
        thresholds: The T thresholds on the normalised attributions.
        curve: (D, T), float64: the share of right pictures.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.object_localisation import BoxAccuracy
        >>> curve = torch.tensor([[0.5, 1.0, 0.5], [0.0, 0.0, 0.5]])
        >>> print(BoxAccuracy((0.3, 0.7), (0.0, 0.1, 0.2), curve))
        0.750 (IoU 0.3: 1.000 at 0.1, IoU 0.7: 0.500 at 0.2)
    """

    iou: tuple[float, ...]
    thresholds: tuple[float, ...]
    curve: Tensor

    @property
    def best(self) -> tuple[float, ...]:
        """For each overlap the largest share over all thresholds: MaxBoxAcc."""
        return tuple(self.curve.amax(1).tolist())

    @property
    def best_thresholds(self) -> tuple[float, ...]:
        """For each overlap the lowest threshold that reaches it."""
        places = (self.curve == self.curve.amax(1, keepdim=True)).int().argmax(1)
        return tuple(self.thresholds[place] for place in places.tolist())

    @property
    def mean(self) -> float:
        """The mean of ``best``; with the default settings, it is MaxBoxAccV2."""
        return math.fsum(self.best) / len(self.best)

    def __str__(self) -> str:
        """The mean, and each overlap with its threshold."""
        parts = zip(self.iou, self.best, self.best_thresholds, strict=True)
        each = ", ".join(f"IoU {iou:g}: {share:.3f} at {cut:g}" for iou, share, cut in parts)
        return f"{self.mean:.3f} ({each})"


def max_box_acc(
    attributions: TensorOrTensors | list[Tensor],
    ground_truth_boxes: Sequence[Tensor],
    *,
    iou: Sequence[float] = (0.3, 0.5, 0.7),
    thresholds: Sequence[float] | None = None,
    keep: Literal["all", "largest"] = "all",
) -> BoxAccuracy:
    r"""MaxBoxAcc: how often boxes around the largest attributions are right, at the best threshold.

    .. math::

        \mathrm{MaxBoxAcc}(\delta) = \max_\tau \frac{1}{N} \sum_n
            \mathbf{1}\!\left[\max_{b, g} \mathrm{IoU}\bigl(b, g\bigr) \ge \delta\right]

    over the boxes b around the connected parts of :math:`\{s_n \ge \tau\}` and the right boxes g of
    picture n. s is the attribution's mean over channels, scaled to [0, 1] by its own minimum and
    maximum. There is one threshold for all pictures. The defaults give MaxBoxAccV2. ``iou=(0.5,)``
    with ``keep="largest"`` gives the first MaxBoxAcc.

    The metric scales by minimum and maximum and ignores the meaning of the attribution's sign. Pass
    ``bits.clamp(min=0)`` to count only evidence for the class.

    Args:
        attributions: Floating-point (N, C, H, W), a tensor or a 1-tuple of one; for pictures of
            several sizes a list of N tensors (C, H, W).
        ground_truth_boxes: For each picture (K, 4), K ≥ 1: x0, y0, x1, y1 in pixels of the
            attributions, half-open.
        iou: The overlaps δ at which a box is right, above 0, at most 1.
        thresholds: The τ, from 0 to 1; the metric's own if None: 0, 0.001, …, 0.999.
        keep: With ``all``, the box of any part may be the right one. With ``largest``, only the box
            of the part with the most pixels.

    Returns:
        The shares, the best thresholds, and their mean over ``iou``.

    Raises:
        ArgumentError: Attributions have NaN or infinity, or another shape; a picture has no boxes,
            or empty ones; or overlaps or thresholds are out of range.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.object_localisation import max_box_acc
        >>> bits = torch.zeros(1, 1, 8, 8)
        >>> bits[..., 2:4, 3:7] = 5.0
        >>> max_box_acc(bits, [torch.tensor([[3, 2, 7, 4]])]).mean
        1.0

    Source: Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right",
    CVPR 2020, Sec. 3.2 (MaxBoxAcc), and arXiv 2007.04178, Sec. 3.2 (MaxBoxAccV2). Their code rounds
    attributions to 256 levels and counts a box's last pixel differently, so shares can differ a
    little.
    """
    one_of("keep", keep, ("all", "largest"))
    deltas = _numbers("iou", iou, lambda value: 0 < value <= 1, "above 0 and at most 1")
    if thresholds is None:
        thresholds = [step / 1000 for step in range(1000)]
    cuts = _numbers("thresholds", thresholds, lambda value: 0 <= value <= 1, "from 0 to 1")
    planes = attribution_planes(attributions)
    truth = _truth(ground_truth_boxes, len(planes))
    overlaps = np.stack(
        [
            best_overlaps(normalised(plane), boxes, cuts, keep)
            for plane, boxes in zip(planes, truth, strict=True)
        ]
    )
    curve = np.stack([(overlaps >= delta).mean(0) for delta in deltas])
    return BoxAccuracy(deltas, cuts, torch.from_numpy(curve))


def checked_boxes(argument: str, given: object) -> Tensor:
    """Return boxes (K, 4) as float64; refuse boxes without area."""
    if (
        not isinstance(given, Tensor)
        or given.dim() != 2
        or given.shape[1] != 4
        or given.is_complex()
        or given.dtype == torch.bool
    ):
        raise ArgumentError(
            f"Expected `{argument}` to be boxes (K, 4): x0, y0, x1, y1; got {describe(given)}."
        )
    boxes = given.detach().double()
    if not bool((boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)).all()):
        raise ArgumentError(
            f"Expected `{argument}` with x0 < x1 and y0 < y1, finite; got "
            f"{short_repr(given.tolist())}."
        )
    return boxes


def best_overlaps(
    plane: npt.NDArray[np.float64], truth: Tensor, cuts: tuple[float, ...], keep: str
) -> npt.NDArray[np.float64]:
    """For each threshold on one map in [0, 1], the largest IoU of a found box with a right one."""
    levels = np.sort(plane, axis=None)
    # The mask changes only if a threshold passes a value, and maps of regions have few values.
    counts = levels.size - np.searchsorted(levels, np.asarray(cuts), side="left")
    _, first, which = np.unique(counts, return_index=True, return_inverse=True)
    found = [component_boxes(plane >= cuts[place], keep) for place in first]
    best = np.zeros(len(found))
    filled = [place for place, boxes in enumerate(found) if len(boxes)]
    if filled:
        overlaps = box_iou(torch.from_numpy(np.concatenate(found)), truth).amax(1).numpy()
        starts = np.cumsum([0, *(len(found[place]) for place in filled)])[:-1]
        best[filled] = np.maximum.reduceat(overlaps, starts)
    return best[which]


def _truth(given: Sequence[Tensor], count: int) -> list[Tensor]:
    """The right boxes of each picture, at least one each, on the CPU."""
    if not isinstance(given, list | tuple) or len(given) != count:
        raise ArgumentError(
            f"Expected `ground_truth_boxes` to be a list with boxes (K, 4) for each of the {count} "
            f"pictures; got {describe(given)}."
        )
    truth = [
        checked_boxes(f"ground_truth_boxes[{n}]", boxes).cpu() for n, boxes in enumerate(given)
    ]
    empty = [n for n, boxes in enumerate(truth) if not len(boxes)]
    if empty:
        raise ArgumentError(
            f"Expected `ground_truth_boxes` with at least one box for every picture; got none for "
            f"picture {empty[0]}. Leave out pictures without objects."
        )
    return truth


def _numbers(
    argument: str, given: object, fits: Callable[[float], bool], range_words: str
) -> tuple[float, ...]:
    """Return a sequence of numbers in range as floats."""
    values = given if isinstance(given, list | tuple) else ()
    if not values or not all(isinstance(v, numbers.Real) and fits(float(v)) for v in values):
        raise ArgumentError(
            f"Expected `{argument}` to be numbers {range_words}, at least one; got "
            f"{short_repr(given)}."
        )
    return tuple(float(value) for value in values)
