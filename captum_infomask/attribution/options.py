# The keyword arguments of an attribute call, once for type checkers and once with their defaults.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.sharpening import Sharpen
from captum_infomask.scores.contrast import Contrast
from captum_infomask.views.choose_view import CropSizes, Reference, ViewName
from captum_infomask.views.evidence import InputSizes, Layers


class ScoreOptions(TypedDict, total=False):
    """What :meth:`InfoMask.attribute` describes, for the methods that pass it on."""

    view: ViewName | None
    contrast: Contrast
    sliding_window_shapes: tuple[Any, ...] | None
    strides: int | tuple[Any, ...] | None
    regions: Regions | list[Regions] | None
    imputer: Imputer | None
    crop_size: CropSizes
    crop_margin: float
    reference: Reference | None
    overlap: str
    sharpen: Sharpen | None
    engine: EngineName | Engine
    n_samples: int | None
    seed: int
    perturbations_per_eval: int | None
    show_progress: bool
    args_per_example: bool | Sequence[bool] | None
    layer: Layers
    input_sizes: InputSizes


@dataclass(frozen=True, eq=False)
class Options:
    """The same, each with what it is where it is not given."""

    view: ViewName | None = None
    contrast: Contrast = None
    sliding_window_shapes: tuple[Any, ...] | None = None
    strides: int | tuple[Any, ...] | None = None
    regions: Regions | list[Regions] | None = None
    imputer: Imputer | None = None
    crop_size: CropSizes = None
    crop_margin: float = 0.0
    reference: Reference | None = None
    overlap: str = "mean"
    sharpen: Sharpen | None = None
    engine: EngineName | Engine = "auto"
    n_samples: int | None = None
    seed: int = 0
    perturbations_per_eval: int | None = None
    show_progress: bool = False
    args_per_example: bool | Sequence[bool] | None = None
    layer: Layers = None
    input_sizes: InputSizes = None

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> Options:
        """Those of some arguments that are options."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in names})

    def says(self, *names: str) -> bool:
        """Whether one of these options is not what it is by default."""
        usual = {field.name: field.default for field in fields(self)}
        return any(not _is_same(getattr(self, name), usual[name]) for name in names)


def _is_same(given: Any, usual: Any) -> bool:
    return given is usual or (isinstance(given, str | float) and given == usual)
