# The paper's two digits: what a mask at 20% of the maximum keeps of the target digit's ink.
from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from captum_infomask import MaxFraction, threshold_mask
from captum_infomask._process import quiet
from captum_infomask.datasets import HOLDS_TARGET, INK_THRESHOLD, two_digits
from captum_infomask.evaluation.ground_truth import ink_iou
from captum_infomask.models.two_digits import two_digit_network

from .cases import Case, Subject
from .measures import localisation
from .small_networks import Lab, trained

INK = {"ink": "ink IoU at 20%", "ap": "average precision", "mass": "mass", "pointing": "pointing"}
_STEPS, _PICTURES = 1000, 16_000
_ASKED = 464  # whatever the number of cases: the first of them are the first of more


def measure(plane: Tensor, case: Case) -> dict[str, float]:
    """Ink IoU of the mask at a fifth of the maximum, and the numbers of :func:`localisation`."""
    with quiet("The mask of example"):  # an empty mask is an IoU of 0
        mask = threshold_mask(plane[None, None].float(), MaxFraction(0.2))
    ink = case.picture > INK_THRESHOLD
    found = localisation(plane, case.truth)
    return {"ink": float(ink_iou(mask, ink, case.truth[None, None])), **found}


def two_digit(target: int, count: int, lab: Lab) -> Subject:
    """A network for one target digit, and pictures that hold it beside another one."""

    def training() -> tuple[Tensor, Tensor]:
        digits = lab.read_digits(train=True)
        made = two_digits(*digits, target=target, count=lab.count(_PICTURES), seed=0)
        return made.images, made.labels

    file = lab.cache / f"two-digits-{lab.origin}-{target}"
    network: nn.Module = trained(two_digit_network, training, lab.count(_STEPS), file)
    digits = lab.read_digits(train=False)
    made = two_digits(*digits, target=target, count=_ASKED, seed=1)
    held = made.holding_target_beside_another()
    held = held.select(torch.arange(count))
    cases = [
        Case(str(k), held.images[k : k + 1], HOLDS_TARGET, held.ink[k, 0]) for k in range(count)
    ]
    layer = "last activation (its authors' layer)"
    layers = {layer: network.get_submodule("features")}
    return Subject("ink", f"target {target}", network, cases, layers, layer)


def subjects(count: int, lab: Lab) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {f"target {target}": partial(two_digit, target, count, lab) for target in range(10)}
