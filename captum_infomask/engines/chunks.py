# How many views go through the network at a time.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask.views.view_plan import ViewPlan

PICTURE = 3 * 224 * 224  # the numbers of a picture that sizes are measured in
MOST_VIEWS_ON_CPU = 128

# The numbers that a plan's views show from which a faster copy of the network saves more than it
# costs: measured (docs/engines.md).
WORTH_A_COPY = 64 * PICTURE

# Measured with one and two CPU threads, where larger chunks lose (docs/results/speed.md); a guess
# for more.
_PICTURES_PER_THREAD, _PICTURES_ON_CPU = 2, (4, 32)
# Measured on one GPU (docs/results/gpu.md), where more views at a time wait less for Python; as
# many as its memory is sure to hold: a picture takes a tenth of this to a third. The total is
# asked for, not what is free, so that the same call has the same chunks.
_PICTURES_ON_GPU, _BYTES_PER_PICTURE, _MOST_VIEWS_ON_GPU = 512, 128 << 20, 4096
_PICTURES_ELSEWHERE, _MOST_VIEWS_ELSEWHERE = 128, 256  # a guess


def of_one_size(plan: ViewPlan) -> list[Tensor]:
    """A plan's rows, long (B,) each, in groups of views that are shown at one size."""
    if plan.sizes is None:
        return [torch.arange(len(plan))]
    _, group = plan.sizes.unique(dim=0, return_inverse=True)
    return [(group == g).nonzero()[:, 0] for g in range(int(group.max()) + 1)]


def elements_shown(plan: ViewPlan, row: int) -> int:
    """How many numbers a view shows to the network."""
    inputs = plan.scene.inputs
    if plan.sizes is not None:
        return inputs[0].shape[1] * int(plan.sizes[row].prod())
    return sum(x[0].numel() for x in inputs)


def default_views(elements: int, device: torch.device) -> int:
    """A chunk's size by what a view shows alone, for a network of which nothing is known."""
    pictures, views = _PICTURES_ELSEWHERE, _MOST_VIEWS_ELSEWHERE
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        pictures = min(max(memory // _BYTES_PER_PICTURE, 1), _PICTURES_ON_GPU)
        views = _MOST_VIEWS_ON_GPU
    elif device.type == "cpu":
        least, most = _PICTURES_ON_CPU
        pictures = min(max(_PICTURES_PER_THREAD * torch.get_num_threads(), least), most)
        views = MOST_VIEWS_ON_CPU
    return min(max(pictures * PICTURE // max(elements, 1), 1), views)
