# What an attribute call asks for, checked: the forward passes that it takes.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captum_infomask._captum import format_additional_forward_args
from captum_infomask._checks import one_of, positive_int
from captum_infomask._random import OwnGenerators
from captum_infomask._types import AdditionalForwardArgs, Baselines, TensorOrTensors, Tensors
from captum_infomask.engines.base import Call, Engine
from captum_infomask.engines.choose import EngineName, choose_engine
from captum_infomask.engines.features import features_engine
from captum_infomask.engines.passes import Passes
from captum_infomask.engines.tokens.engine import RunningTokens
from captum_infomask.imputers.base import Imputer
from captum_infomask.imputers.choose import choose_imputer
from captum_infomask.regions.base import OVERLAPS, Regions
from captum_infomask.regions.choose import choose_regions
from captum_infomask.views.choose import CropSizes, Reference, ViewName, choose_view, draws_of
from captum_infomask.views.crop import Crop
from captum_infomask.views.features import Features
from captum_infomask.views.plan import Scene


def prepare(
    forward_func: Callable[..., Any],
    tensors: Tensors,
    baselines: Baselines,
    additional_forward_args: AdditionalForwardArgs,
    feature_mask: TensorOrTensors | None,
    *,
    view: ViewName = "crop",
    sliding_window_shapes: tuple[Any, ...] | None = None,
    strides: int | tuple[Any, ...] | None = None,
    regions: Regions | list[Regions] | None = None,
    imputer: Imputer | None = None,
    crop_size: CropSizes = None,
    crop_margin: float = 0.0,
    reference: Reference | None = None,
    overlap: str = "mean",
    engine: EngineName | Engine = "auto",
    n_samples: int | None = None,
    seed: int = 0,
    perturbations_per_eval: int | None = None,
) -> Passes:
    """Check every argument, and describe the forward passes; nothing runs yet."""
    one_of("overlap", overlap, OVERLAPS)
    if perturbations_per_eval is not None:
        perturbations_per_eval = positive_int("perturbations_per_eval", perturbations_per_eval)
    chosen_engine = choose_engine(engine, imputer)
    chosen = choose_view(
        view, crop_size, crop_margin, reference, n_samples, seed, baselines, imputer
    )
    if isinstance(chosen, Features):
        chosen_engine = features_engine(engine)
    made = choose_regions(tensors, feature_mask, sliding_window_shapes, strides, regions)
    if isinstance(chosen, Crop):
        made = chosen.scaled(made)
    stand_ins = choose_imputer(baselines, imputer)
    call = Call(
        forward_func,
        format_additional_forward_args(additional_forward_args) or (),
        perturbations_per_eval,
        OwnGenerators(seed),
    )
    draws = draws_of(stand_ins, chosen, seed)
    scenes = tuple(Scene(tensors, made, draw.prepare(tensors)) for draw in draws)
    chosen.check(scenes[0])
    passes = Passes(chosen_engine.start(call), chosen, scenes, forward_func)
    if isinstance(passes.engine, RunningTokens):
        passes.engine.check(passes.plan, passes.blank)
    return passes
