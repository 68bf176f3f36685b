# Check what an attribute call asks for, and describe the forward passes that it takes.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from captum_infomask._captum import format_additional_forward_args
from captum_infomask._checks import (
    are_channels_last,
    are_frames_first,
    check_initialised,
    describe,
    one_of,
    plain,
    positive_int,
    random_seed,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask._types import AdditionalForwardArgs, Baselines, Shape, TensorOrTensors, Tensors
from captum_infomask.attribution.options import Options
from captum_infomask.engines.choose_engine import choose_engine, passes_of
from captum_infomask.engines.engine_protocol import Call, Passes
from captum_infomask.engines.feature_maps import about_a_place
from captum_infomask.imputers.choose_imputer import as_imputer, choose_imputer
from captum_infomask.regions.choose_regions import choose_regions
from captum_infomask.regions.region_protocol import OVERLAPS
from captum_infomask.regions.sharpening import check_sharpen, label_maps
from captum_infomask.views.choose_view import choose_view, draws_of
from captum_infomask.views.view_plan import Scene, View


def prepare(
    forward_func: Callable[..., Any],
    tensors: Tensors,
    baselines: Baselines,
    additional_forward_args: AdditionalForwardArgs,
    feature_mask: TensorOrTensors | None,
    options: Options,
    *,
    is_default: bool = False,
) -> Passes:
    """Check every argument, and describe the forward passes; nothing runs yet.

    If ``relay`` is taken by default and the pictures have no regions, it is sharpened.
    """
    check_initialised("forward_func", forward_func)
    one_of("overlap", options.overlap, OVERLAPS)
    check_sharpen(options.sharpen, tensors)
    seed = random_seed(options.seed)
    per_eval = options.perturbations_per_eval
    if per_eval is not None:
        per_eval = positive_int("perturbations_per_eval", per_eval)
    options = replace(options, imputer=as_imputer(options.imputer))
    chosen_engine = choose_engine(options.engine, options.imputer)
    chosen = choose_view(
        options.view,
        options.crop_size,
        options.crop_margin,
        options.crop_jitter,
        options.reference,
        options.n_samples,
        seed,
        baselines,
        options.imputer,
        options.layer,
        options.input_sizes,
    )
    _check_needs(chosen, options)
    _check_stays(forward_func, options)
    asked = (feature_mask, options.sliding_window_shapes, options.regions)
    has_regions = any(one is not None for one in asked)
    if options.view == "crop" or not has_regions:
        _doubt_channels(tuple(tensors[0].shape))
    given = choose_regions(
        tensors, feature_mask, options.sliding_window_shapes, options.strides, options.regions
    )
    made = chosen.regions_of(tensors, given)
    stand_ins = choose_imputer(baselines, options.imputer)
    further = format_additional_forward_args(additional_forward_args) or ()
    call = Call(
        forward_func,
        further,
        per_eval,
        seed,
        LibraryDraws(seed, OwnGenerators(seed)),
        per_example=_checked_per_example(further, options.args_per_example, len(tensors[0])),
        is_guess=options.args_per_example is None,
    )
    draws = draws_of(stand_ins, chosen, seed)
    scenes = tuple(
        Scene(tensors, made, imputer.prepare(tensors), has_regions, draw) for imputer, draw in draws
    )
    chosen.check(scenes[0])
    sharpen = options.sharpen
    if is_default and options.view == "relay" and not has_regions and sharpen is None:
        is_picture = tensors[0].dim() == 4 and bool(tensors[0].isfinite().all())
        sharpen = "superpixels" if is_picture else None
    superpixels = label_maps(sharpen, tensors, seed)
    return passes_of(chosen, chosen_engine, call, scenes, superpixels)


def _doubt_channels(shape: Shape) -> None:
    """Warn if the channels seem to be in another place than in dimension 1."""
    if are_channels_last(shape):
        warn(
            f"The inputs {shape} look like pictures with channels last, and are read as "
            f"(N, C, H, W): their rows count as channels. inputs.permute(0, 3, 1, 2) moves the "
            f"channels; the network for them is lambda x: model(x.permute(0, 2, 3, 1))."
        )
    if are_frames_first(shape):
        warn(
            f"The inputs {shape} look like videos with frames first, and are read as "
            f"(N, C, T, H, W): their frames count as channels. inputs.transpose(1, 2) moves the "
            f"channels; the network for them is lambda x: model(x.transpose(1, 2))."
        )


def _check_needs(view: View, options: Options) -> None:
    """Refuse settings that the view does not allow: another engine, or another overlap."""
    if options.overlap not in view.needs.overlaps:
        allowed = " or ".join(map(repr, view.needs.overlaps))
        raise ArgumentError(
            f"Expected `overlap` {allowed} for view={view.name!r}, whose values add up; got "
            f"{options.overlap!r}."
        )
    if view.needs.engine is not None and options.engine != "auto":
        raise ArgumentError(
            f"Expected `engine` 'auto' for view={view.name!r}, which has an engine of its own; "
            f"got {describe(options.engine)}."
        )


def _check_stays(forward_func: object, options: Options) -> None:
    """Refuse to move or cut pictures if the network's answer is about a place of them."""
    moves = options.view == "crop" or options.input_sizes is not None
    if moves and about_a_place(forward_func):
        given = "view='crop'" if options.view == "crop" else "`input_sizes`"
        raise ArgumentError(
            f"Expected a view that leaves every part of the picture in its place, for an answer "
            f"about one place; got {given}. Pass view='drop', 'keep', 'chain', 'evidence' or "
            f"'relay', at the picture's own size."
        )


def _checked_per_example(further: tuple[Any, ...], given: object, n: int) -> tuple[bool, ...]:
    """Whether each further argument has one entry per example; if None, its length decides."""
    fits = tuple(isinstance(arg, Tensor) and arg.dim() > 0 and len(arg) == n for arg in further)
    if given is None:
        return fits
    tensors = tuple(isinstance(arg, Tensor) for arg in further)
    whole = plain(given)
    asked = tuple(whole and one for one in tensors) if isinstance(whole, bool) else given
    if not isinstance(asked, tuple | list) or not all(
        isinstance(plain(one), bool) for one in asked
    ):
        raise ArgumentError(
            f"Expected `args_per_example` to be True, False or a list of these, one per further "
            f"argument; got {describe(given)}."
        )
    if len(asked) != len(further):
        raise ArgumentError(
            f"Expected `args_per_example` to hold {len(further)} entries, one for each of the "
            f"`additional_forward_args`; got {len(asked)}."
        )
    for place, (arg, one, fit) in enumerate(zip(further, asked, fits, strict=True)):
        if plain(one) and not fit:
            raise ArgumentError(
                f"Expected `additional_forward_args`[{place}] to be a tensor with {n} entries, one "
                f"per example, as `args_per_example` says; got {describe(arg)}."
            )
    return tuple(bool(plain(one)) for one in asked)


def check_order(
    inputs: Tensors, baselines: object, target: object, view: object, *, by: str = "target"
) -> None:
    """Refuse positional arguments in the order of another method.

    The second argument is `baselines`, as in FeatureAblation. If it is a class, or Occlusion's
    windows, the error says so. A number may also be what hides pixels, but hardly if no view is
    named, and not if nothing is hidden.
    """
    dims = inputs[0].dim() - 1
    if _is_window(baselines, dims) and not (isinstance(baselines, tuple) and len(inputs) == dims):
        raise ArgumentError(
            f"Expected `baselines` second, as in FeatureAblation; got {describe(baselines)}, which "
            f"looks like the windows of Occlusion's order. Pass sliding_window_shapes=, strides= "
            f"and target= by name."
        )
    is_zero = _is_whole(baselines) and plain(baselines) == 0  # the most usual fill of hidden pixels
    hides_nothing = view in ("crop", "features") or (view is None and not is_zero)
    if hides_nothing and target is None and _is_class(baselines, len(inputs[0])):
        words = _words(baselines)
        meant = f"{by}={words}" if by == "target" else f"{by}=[{words}]"
        third = " and `target` third" if by == "target" else ""
        raise ArgumentError(
            f"Expected `baselines` second, as in FeatureAblation,{third}; got "
            f"{describe(baselines)} second and no {by}. Pass {meant} by name."
        )


def check_place(table: Tensor | None, view: object) -> None:
    """Refuse a target that is a place of the picture if every view shows another part of it."""
    if view == "crop" and table is not None and table.shape[1] > 2:
        raise ArgumentError(
            f"Expected `target` to be a class for view='crop', in whose pictures a place is "
            f"another one each time; got {tuple(table[0].tolist())}. Pass view='drop', 'keep' or "
            f"'chain', which leave every place where it is."
        )


def _is_window(given: object, dims: int) -> bool:
    """Whether this is a window of one example, or a tuple of one."""
    if isinstance(given, tuple) and len(given) == 1 and isinstance(given[0], tuple):
        given = given[0]
    return isinstance(given, tuple) and len(given) == dims > 1 and all(map(_is_whole, given))


def _is_class(given: object, n: int) -> bool:
    """Whether this can be read as one class, or as one per example."""
    if isinstance(given, Tensor):
        return given.dim() <= 1 and given.numel() in (1, n) and not given.is_floating_point()
    if isinstance(given, Sequence) and not isinstance(given, str | tuple):
        return len(given) == n and all(map(_is_whole, given))
    return _is_whole(given)


def _is_whole(given: object) -> bool:
    number = plain(given)
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _words(given: object) -> str:
    number = plain(given)
    return repr(number) if isinstance(number, int) else "…"
