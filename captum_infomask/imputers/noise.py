# The imputers of uniform and normal noise, and the draws of any random imputer.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.imputers.imputer_protocol import StandIn, draw_number, float_inputs, wide


@dataclass(frozen=True, eq=False)
class Draw:
    """One draw of a random imputer.

    Attributes:
        make: The random imputer's function from inputs, a seed and an index to a stand-in.
        seed: The seed of the series of draws.
        index: The place of this draw in the series.
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
    """A random order of ``count`` things; it depends on the seed only."""
    return [int(place) for place in np.random.default_rng(seed).permutation(count)]


def noise(
    kind: Literal["uniform", "normal"], inputs: Tensors, seed: int, index: int
) -> tuple[Tensor, ...]:
    """Noise for one example, (1, ...), of each input (n, ...): in [0, 1), or normal.

    All images of a batch, and all regions, share the noise. So an image gets the same values in a
    batch as alone, in chunks of any size. The noise is made on the CPU, so it is the same for every
    device.
    """
    fields = []
    for number, x in enumerate(inputs):
        generator = np.random.default_rng((seed, index, number))
        draw = generator.random if kind == "uniform" else generator.standard_normal
        field = draw((1, *x.shape[1:]), dtype=np.float32)
        fields.append(torch.from_numpy(field).to(x.device))
    return tuple(fields)


@dataclass(frozen=True)
class UniformNoise:
    """Hidden elements take values from a uniform distribution.

    A random imputer: :meth:`draw` gives its draws. All images and regions share the noise of a
    draw.

    Args:
        low: Lower end of the range. If None, the image's own lowest value: of each channel for
            images, signals and volumes (N, C, ...), of the whole example for inputs (N, F).
        high: Upper end of the range. If None, the highest value in the same way.

    Raises:
        ArgumentError: An end is not finite, or ``low`` is not below ``high``; when used: the inputs
            are not floating-point.

    Example:
        >>> from captum_infomask.imputers import UniformNoise
        >>> import torch
        >>> x, hidden = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
        >>> stand_in = UniformNoise(2, 3).draw(seed=0, index=1).prepare((x,))
        >>> (picture,) = stand_in(torch.tensor([0]), (hidden,))
        >>> bool(picture.min() >= 2), bool(picture.max() <= 3)
        (True, True)
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        low = None if self.low is None else finite_number("low", self.low)
        high = None if self.high is None else finite_number("high", self.high)
        if low is not None and high is not None and low >= high:
            raise ArgumentError(f"Expected `low` below `high`; got {low:g} and {high:g}.")

    def prepare(self, inputs: Tensors) -> StandIn:
        """The first draw of seed 0."""
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed: int, index: int) -> Draw:
        """The imputer with the noise of one draw."""
        return Draw(self._make, seed, index)

    def _make(self, inputs: Tensors, seed: int, index: int) -> StandIn:
        float_inputs("UniformNoise", inputs)
        return _Noise(inputs, noise("uniform", inputs, seed, index), self._moments)

    def _moments(self, values: Tensor, together: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        low = _given_or(self.low, values.amin(together, keepdim=True))
        return low, _given_or(self.high, values.amax(together, keepdim=True)) - low


@dataclass(frozen=True)
class NormalNoise:
    """Hidden elements take values from a normal distribution.

    A random imputer: :meth:`draw` gives its draws. All images and regions share the noise of a
    draw.

    Args:
        mean: Mean of the distribution. If None, the image's own: of each channel for images,
            signals and volumes (N, C, ...), of the whole example for inputs (N, F).
        std: Standard deviation of the distribution. If None, the image's own in the same way.

    Raises:
        ArgumentError: ``mean`` is not finite, or ``std`` not above 0; when used: the inputs are not
            floating-point.

    Example:
        >>> from captum_infomask.imputers import NormalNoise
        >>> import torch
        >>> x, hidden = torch.rand(2, 10), torch.ones(1, 1, dtype=torch.bool)
        >>> stand_in = NormalNoise(mean=0, std=1).draw(seed=0, index=0).prepare((x,))
        >>> stand_in(torch.tensor([0, 1]), (hidden,))[0].shape
        torch.Size([2, 10])
    """

    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.mean is not None:
            finite_number("mean", self.mean)
        if self.std is not None:
            finite_number("std", self.std, above=0)

    def prepare(self, inputs: Tensors) -> StandIn:
        """The first draw of seed 0."""
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed: int, index: int) -> Draw:
        """The imputer with the noise of one draw."""
        return Draw(self._make, seed, index)

    def _make(self, inputs: Tensors, seed: int, index: int) -> StandIn:
        float_inputs("NormalNoise", inputs)
        return _Noise(inputs, noise("normal", inputs, seed, index), self._moments)

    def _moments(self, values: Tensor, together: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mean = _given_or(self.mean, values.mean(together, keepdim=True))
        return mean, _given_or(self.std, values.std(together, correction=0, keepdim=True))


Moments = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class _Noise:
    """The stand-in of one draw.

    Attributes:
        inputs: (n, ...) each.
        fields: Per input, the drawn noise, (1, ...), before it is scaled to a picture.
        moments: A function from pictures, and the dimensions that share one distribution, to the
            location and scale of this distribution.
    """

    inputs: Tensors
    fields: Tensors
    moments: Moments

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """The noise at the scale of each view's picture."""
        return tuple(
            self._scaled(x.detach()[images], field)
            for x, field in zip(self.inputs, self.fields, strict=True)
        )

    def _scaled(self, x: Tensor, field: Tensor) -> Tensor:
        # All pixels of a channel share one distribution, or all elements of an example do.
        together = tuple(range(2 if x.dim() > 2 else 1, x.dim()))
        place, scale = self.moments(wide(x), together)
        return (place + scale * field).to(x.dtype)


def _given_or(given: float | None, own: Tensor) -> Tensor:
    """The given number, or each picture's own."""
    return own if given is None else torch.full_like(own, given)
