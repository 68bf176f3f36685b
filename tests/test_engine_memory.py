import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_infomask import Blur, InfoMask


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made inside that were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                size, users = self.alive.get(storage.data_ptr(), (storage.nbytes(), 0))
                self.alive[storage.data_ptr()] = size, users + 1
                weakref.finalize(tensor, self._forget, storage.data_ptr())
        self.peak = max(self.peak, sum(size for size, _ in self.alive.values()))
        return result

    def _forget(self, pointer):
        size, users = self.alive.pop(pointer)
        if users > 1:
            self.alive[pointer] = size, users - 1


@pytest.mark.parametrize("view", ["crop", "keep", "drop"])
@pytest.mark.parametrize("imputer", [None, Blur(2.0)])
def test_memory_grows_with_the_chunk_and_not_with_the_regions(view, imputer):
    reference = {"reference": "blank"} if view == "crop" and imputer is not None else {}
    x = torch.rand(2, 3, 64, 64)

    def peak(stride, chunk):
        with LiveBytes() as memory:
            infomap = InfoMask(lambda x: 2 + x.mean((2, 3))).score_regions(
                x,
                target=0,
                view=view,
                sliding_window_shapes=(3, 16, 16),
                strides=(3, stride, stride),
                imputer=imputer,
                perturbations_per_eval=chunk,
                **reference,
            )
            infomap.attributions()
        return memory.peak, infomap.scores.shape[1]

    few, count = peak(8, 8)
    many, larger = peak(2, 8)
    assert (count, larger) == (49, 625)
    picture = x[0].numel() * 4
    assert few > 16 * picture  # the pictures of a chunk, so the count is of the right things
    assert many - few < 300 * larger  # some numbers per region, never a picture each
    wide, _ = peak(2, 80)
    assert wide > 5 * many
