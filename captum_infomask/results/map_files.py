# An InfoMap's file: what must be in it, held against what is.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask.regions.region_protocol import OVERLAPS, Regions
from captum_infomask.scores.information import NATS_PER_UNIT

_VIEWS = ("crop", "keep", "drop", "chain", "features", "evidence", "relay")
_NEEDED = ("unit", "view", "overlap", "engine")
_COUNTS = ("n_samples", "views")  # files of the first versions lack some


def check_settings(settings: Mapping[str, Any], inputs: int) -> None:
    """Refuse settings that no InfoMap of so many inputs has.

    Raises:
        ValueError: A setting is missing, unknown or not valid; its words say which.
    """
    missing = [name for name in _NEEDED if name not in settings]
    unknown = set(settings) - {*_NEEDED, "is_tuple", *_COUNTS}
    if missing or unknown:
        names = f"lack {missing[0]!r}" if missing else f"hold {short_repr(min(unknown))}"
        raise ValueError(f"its settings {names}")
    known = {"unit": tuple(NATS_PER_UNIT), "view": _VIEWS, "overlap": OVERLAPS}
    wrong = [name for name, valid in known.items() if settings[name] not in valid]
    wrong += [name for name in ("engine",) if not isinstance(settings[name], str)]
    is_tuple = settings.get("is_tuple", False)
    wrong += ["is_tuple"] * (not isinstance(is_tuple, bool) or (inputs > 1 and not is_tuple))
    for name in _COUNTS:
        value = settings.get(name)
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        wrong += [name] * (value is not None and not is_count)
    if wrong:
        raise ValueError(f"its {wrong[0]} is {short_repr(settings.get(wrong[0]))}")


def check_numbers(
    tensors: Mapping[str, Tensor | None],
    per_region: tuple[str, ...],
    per_image: tuple[str, ...],
    regions: Regions,
) -> None:
    """Refuse numbers that are not those of so many images and regions.

    Args:
        tensors: ``scores``, (N, R) or of K classes (N, R, K); ``total``, (N,) or (N, K);
            ``contrast``, (N, 2) or (N, 2, K), where there is one; others.
        per_region: The names of those that are shaped like ``scores``.
        per_image: The names of those that are shaped like ``total``.
        regions: The R regions.

    Raises:
        ValueError: A tensor is missing, no floating-point one, or of another shape.
    """
    scores = tensors["scores"]
    if scores is None or scores.dim() not in (2, 3) or scores.shape[1] != len(regions):
        raise ValueError(f"it has scores {_shape(scores)} of {len(regions)} regions")
    if not scores.numel():
        raise ValueError("it has no images")
    wanted = dict.fromkeys(per_region, scores.shape)
    wanted |= dict.fromkeys(per_image, scores.shape[:1] + scores.shape[2:])
    for name, shape in wanted.items():
        found = tensors[name]
        if found is None and name != "total":
            continue
        if found is None or found.shape != shape or not found.is_floating_point():
            given = "missing" if found is None else describe(found)
            raise ValueError(f"{name}, of shape {tuple(shape)}, is {given}")
    pairs, of_pairs = tensors["contrast"], (len(scores), 2, *scores.shape[2:])
    if pairs is not None and (pairs.shape != of_pairs or pairs.dtype != torch.long):
        raise ValueError(f"contrast, of shape {of_pairs}, is {describe(pairs)}")
    regions.check_batch(len(scores))


def check_superpixels(labels: Tensor | None, n: int, regions: Regions) -> None:
    """Refuse superpixels that are not those of n such pictures.

    Raises:
        ValueError: They are of another type or shape, or numbers that no superpixel has.
    """
    if labels is None:
        return
    (*others, shape) = regions.shapes
    if (
        others
        or len(shape) != 3
        or labels.dtype != torch.int32
        or labels.dim() != 4
        or labels.shape[2:] != shape[1:]
        or len(labels) not in (1, n)
        or not labels.shape[1]
    ):
        raise ValueError(f"it has superpixels {describe(labels)} for inputs of {regions.shapes}")
    if int(labels.min()) < 0 or int(labels.max()) >= labels[:, 0].numel():
        raise ValueError("its superpixels have numbers that none has")


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(tuple(tensor.shape))
