# Chooses the regions of an attribute call.
from __future__ import annotations

from types import FunctionType
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape, TensorOrTensors, Tensors
from captum_infomask.regions.label_regions import from_feature_mask
from captum_infomask.regions.per_input import PerInput
from captum_infomask.regions.region_protocol import Regions, example_shapes
from captum_infomask.regions.scales import Scales
from captum_infomask.regions.superpixels import superpixels
from captum_infomask.regions.windows import default_windows, sliding_windows

OfInput: TypeAlias = Regions | Literal["superpixels"] | None
AnyRegions: TypeAlias = OfInput | list[Regions] | tuple[OfInput, ...]


def choose_regions(
    inputs: Tensors,
    feature_mask: TensorOrTensors | None,
    sliding_window_shapes: Any,
    strides: Any,
    regions: object,
) -> Regions | None:
    """Make the regions from the one argument that was given, if any; at most one may be given."""
    given = {
        "feature_mask": feature_mask,
        "sliding_window_shapes": sliding_window_shapes,
        "regions": regions,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ArgumentError(
            f"Expected at most one of `feature_mask`, `sliding_window_shapes` and `regions`; got "
            f"{' and '.join(names)}."
        )
    if strides is not None and sliding_window_shapes is None:
        raise ArgumentError(
            "Expected `sliding_window_shapes` along with `strides`; got `strides` alone."
        )
    if feature_mask is not None:
        return from_feature_mask(inputs, feature_mask)
    if sliding_window_shapes is not None:
        return sliding_windows(inputs, sliding_window_shapes, strides)
    return None if regions is None else _made(regions, inputs)


def _made(regions: object, inputs: Tensors) -> Regions:
    """Return the regions that ``regions`` stands for."""
    if isinstance(regions, str) and regions == "superpixels":
        if len(inputs) != 1:
            raise ArgumentError(
                f"Expected one input for regions='superpixels'; got {len(inputs)} inputs. A tuple "
                f"has an entry for each, such as ('superpixels', None), where None stands for the "
                f"default regions."
            )
        return superpixels(inputs[0])
    shapes = example_shapes(inputs)
    if isinstance(regions, tuple) and len(inputs) > 1 and not _are_scales(regions, shapes):
        return _per_input(regions, inputs)
    if isinstance(regions, list | tuple) and regions:
        parts = tuple(checked_regions("regions", part, inputs) for part in regions)
        return parts[0] if len(parts) == 1 else Scales(parts)
    return checked_regions("regions", regions, inputs)


def _are_scales(regions: tuple[object, ...], shapes: tuple[Shape, ...]) -> bool:
    """Whether all entries are regions of all inputs."""
    return bool(regions) and all(
        isinstance(part, Regions) and not isinstance(part, type) and part.shapes == shapes
        for part in regions
    )


def _per_input(regions: tuple[Any, ...], inputs: Tensors) -> PerInput:
    """Make the regions of each input from its own entry; None takes the default ones."""
    if len(regions) != len(inputs):
        raise ArgumentError(
            f"Expected `regions` to be a tuple with an entry for each of the {len(inputs)} inputs, "
            f"such as ('superpixels', None); got {describe(regions)}."
        )
    pairs = zip(inputs, regions, strict=True)
    return PerInput(
        tuple(default_windows(x) if own is None else _made(own, (x,)) for x, own in pairs)
    )


def _meant(given: object) -> str:
    """How to make regions from something else."""
    if isinstance(given, Tensor | np.ndarray):
        return " from_label_map(inputs, labels) or from_masks(inputs, masks) makes them."
    return f" Call it: {given.__name__}(inputs, ...)." if isinstance(given, FunctionType) else ""


def checked_regions(argument: str, regions: object, inputs: Tensors) -> Regions:
    """Return the regions; refuse regions that were made for other inputs."""
    if not isinstance(regions, Regions) or isinstance(regions, type):
        raise ArgumentError(
            f"Expected `{argument}` to be Regions, as grid(), sliding_windows() or superpixels() "
            f"make them, or a list of them for several scales; got {describe(regions)}."
            f"{_meant(regions)}"
        )
    if regions.shapes != example_shapes(inputs):
        raise ArgumentError(
            f"Expected `{argument}` made for examples of shape {example_shapes(inputs)}; got "
            f"regions for {regions.shapes}."
        )
    regions.check_batch(len(inputs[0]))
    return regions
