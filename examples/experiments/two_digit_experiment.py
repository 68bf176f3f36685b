# The paper's two-digit experiment: methods, what each mask keeps of the ink, a table.
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from experiments.two_digit_figure import KeptRow, two_digit_figure
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.comparison.method_adapters import ForwardMethod
from captum_infomask.comparison.methods import centred_blob, uniform_noise
from captum_infomask.datasets import HOLDS_TARGET, INK_THRESHOLD, TwoDigits
from captum_infomask.evaluation.ground_truth import (
    average_precision,
    bootstrap,
    ink_iou,
    positive_share,
)
from captum_infomask.evaluation.method_calls import (
    Forward,
    Index,
    grad_cam,
    info_mask,
    occlusion,
    target_log_probabilities,
)
from captum_infomask.masks import MaxFraction, threshold_mask
from captum_infomask.report.page_content import density

_OF_CELLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("InfoMask", {}),
    ("InfoMask evidence", {"view": "evidence"}),
)
# Crops keep their size: stretched to the picture's, digits look like none in training.
_OF_WINDOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("InfoMask drop", {"view": "drop"}),
    ("InfoMask keep", {"view": "keep"}),
    ("InfoMask crop (blank)", {"view": "crop", "crop_size": "native", "reference": "blank"}),
    ("InfoMask crop", {"view": "crop", "crop_size": "native"}),
)


def two_digit_methods(
    network: nn.Module, *, window: int = 20, stride: int = 4
) -> tuple[ForwardMethod, ...]:
    """Return the experiment's methods: InfoMask's default and other views, Grad-CAM, and so on.

    Args:
        network: Has a layer ``features``, whose output is the last feature map (for Grad-CAM).
        window: Side of the windows of Occlusion and of views of regions, in pixels.
        stride: Step between windows, in pixels.

    Returns:
        The methods, in the order of the table.

    Example:
        >>> from experiments.two_digit_experiment import two_digit_methods
        >>> from captum_infomask.models.two_digits import two_digit_network
        >>> two_digit_methods(two_digit_network())[0].name
        'InfoMask'

    Source: Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    shapes, strides = (1, window, window), (1, stride, stride)
    sliding = {"sliding_window_shapes": shapes, "strides": strides}
    log_p = occlusion(shapes, strides, target_log_probabilities)
    return (
        *(ForwardMethod(name, density("bits"), info_mask(**view)) for name, view in _OF_CELLS),
        *(ForwardMethod(name, "bits", info_mask(**sliding, **view)) for name, view in _OF_WINDOWS),
        ForwardMethod("Grad-CAM", "a.u.", grad_cam(network.get_submodule("features"))),
        ForwardMethod(
            "Occlusion, logits", "logits", occlusion(shapes, strides, lambda logits: logits)
        ),
        ForwardMethod("Occlusion, log-probabilities", "nats", log_p),
        ForwardMethod("centred blob (control)", "a.u.", _blob),
        ForwardMethod("uniform noise (control)", "a.u.", _noise),
    )


def _blob(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
    """The control that lies in the middle of each picture."""
    return centred_blob(*inputs.shape[2:]).expand_as(inputs).contiguous()


def _noise(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
    """The control that lies anywhere."""
    return uniform_noise(*inputs.shape)


@dataclass(frozen=True)
class TwoDigitRow:
    """What one method gave on N pictures.

    Args:
        method: The method's name.
        unit: What its attributions are counted in.
        seconds: Wall-clock time for all pictures.
        attributions: (N, 1, 28, 56), in ``unit``.
        masks: (N, 1, 28, 56), boolean: what reaches 20% of the picture's maximum.
        ink_iou: (N,), see :func:`captum_infomask.evaluation.ground_truth.ink_iou`.
        positive_share: (N,), share of positive attribution in the target's half.
        average_precision: (N,), of the target digit's ink among all pixels.
    """

    method: str
    unit: str
    seconds: float
    attributions: Tensor
    masks: Tensor
    ink_iou: Tensor
    positive_share: Tensor
    average_precision: Tensor


def two_digit_experiment(
    network: nn.Module,
    pictures: TwoDigits,
    methods: Sequence[ForwardMethod] | None = None,
    *,
    show_progress: bool = False,
) -> list[TwoDigitRow]:
    """Run methods on pictures that hold the target digit and measure what their masks keep.

    Args:
        network: Maps (N, 1, 28, 56) to logits (N, 2); class 1: the picture holds the target.
        pictures: N pictures, all of which hold the target.
        methods: What to run; :func:`two_digit_methods` if None.
        show_progress: Show the methods' own progress bars on stderr.

    Returns:
        One row per method, in the same order.

    Raises:
        ArgumentError: A picture does not hold the target.

    Example:
        >>> import torch
        >>> from experiments.two_digit_experiment import two_digit_experiment
        >>> from captum_infomask.datasets import sklearn_digits, two_digits
        >>> from captum_infomask.models.two_digits import load_two_digit_network
        >>> pictures = two_digits(*sklearn_digits(train=False), target=0, count=16)
        >>> chosen = pictures.holding_target_beside_another()
        >>> rows = two_digit_experiment(load_two_digit_network(), chosen)
        >>> rows[0].ink_iou.shape
        torch.Size([4])

    Source: Qin & Kim, arXiv 1910.02629, Section 5.3 and Figure 2.
    """
    if not bool((pictures.labels == HOLDS_TARGET).all()):
        raise ArgumentError(
            "Expected `pictures` that all hold the target digit; got "
            f"{int((pictures.labels != HOLDS_TARGET).sum())} of {len(pictures.labels)} without it."
        )
    halves = pictures.ink.unflatten(3, (2, -1)).any(dim=(2, 4), keepdim=True)
    half = halves.expand(-1, -1, 28, -1, 28).flatten(3)
    rows = []
    for method in two_digit_methods(network) if methods is None else methods:
        start = time.perf_counter()
        attributions = method.call(network, pictures.images, HOLDS_TARGET, show_progress)
        seconds = time.perf_counter() - start
        with quiet("The mask of example"):
            # An empty mask is an ink IoU of 0 in the table; a hundred warnings say no more.
            masks = threshold_mask(attributions, MaxFraction(0.2))
        rows.append(
            TwoDigitRow(
                method=method.name,
                unit=method.unit,
                seconds=seconds,
                attributions=attributions,
                masks=masks,
                ink_iou=ink_iou(masks, pictures.images > INK_THRESHOLD, pictures.ink),
                positive_share=positive_share(attributions, half),
                average_precision=average_precision(attributions, pictures.ink),
            )
        )
    return rows


def two_digit_table(rows: Sequence[TwoDigitRow]) -> str:
    """Write rows as a Markdown table: means, with 95% bootstrap intervals from ten pictures on.

    Args:
        rows: What :func:`two_digit_experiment` returned.

    Returns:
        The table's lines.

    Example:
        >>> from experiments.two_digit_experiment import two_digit_table
        >>> print(two_digit_table([]).splitlines()[0])
        | method | unit | ink IoU | share in the right half | average precision |
    """
    lines = [
        "| method | unit | ink IoU | share in the right half | average precision |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        measured = (row.ink_iou, row.positive_share, row.average_precision)
        cells = " | ".join(str(bootstrap(values)) for values in measured)
        lines.append(f"| {row.method} | {row.unit} | {cells} |")
    return "\n".join(lines)


def draw_two_digits(
    pictures: TwoDigits, rows: Sequence[TwoDigitRow], *, title: str, shown: int = 6
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Draw the paper's Figure 2: some pictures, what the best view keeps and hides, the others.

    The best view is InfoMask's with the largest mean ink IoU; controls are left out.

    Args:
        pictures: What the rows were measured on.
        rows: What :func:`two_digit_experiment` returned, at least one of them InfoMask's.
        title: Words above the pictures.
        shown: Pictures to show: the first with the target on the left, then on the right.

    Returns:
        The figure, on an Agg canvas, and its panels (rows, pictures).

    Example:
        >>> from experiments.two_digit_experiment import draw_two_digits, two_digit_experiment
        >>> from captum_infomask.datasets import sklearn_digits, two_digits
        >>> from captum_infomask.models.two_digits import load_two_digit_network
        >>> pictures = two_digits(*sklearn_digits(train=False), target=0, count=32)
        >>> chosen = pictures.holding_target_beside_another()
        >>> rows = two_digit_experiment(load_two_digit_network(), chosen)
        >>> figure, panels = draw_two_digits(chosen, rows, title="What each mask keeps of a 0")

    Source: Qin & Kim, arXiv 1910.02629, Figure 2.
    """
    on_left = pictures.ink[..., : pictures.ink.shape[-1] // 2].any(dim=3).any(dim=2).any(dim=1)
    sides = [side.nonzero()[: shown // 2, 0] for side in (on_left, ~on_left)]
    chosen = torch.cat(sides).cpu()
    best = max((row for row in rows if row.method.startswith("InfoMask")), key=_mean_iou)
    masks = best.masks.cpu()[chosen, 0].numpy()
    drawn = [
        KeptRow(best.method, f"ink IoU {_mean_iou(best):.3f}", masks),
        KeptRow(f"{best.method}, hidden", "invert=True", ~masks),
    ]
    for row in rows:
        if row is not best and "control" not in row.method:
            masks = row.masks.cpu()[chosen, 0].numpy()
            drawn.append(KeptRow(row.method, f"ink IoU {_mean_iou(row):.3f}", masks))
    return two_digit_figure(pictures.images.cpu()[chosen, 0].numpy(), drawn, title=title)


def _mean_iou(row: TwoDigitRow) -> float:
    """Mean ink IoU of a row."""
    return row.ink_iou.mean().item()
