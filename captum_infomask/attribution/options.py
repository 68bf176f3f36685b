# The keyword arguments of an attribute call: once for type checkers, and once with their defaults.
# The names that users of other methods write in their place are here too.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.imputers.choose_imputer import ImputerName
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.regions.choose_regions import AnyRegions
from captum_infomask.regions.sharpening import Sharpen
from captum_infomask.scores.contrast import Contrast
from captum_infomask.scores.values import Values
from captum_infomask.views.choose_view import CropSizes, Reference, ViewName
from captum_infomask.views.evidence import InputSizes, Layers


class ScoreOptions(TypedDict, total=False):
    """The options that :meth:`InfoMask.attribute` describes, for the methods that pass them on."""

    view: ViewName | None
    contrast: Contrast
    value: Values
    sliding_window_shapes: tuple[Any, ...] | None
    strides: int | tuple[Any, ...] | None
    regions: AnyRegions
    imputer: Imputer | ImputerName | None
    crop_size: CropSizes
    crop_margin: float
    crop_jitter: float
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
    """The same options, each with its default."""

    view: ViewName | None = None
    contrast: Contrast = None
    value: Values = None
    sliding_window_shapes: tuple[Any, ...] | None = None
    strides: int | tuple[Any, ...] | None = None
    regions: AnyRegions = None
    imputer: Imputer | ImputerName | None = None
    crop_size: CropSizes = None
    crop_margin: float = 0.0
    crop_jitter: float = 0.0
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
        """Take those of the given arguments that are options."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in names})

    def says(self, *names: str) -> bool:
        """Whether one of these options differs from its default."""
        usual = {field.name: field.default for field in fields(self)}
        return any(not _is_same(getattr(self, name), usual[name]) for name in names)


def _is_same(given: Any, usual: Any) -> bool:
    return given is usual or (isinstance(given, str | float) and given == usual)


# The names that users of other methods write as arguments, and the advice on what to write here.
_NETWORK = " The network is `forward_func`, the first argument."
_LAYER = " layer= names what view='evidence' or 'relay' reads; other views read the whole network."
_GRADIENTS = " There is nothing to set: view='evidence' takes as many points as its sum needs."
_SMOOTH = " sharpen='superpixels' draws maps along edges; input_sizes= averages over sizes."
_PASSES = " perturbations_per_eval= bounds the views of one forward pass."
_WINDOWS = " Did you mean 'sliding_window_shapes'?"
HABITS = {
    **dict.fromkeys(("model", "network", "net", "module"), _NETWORK),
    **dict.fromkeys(("layers", "target_layers", "attribute_to_layer_input"), _LAYER),
    **dict.fromkeys(("n_steps", "method", "return_convergence_delta", "abs"), _GRADIENTS),
    **dict.fromkeys(("internal_batch_size", "batch_size", "chunk_size"), _PASSES),
    **dict.fromkeys(("window", "windows", "window_size", "patch_size"), _WINDOWS),
    "relu_attributions": " attributions.clamp_min(0) keeps what speaks for the target.",
    **dict.fromkeys(("aug_smooth", "eigen_smooth"), _SMOOTH),
    "device": " InfoMask runs where the network and its inputs are: network.to(device).",
    **dict.fromkeys(("class_names", "labels"), " Did you mean InfoMask(model, categories=names)?"),
}
_RULE = " Did you mean rule=MaxFraction(0.2), TopFraction(0.1) or AtLeast(bits=1.0)?"
HABITS_OF_RULES = dict.fromkeys(
    ("fraction", "threshold", "keep", "percentile", "quantile", "bits"), _RULE
)
HABITS_OF_CLASSES = dict.fromkeys(
    ("target", "targets"), " Pass classes=, a list such as [3]; None takes every class."
)
# The same for names of methods and attributes.
_CALL = "attribute(inputs, target=3) gives a map; score_regions(inputs, target=3) gives an InfoMap."
HABITS_OF_NAMES = {
    **dict.fromkeys(("shap_values", "explain", "generate", "interpret", "forward"), _CALL),
    **dict.fromkeys(
        ("visualize", "plot", "show"), "captum_infomask.show(attributions, picture) draws a map."
    ),
}
