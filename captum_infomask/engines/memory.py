# Memory of forward passes: what an allocator keeps, what a network takes, and when there is none.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from captum_infomask._types import Tensors
from captum_infomask.engines.traced_network import Node

# glibc gives a freed block back to the system, and fetches it page by page the next time, if it is
# larger than any block freed before or than 32 MiB, or if twice as much as that lies free at the
# end of its heap. What networks take stays below both, with room for what else is about.
LARGEST_BLOCK, MOST_ALIVE = 31 << 20, 50 << 20

_DEVICE_ERROR = torch.cuda.OutOfMemoryError
_WORDS = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


def keep_freed_blocks() -> None:
    """Let glibc keep blocks of up to 32 MiB for later: it learns from one that is freed."""
    np.empty((32 << 20) - (64 << 10), dtype=np.uint8)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator raised this, of an accelerator or of the CPU."""
    if isinstance(error, _DEVICE_ERROR | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def no_memory(error: Exception, inputs: Tensors, elements: int) -> Exception:
    """What to raise where not even a single view fits."""
    shapes = ", ".join(str((1, *x.shape[1:])) for x in inputs)
    kind = _DEVICE_ERROR if isinstance(error, _DEVICE_ERROR) else RuntimeError
    return kind(
        f"Out of memory with a single view of {elements} numbers, of inputs {shapes}: no smaller "
        f"chunk can be tried. Smaller inputs take less; so do view='drop' where it is evidence or "
        f"relay, a smaller crop_size where it is crop, and engine=Batched(autocast=torch.bfloat16) "
        f"where regions are hidden or shown. The allocator said: {error}"
    )


def free_cached() -> None:
    """Give an accelerator's cached memory back, which may lie in pieces that are too small."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Measured:
    """The bytes of a traced network's tensors other than weights, as it runs.

    Attributes:
        largest: Of the largest tensor.
        alive: Of all tensors alive at once, at most.
    """

    def __init__(self) -> None:
        self.largest, self.alive = 0, 0

    def add(self, node: Node, values: Mapping[Node, Any]) -> None:
        """Count what is alive when a node has run: what it read, too."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in tree_leaves([values[key] for key in values if key.op != "get_attr"])
            if isinstance(tensor, Tensor)
        }
        self.largest = max(self.largest, *sizes.values(), 0)
        self.alive = max(self.alive, sum(sizes.values()))
