# Which view an attribute call means, and whether its options go with it.
from __future__ import annotations

from typing import Any, Literal, get_args

from captum_infomask._checks import ArgumentError, one_of, positive_int, random_seed
from captum_infomask._types import Baselines
from captum_infomask.views.base import View
from captum_infomask.views.chain import Chain
from captum_infomask.views.crop import Crop
from captum_infomask.views.in_place import Drop, Keep

ViewName = Literal["crop", "keep", "drop", "chain"]
Reference = Literal["prior", "blank"]
CropSize = tuple[int, int] | Literal["native"] | None


_ORDERS = 16  # of `chain`, where none are asked for: eight pairs give a standard error


def choose_view(
    view: object,
    crop_size: object,
    reference: object,
    n_samples: object,
    seed: object,
    baselines: Baselines,
    imputer: object,
) -> View:
    """Make the view; options that it would ignore are errors."""
    name = one_of("view", view, get_args(ViewName))
    checked_seed = random_seed(seed)
    count = None if n_samples is None else positive_int("n_samples", n_samples)
    if reference is not None:
        reference = one_of("reference", reference, get_args(Reference))
    if name != "crop" and crop_size is not None:
        raise ArgumentError(f"Expected `crop_size` with view='crop' only; got view={name!r}.")
    if name in ("drop", "chain") and reference is not None:
        raise ArgumentError(
            f"Expected `reference` with view='crop' or view='keep'; view={name!r} is a "
            f"difference and needs none."
        )
    if name == "drop":
        return Drop(n_samples=count)
    if name == "keep":
        return Keep(reference=str(reference or "blank"), n_samples=count)
    if name == "chain":
        return Chain(_even(count or _ORDERS), checked_seed)
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
        size=check_crop_size(crop_size), reference=str(reference or "prior"), n_samples=count
    )


def _even(n_samples: int) -> int:
    if n_samples % 2:
        raise ArgumentError(
            f"Expected `n_samples` to be even for view='chain', which draws pairs of an order and "
            f"its reverse; got {n_samples}."
        )
    return n_samples


def check_crop_size(size: Any) -> tuple[int, int] | str | None:
    """Return ``crop_size`` as (height, width), ``native`` or None."""
    if size is None:
        return None
    if isinstance(size, str) and size == "native":
        return size
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ArgumentError(
            f"Expected `crop_size` to be (height, width), 'native' or None; got {size!r}."
        )
    return positive_int("crop_size", size[0]), positive_int("crop_size", size[1])
