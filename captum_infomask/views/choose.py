# Which view an attribute call means, and whether its options go with it.
from __future__ import annotations

from typing import Any, Literal

from captum_infomask._checks import ArgumentError, one_of, positive_int
from captum_infomask._types import Baselines
from captum_infomask.views.base import View
from captum_infomask.views.crop import Crop
from captum_infomask.views.in_place import Drop, Keep

ViewName = Literal["crop", "keep", "drop"]
Reference = Literal["prior", "blank"]
CropSize = tuple[int, int] | Literal["native"] | None


def choose_view(
    view: object, crop_size: object, reference: object, baselines: Baselines, imputer: object
) -> View:
    """Make the view; options that it would ignore are errors."""
    name = one_of("view", view, ("crop", "keep", "drop"))
    if reference is not None:
        reference = one_of("reference", reference, ("prior", "blank"))
    if name != "crop" and crop_size is not None:
        raise ArgumentError(f"Expected `crop_size` with view='crop' only; got view={name!r}.")
    if name == "drop":
        if reference is not None:
            raise ArgumentError(
                "Expected `reference` with view='crop' or view='keep'; view='drop' is a "
                "difference and needs none."
            )
        return Drop()
    if name == "keep":
        return Keep(reference=str(reference or "blank"))
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
    return Crop(size=_crop_size(crop_size), reference=str(reference or "prior"))


def _crop_size(size: Any) -> tuple[int, int] | str | None:
    if size is None:
        return None
    if isinstance(size, str) and size == "native":
        return size
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ArgumentError(
            f"Expected `crop_size` to be (height, width), 'native' or None; got {size!r}."
        )
    return positive_int("crop_size", size[0]), positive_int("crop_size", size[1])
