# Memory of forward passes: the views that fit, the network's use, and what to do without memory.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from captum_infomask._types import Tensors
from captum_infomask.engines.traced_network import Node
from captum_infomask.views.view_plan import ViewPlan

PICTURE = 3 * 224 * 224  # numbers of one picture, the unit of sizes here
MOST_VIEWS_ON_CPU = 128

# With views of so many numbers, a faster copy of the network saves more than it costs: measured
# (docs/engines.md).
WORTH_A_COPY = 64 * PICTURE

# Measured with one and two CPU threads, where larger chunks are slower (docs/results/speed.md). For
# more threads it is a guess.
_PICTURES_PER_THREAD, _PICTURES_ON_CPU = 2, (4, 32)
# Measured on one GPU (docs/results/gpu.md): with more views at a time, the GPU waits less for
# Python. There are as many as its memory is sure to hold: a picture takes a tenth of this to a
# third. The total is asked for, not the free memory, so that the same call has the same chunks.
_PICTURES_ON_GPU, _BYTES_PER_PICTURE, _MOST_VIEWS_ON_GPU = 512, 128 << 20, 4096
_PICTURES_ELSEWHERE, _MOST_VIEWS_ELSEWHERE = 128, 256  # a guess
_DEVICE_ERROR = torch.cuda.OutOfMemoryError
_WORDS = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


def of_one_size(plan: ViewPlan) -> list[Tensor]:
    """Return a plan's rows, long (B,) each, in groups of views that are shown at one size."""
    if plan.sizes is None:
        return [torch.arange(len(plan))]
    _, group = plan.sizes.unique(dim=0, return_inverse=True)
    return [(group == g).nonzero()[:, 0] for g in range(int(group.max()) + 1)]


def elements_shown(plan: ViewPlan, row: int) -> int:
    """Return how many numbers a view shows to the network."""
    inputs = plan.scene.inputs
    if plan.sizes is not None:
        return inputs[0].shape[1] * int(plan.sizes[row].prod())
    return sum(x[0].numel() for x in inputs)


def default_views(elements: int, device: torch.device) -> int:
    """Return a chunk's size by the numbers in a view alone, for an unknown network."""
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


# glibc gives a freed block back to the system, and fetches it page by page the next time, in two
# cases: the block is larger than any block freed before or than 32 MiB, or twice as much as that
# is free at the end of its heap. Networks here stay below both, with room for other memory.
LARGEST_BLOCK, MOST_ALIVE = 31 << 20, 50 << 20


def keep_freed_blocks() -> None:
    """Let glibc keep blocks of up to 32 MiB for later: it learns from one that is freed."""
    np.empty((32 << 20) - (64 << 10), dtype=np.uint8)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator raised this, for an accelerator or the CPU."""
    if isinstance(error, _DEVICE_ERROR | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def no_memory(error: Exception, inputs: Tensors, elements: int) -> Exception:
    """Return the error to raise if not even a single view fits."""
    shapes = ", ".join(str((1, *x.shape[1:])) for x in inputs)
    kind = _DEVICE_ERROR if isinstance(error, _DEVICE_ERROR) else RuntimeError
    return kind(
        f"Out of memory with a single view of {elements} numbers, of inputs {shapes}: no smaller "
        f"chunk can be tried. Smaller inputs take less; so do view='drop' where it is evidence or "
        f"relay, a smaller crop_size where it is crop, and engine=Batched(autocast=torch.bfloat16) "
        f"where regions are hidden or shown. The allocator said: {error}"
    )


def free_cached() -> None:
    """Release an accelerator's cached memory, which may lie in pieces that are too small."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class MeasuredMemory:
    """The bytes of a traced network's tensors other than weights, as it runs.

    Attributes:
        largest: The bytes of the largest tensor.
        alive: The most bytes of all tensors that are alive at once.
    """

    def __init__(self) -> None:
        self.largest, self.alive = 0, 0

    def add(self, node: Node, values: Mapping[Node, Any]) -> None:
        """Count the tensors that are alive when a node has run, including its inputs."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in tree_leaves([values[key] for key in values if key.op != "get_attr"])
            if isinstance(tensor, Tensor)
        }
        self.largest = max(self.largest, *sizes.values(), 0)
        self.alive = max(self.alive, sum(sizes.values()))
