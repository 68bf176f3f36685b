# The settings of the view `evidence`, which scores what every feature of a layer adds.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe, plain, positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.regions.map_cells import over_picture
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.views.view_plan import Hidden, Needs, Scene, ViewPlan

Layer = nn.Module | str
Layers = Layer | Sequence[Layer] | None
Size = tuple[int, ...]


@dataclass(frozen=True)
class HalfCrops:
    """Nine half-overlapping crops, each of half the picture's sides, and each shown alone.

    For signals they are three, for volumes 27.

    They are strictly local. A cell of a feature map of the whole picture has seen its surroundings.
    A cell of a crop has seen nothing outside the crop.

    Args:
        size: (height, width) that crops are resized to, or one side for all places; None keeps the
            crops' own size.

    Raises:
        ArgumentError: ``size`` is not a size.

    Example:
        >>> import torch
        >>> from captum_infomask import HalfCrops, InfoMask
        >>> layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
        >>> model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
        >>> sizes = [None, HalfCrops(16)]
        >>> bits = InfoMask(model).attribute(
        ...     torch.rand(1, 1, 16, 16), target=1, view="evidence", input_sizes=sizes)
        >>> bits.shape
        torch.Size([1, 1, 16, 16])
    """

    size: int | Size | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            object.__setattr__(self, "size", _side_or_size("size", self.size))


InputSizes = list[int | Size | HalfCrops | None] | None


@dataclass(frozen=True)
class Evidence:
    r"""The information that each cell of a map adds, from none of the features to all of them.

    .. math::

        \varphi_c = \int_0^1 \frac{\partial\, i(y; f_0 + t (f - f_0))}{\partial f_c}
            \cdot (f_c - f_{0,c})\, dt, \qquad \sum_c \varphi_c = i(y; x) - i(y; f_0).

    Attributes:
        layers: Where features are read; if empty, the layer that is found.
        sizes: The sizes at which pictures are shown: their own size (None), another one, or crops.
        from_blank: Whether f₀ is the features of the all-imputed picture, because the user gave
            that picture. If not, f₀ is zero, unless what follows hides the features' scale.

    Source: Aumann & Shapley, "Values of Non-Atomic Games", 1974. Integrated gradients
    (Sundararajan, Taly & Yan, arXiv 1703.01365) are the same for pixels.
    """

    layers: tuple[Layer, ...] = ()
    sizes: tuple[Size | HalfCrops | None, ...] = (None,)
    from_blank: bool = False
    is_relayed: bool = False
    n_samples = None
    needs = Needs(
        engine="evidence", overlaps=("mean",), fixed_imputer="whose path starts at one picture"
    )

    @classmethod
    def checked(
        cls, layer: object, input_sizes: object, *, from_blank: bool, is_relayed: bool
    ) -> Evidence:
        """Check every setting; raises ``ArgumentError``."""
        return cls(_checked_layers(layer), _checked_sizes(input_sizes), from_blank, is_relayed)

    @property
    def name(self) -> str:
        """The name that users write."""
        return "relay" if self.is_relayed else "evidence"

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or the whole picture until its maps are known."""
        return over_picture(tuple(inputs[0].shape[1:])) if asked is None else asked

    def check(self, scene: Scene) -> None:
        """Refuse several inputs and inputs without places: features have places."""
        shapes = ", ".join(str(tuple(x.shape)) for x in scene.inputs)
        if len(scene.inputs) != 1 or scene.inputs[0].dim() < 3:
            raise ArgumentError(
                f"Expected `inputs` to be one tensor (N, C, ...) with places after the channels, "
                f"such as pictures, for view={self.name!r}; got {shapes}. Pass view='drop'."
            )
        places = scene.inputs[0].dim() - 2
        for size in self.sizes:
            sides = size.size if isinstance(size, HalfCrops) else size
            if isinstance(sides, tuple) and len(sides) not in (1, places):
                raise ArgumentError(
                    f"Expected `input_sizes` to hold one side or {places} sides for inputs "
                    f"{shapes}; got {sides}."
                )
            if isinstance(size, HalfCrops) and min(scene.inputs[0].shape[2:]) < 4:
                raise ArgumentError(
                    f"Expected pictures of 4 pixels a side or more for HalfCrops; got {shapes}."
                )


@dataclass(frozen=True, eq=False)
class Shown:
    """The pictures that the network is shown at one size.

    Attributes:
        plan: One view for each picture and frame; the picture changes most slowly.
        frames: Start and stop of the part that each view shows, in each dimension of places, long
            (F, D, 2).
    """

    plan: ViewPlan
    frames: Tensor


def shown_at(scene: Scene, size: Size | HalfCrops | None, hidden: Hidden = "nothing") -> Shown:
    """Show every picture at a size, or its half crops.

    Args:
        scene: The pictures.
        size: The size; None for the pictures' own.
        hidden: ``nothing``, or ``everything`` for the all-imputed pictures.
    """
    places = scene.inputs[0].shape[2:]
    whole = torch.tensor([[[0, side] for side in places]])
    if size is None:
        return Shown(ViewPlan(scene, hidden, scene.images), whole)
    frames = whole if not isinstance(size, HalfCrops) else _halves(places)
    sides = size.size if isinstance(size, HalfCrops) else size
    images = scene.images.repeat_interleave(len(frames))
    cuts = frames.transpose(1, 2).flatten(1).repeat(len(scene.images), 1)
    sizes = (frames[:, :, 1] - frames[:, :, 0]).repeat(len(scene.images), 1)
    if sides is not None:
        sizes = torch.tensor(sides).expand(len(images), len(places))
    return Shown(ViewPlan(scene, hidden, images, cuts=cuts, sizes=sizes), frames)


def _halves(places: Sequence[int]) -> Tensor:
    """Return frames of half the sides, a quarter apart: three along each place."""
    halves = [(side + 1) // 2 for side in places]
    spans = [
        [(start, start + half) for start in (round(k * (side - half) / 2) for k in range(3))]
        for side, half in zip(places, halves, strict=True)
    ]
    return torch.tensor(list(product(*spans)))


def _checked_layers(layer: object) -> tuple[Layer, ...]:
    if layer is None:
        return ()
    several: list[Any] = list(layer) if isinstance(layer, list | tuple) else [layer]
    wrong = [one for one in several if not isinstance(one, nn.Module | str)]
    if wrong or not several:
        raise ArgumentError(
            f"Expected `layer` to be a module, a layer's name, or a list of these; got "
            f"{describe(wrong[0] if wrong else layer)}."
        )
    return tuple(several)


def _checked_sizes(sizes: object) -> tuple[Size | HalfCrops | None, ...]:
    if sizes is None:
        return (None,)
    if not isinstance(sizes, list) or not sizes:
        raise ArgumentError(
            f"Expected `input_sizes` to be a list of sides, (height, width), None for the "
            f"pictures' own size, or HalfCrops(); got {short_repr(sizes)}."
        )
    return tuple(
        one if one is None or isinstance(one, HalfCrops) else _side_or_size("input_sizes", one)
        for one in sizes
    )


def _side_or_size(name: str, given: Any) -> Size:
    if isinstance(given, tuple | list) and len(given) in (1, 2, 3):
        return tuple(positive_int(name, one) for one in given)
    if isinstance(plain(given), int):
        return (positive_int(name, given),)
    raise ArgumentError(
        f"Expected `{name}` to hold a side or (height, width); got {short_repr(given)}."
    )
