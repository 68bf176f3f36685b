# Choose the view that an attribute call means.
from __future__ import annotations

from typing import Any, Literal, get_args

from captum_infomask._checks import describe, finite_number, one_of, plain, positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Baselines
from captum_infomask.imputers.imputer_protocol import Imputer, RandomImputer
from captum_infomask.views.chain import Chain
from captum_infomask.views.evidence import Evidence
from captum_infomask.views.region_views import Crop, Drop, Features, Keep
from captum_infomask.views.view_plan import View

ViewName = Literal["crop", "keep", "drop", "chain", "features", "evidence", "relay"]
OF_FEATURES = ("evidence", "relay")
Reference = Literal["prior", "blank"]
CropSize = int | tuple[int, ...] | Literal["native"] | None
CropSizes = CropSize | list[CropSize]

_ONE_DRAW = "Pass one draw of it: imputer.draw(seed, 0)."

_DRAWS = 8  # draws of a random imputer or of crops, if no number is asked for
_ORDERS = 16  # orders of `chain`, if no number is asked for: eight pairs give a standard error


def choose_view(
    view: object,
    crop_size: object,
    crop_margin: object,
    crop_jitter: object,
    reference: object,
    n_samples: object,
    seed: int,
    baselines: Baselines,
    imputer: object,
    layer: object = None,
    input_sizes: object = None,
) -> View:
    """Make the view; refuse options that it would ignore."""
    name = one_of("view", view, get_args(ViewName))
    count = None if n_samples is None else positive_int("n_samples", n_samples)
    if reference is not None:
        reference = one_of("reference", reference, get_args(Reference))
    for option, own, is_given in (
        ("crop_size", ("crop",), crop_size is not None),
        ("crop_margin", ("crop",), crop_margin != 0.0),
        ("crop_jitter", ("crop",), crop_jitter != 0.0),
        ("layer", OF_FEATURES, layer is not None),
        ("input_sizes", OF_FEATURES, input_sizes is not None),
    ):
        if is_given and name not in own:
            words = " or ".join(f"view={each!r}" for each in own)
            raise ArgumentError(f"Expected `{option}` with {words} only; got view={name!r}.")
    if name in ("drop", "chain", *OF_FEATURES) and reference is not None:
        raise ArgumentError(
            f"Expected `reference` with view='crop' or view='keep'; view={name!r} is a "
            f"difference and needs none."
        )
    if name == "drop":
        return Drop(n_samples=count)
    if name == "keep":
        return Keep(reference=str(reference or "blank"), n_samples=count)
    if name == "chain":
        return Chain(_even(count or _ORDERS), seed)
    if name in OF_FEATURES:
        _check_unused(name, n_samples=count)
        is_told = baselines is not None or imputer is not None
        return Evidence.checked(layer, input_sizes, from_blank=is_told, is_relayed=name == "relay")
    if name == "features":
        _check_unused(name, baselines=baselines, imputer=imputer, n_samples=count)
        if reference == "blank":
            raise ArgumentError(
                "Expected `reference` 'prior' for view='features', which imputes nothing; got "
                "'blank'."
            )
        return Features()
    if baselines is not None:
        raise ArgumentError(
            "Expected no `baselines` for view='crop', which shows the region alone. Pass "
            "view='drop' or view='keep' to hide pixels behind `baselines`."
        )
    if imputer is not None and reference != "blank":
        raise ArgumentError(
            "Expected no `imputer` for view='crop', which hides nothing. Pass view='drop' or "
            "view='keep', or reference='blank' to count from the all-imputed picture."
        )
    return Crop(
        sizes=_crop_sizes(crop_size),
        margin=finite_number("crop_margin", crop_margin, least=0),
        reference=str(reference or "prior"),
        n_samples=count,
        jitter=_share_of_side(crop_jitter),
        seed=seed,
    )


def _share_of_side(crop_jitter: object) -> float:
    """Return how far edges may move; further than half of a side, they would pass each other."""
    share = finite_number("crop_jitter", crop_jitter, least=0)
    if share > 0.5:
        raise ArgumentError(
            f"Expected `crop_jitter` of at most 0.5, half of a region's side; got {share:g}."
        )
    return share


def _crop_sizes(sizes: object) -> tuple[tuple[int, ...] | str | None, ...]:
    """Return one size, or a list of them for several scales."""
    if isinstance(sizes, list) and any(not isinstance(plain(size), int) for size in sizes):
        return tuple(map(check_crop_size, sizes))
    return (check_crop_size(sizes),)


def draws_of(imputer: Imputer, view: View, seed: int) -> list[tuple[Imputer, int | None]]:
    """Return the imputer and the number of every draw.

    They are the draws of a random imputer, or of a view that draws with a fixed one. If neither
    draws, it is the imputer alone, without a number.
    """
    count = view.n_samples or _DRAWS
    if not isinstance(imputer, RandomImputer):
        return [(imputer, k) for k in range(count)] if view.needs.draws else [(imputer, None)]
    if view.needs.fixed_imputer:
        raise ArgumentError(
            f"Expected a fixed `imputer` for view={view.name!r}, {view.needs.fixed_imputer}; got "
            f"{type(imputer).__name__}, which draws. {_ONE_DRAW}"
        )
    return [(imputer.draw(seed, index), index) for index in range(count)]


def _check_unused(view: str, **options: object) -> None:
    """Refuse options that a view of features does not use."""
    for option, given in options.items():
        if given is not None:
            raise ArgumentError(
                f"Expected no `{option}` for view={view!r}, which hides no pixel and takes one "
                f"pass; got {describe(given)}."
            )


def _even(n_samples: int) -> int:
    if n_samples % 2:
        raise ArgumentError(
            f"Expected `n_samples` to be even for view='chain', which draws pairs of an order and "
            f"its reverse; got {n_samples}."
        )
    return n_samples


def check_crop_size(size: Any) -> tuple[int, ...] | str | None:
    """Return ``crop_size`` as a tuple of sides, ``native`` or None.

    The view compares the number of sides with the inputs: (height, width) for images.
    """
    if size is None or (isinstance(size, str) and size == "native"):
        return size
    side = plain(size)
    if isinstance(side, int) and not isinstance(side, bool):
        return (positive_int("crop_size", side),)
    if not isinstance(size, tuple | list) or not size:
        raise ArgumentError(
            f"Expected `crop_size` to be (height, width), 'native' or None; got {short_repr(size)}."
        )
    return tuple(positive_int("crop_size", one) for one in size)
