# What every imputer can do.
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from captum_infomask._types import Tensors


class StandIn(Protocol):
    """An imputer made ready for one batch of inputs."""

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Values that stand in for what some views hide.

        Args:
            images: The views' images, long (V,), on the device of the inputs.
            hidden: Per input, bool tensors that broadcast to ``(V, *shape)``: what each view
                hides; None where it hides nothing of that input.

        Returns:
            Per input, a tensor that broadcasts to ``(V, *shape)``. Only its hidden elements are
            used.
        """
        ...


@runtime_checkable
class Imputer(Protocol):
    """What stands in for hidden pixels; settings only, no tensors of any batch."""

    def prepare(self, inputs: Tensors) -> StandIn:
        """Check the inputs, do the work that all views share, and return the stand-in."""
        ...


@runtime_checkable
class RandomImputer(Imputer, Protocol):
    """A family of imputers, one for each draw of what stands in; engines average over draws.

    Used as a plain imputer it is the first draw of seed 0. What stands in depends on the seed, the
    index, the image and what is hidden of it; not on the other images of a batch, nor on chunks.
    """

    def draw(self, seed: int, index: int) -> Imputer:
        """The imputer of one draw, the same each time.

        Args:
            seed: Of a series of draws.
            index: Of the draw in its series, from 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """The stand-in of imputers whose values do not depend on what is hidden.

    Attributes:
        pictures: Per input, a tensor (n or 1, ...) that broadcasts to the input.
    """

    pictures: Tensors

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Each view's own picture."""
        return tuple(p[images] if len(p) > 1 else p for p in self.pictures)
