# One draw of a random imputer, and the noise that draws are made of.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from captum_infomask._types import Tensors
from captum_infomask.imputers.base import StandIn
from captum_infomask.imputers.checks import draw_number


@dataclass(frozen=True, eq=False)
class Draw:
    """A random imputer with its randomness settled.

    Attributes:
        make: The random imputer's own work: from inputs, a seed and an index to a stand-in.
        seed: Of the series of draws.
        index: Of this draw in the series.
    """

    make: Callable[[Tensors, int, int], StandIn]
    seed: int
    index: int

    def __post_init__(self) -> None:
        draw_number(self.seed, self.index)

    def prepare(self, inputs: Tensors) -> StandIn:
        """The stand-in of this draw."""
        return self.make(inputs, self.seed, self.index)


def order(count: int, seed: int) -> list[int]:
    """A random order of ``count`` things, from the seed alone."""
    return [int(place) for place in np.random.default_rng(seed).permutation(count)]


def noise(
    kind: Literal["uniform", "normal"], inputs: Tensors, seed: int, index: int
) -> tuple[Tensor, ...]:
    """Per input (n, ...), noise for one example, (1, ...), on its device: in [0, 1), or normal.

    All images of a batch, and all regions, share it: that is what makes a batch give what its
    images give alone, in whatever chunks. It is made on the CPU, the same for every device.
    """
    fields = []
    for number, x in enumerate(inputs):
        generator = np.random.default_rng((seed, index, number))
        draw = generator.random if kind == "uniform" else generator.standard_normal
        field = draw((1, *x.shape[1:]), dtype=np.float32)
        fields.append(torch.from_numpy(field).to(x.device))
    return tuple(fields)
