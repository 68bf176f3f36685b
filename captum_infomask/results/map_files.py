# An InfoMap as tensors and settings, for files; what is read must be that of an InfoMap.
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._files import part
from captum_infomask._types import Shape
from captum_infomask.regions.box_regions import BoxRegions
from captum_infomask.regions.label_regions import LabelRegions
from captum_infomask.regions.map_cells import MapCells
from captum_infomask.regions.mask_regions import MaskRegions
from captum_infomask.regions.per_input import PerInput
from captum_infomask.regions.region_protocol import OVERLAPS, Regions
from captum_infomask.regions.scales import Scales
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.scores.value_heads import as_plain, from_plain

FORMAT = "captum_infomask.InfoMap 1"
PER_REGION = ("scores", "blank", "lower", "upper", "spread", "standard_errors")
PER_IMAGE = ("total", "explained", "residual", "probability")
TENSORS = (*PER_REGION, *PER_IMAGE, "contrast", "superpixels", "targets", "value")
_SETTINGS = ("unit", "view", "overlap", "engine", "is_tuple", "n_samples", "views")

# Elements of an example. A few boxes say nothing about the size of their image, so the size of a
# file is no bound. This bound is four times Pillow's bound for pictures.
_MOST = 1 << 30
_VIEWS = ("crop", "keep", "drop", "chain", "features", "evidence", "relay")
_NEEDED = ("unit", "view", "overlap", "engine")
_COUNTS = ("n_samples", "views")  # files of the first versions lack some


class Stored(Protocol):
    """An InfoMap, of which its regions are read here; all other fields by their names."""

    @property
    def regions(self) -> Regions:
        """The regions."""
        ...

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The targets' names."""
        ...

    @property
    def score(self) -> Score | None:
        """How outputs were read."""
        ...

    @property
    def value(self) -> Tensor | None:
        """The values that the information is about."""
        ...

    @property
    def is_prediction(self) -> bool:
        """Whether they are the network's own."""
        ...


def state_of(infomap: Stored) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an InfoMap's tensors and settings."""
    tensors = {name: own for name in TENSORS if (own := getattr(infomap, name)) is not None}
    tensors |= {f"regions.{name}": own for name, own in infomap.regions.state().items()}
    settings = {name: getattr(infomap, name) for name in _SETTINGS}
    if infomap.labels is not None:
        settings["labels"] = list(infomap.labels)
    if infomap.score is not None:
        settings["score"] = as_plain(infomap.score.named())
    if infomap.value is not None:
        settings["is_prediction"] = infomap.is_prediction
    return tensors, settings


def fields_of(tensors: dict[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an InfoMap from its ``state_of``.

    Raises:
        ValueError: The tensors and settings are those of no InfoMap; the message says why.
    """
    regions = restore(part(tensors, "regions."))
    found = {name: tensors.get(name) for name in TENSORS}
    check_settings(settings, len(regions.shapes))
    scores = check_numbers(found, PER_REGION, PER_IMAGE, regions)
    check_superpixels(found["superpixels"], len(scores), regions)
    labels = _checked_labels(settings.get("labels"), found["targets"], len(scores))
    _check_values(found["value"], len(scores))
    read = {"labels": labels, "score": _score_of(settings)}
    return {"regions": regions, **found, **settings, **read}


def restore(state: dict[str, Tensor]) -> Regions:
    """Make the regions again from their ``state``.

    Raises:
        ValueError: The tensors are not such a state; the message says why.
    """
    if any(name.startswith("scale.") for name in state):
        parts = tuple(map(_of_one_scale, _by_part(state, "scales")))
        if len({part.shapes for part in parts}) > 1:
            raise ValueError("its scales are of inputs of other shapes")
        return Scales(parts)
    return _of_one_scale(state)


def _of_one_scale(state: dict[str, Tensor]) -> Regions:
    if not any(name.startswith("input.") for name in state):
        return _of_one_kind(state)
    parts = tuple(map(_of_one_kind, _by_part(state, "inputs")))
    if any(len(part.shapes) > 1 for part in parts):
        raise ValueError("an input's regions are of several inputs")
    return PerInput(parts)


def _of_one_kind(state: dict[str, Tensor]) -> Regions:
    count = sum(name.startswith("shape.") for name in state)
    shapes = tuple(_shape(state, k) for k in range(count))
    if not shapes:
        raise ValueError("it says nothing of the inputs' shapes")
    made: Regions
    if "names" in state:
        names = _tensor(state, "names", torch.long, 1)
        labels = tuple(_labels(state, k, shape, len(names)) for k, shape in enumerate(shapes))
        if len({len(own) for own in labels} - {1}) > 1:
            raise ValueError("its labels are of other numbers of images")
        made = LabelRegions(shapes, labels, names)
    elif "pixels" in state:
        pixels = _tensor(state, "pixels", torch.bool, 4)
        if count != 1 or len(shapes[0]) != 3 or pixels.shape[2:] != shapes[0][1:]:
            raise ValueError(f"it has masks {tuple(pixels.shape)} for inputs of {shapes}")
        made = MaskRegions(shapes, pixels)
    elif "frames" in state:
        made = _cells(state, shapes)
    else:
        made = BoxRegions(shapes, tuple(_boxes(state, k, s) for k, s in enumerate(shapes)))
    if not len(made):
        raise ValueError("it has no regions")
    unknown = set(state) - set(made.state())
    if unknown:
        raise ValueError(f"its regions hold {min(unknown)!r}")
    return made


def _shape(state: dict[str, Tensor], k: int) -> Shape:
    """Return the shape of one example of an input."""
    sizes: list[int] = _tensor(state, f"shape.{k}", torch.long, 1).tolist()
    if min(sizes, default=1) < 1 or math.prod(sizes) > _MOST:
        raise ValueError(f"an input is of shape {tuple(sizes[:8])}")
    return tuple(sizes)


def _labels(state: dict[str, Tensor], k: int, shape: Shape, count: int) -> Tensor:
    """Return a label map, broadcastable to an input, whose regions all exist."""
    labels = _tensor(state, f"labels.{k}", torch.long, 1 + len(shape))
    fits = all(own in (1, size) for own, size in zip(labels.shape[1:], shape, strict=True))
    if not fits or not labels.numel():
        raise ValueError(f"labels of {tuple(labels.shape)} are for an input of {shape}")
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise ValueError(f"labels go beyond {count} regions")
    return labels


def _boxes(state: dict[str, Tensor], k: int, shape: Shape) -> Tensor:
    """Return boxes that lie inside an input."""
    boxes = _tensor(state, f"boxes.{k}", torch.long, 3)
    if boxes.shape[1:] != (len(shape), 2):
        raise ValueError(f"boxes {tuple(boxes.shape)} are for an input of {shape}")
    start, stop = boxes.unbind(2)
    if bool((start < 0).any() | (start >= stop).any() | (stop > torch.tensor(shape)).any()):
        raise ValueError(f"a box leaves its input of {shape}")
    return boxes


def _cells(state: dict[str, Tensor], shapes: tuple[Shape, ...]) -> MapCells:
    """Return the cells of a map in frames inside an input."""
    frames = _tensor(state, "frames", torch.long, 3)
    grid: tuple[int, ...] = tuple(_tensor(state, "grid", torch.long, 1).tolist())
    places = torch.tensor(shapes[0][1:])
    if len(shapes) > 1 or frames.shape[1:] != (len(places), 2) or len(grid) != len(places):
        raise ValueError(f"it has cells {grid} in frames {tuple(frames.shape)} of {shapes}")
    start, stop = frames.unbind(2)
    if bool((start < 0).any() | (start >= stop).any() | (stop > places).any()):
        raise ValueError(f"a frame leaves its input of {shapes[0]}")
    if min(grid, default=1) < 1 or len(frames) * math.prod(grid) > _MOST:
        raise ValueError(f"it has {grid} cells")
    return MapCells(shapes, grid, frames)


def _tensor(state: dict[str, Tensor], name: str, dtype: torch.dtype, dims: int) -> Tensor:
    found = state.get(name)
    if found is None or found.dtype != dtype or found.dim() != dims:
        given = "missing" if found is None else f"{found.dtype} {tuple(found.shape)}"
        raise ValueError(f"regions.{name}, {dtype} of {dims} dimensions, is {given}")
    return found


def _by_part(state: dict[str, Tensor], kind: str) -> list[dict[str, Tensor]]:
    """Return the states of the scales, or of the inputs, in order."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        _, part, own = [*name.split(".", 2), "", ""][:3]
        parts.setdefault(part, {})[own] = tensor
    if set(parts) != set(map(str, range(len(parts)))):
        raise ValueError(f"its {kind} are numbered {', '.join(sorted(parts))[:80]}")
    return [parts[str(part)] for part in range(len(parts))]


def check_settings(settings: Mapping[str, Any], inputs: int) -> None:
    """Refuse settings that no InfoMap with this number of inputs has.

    Raises:
        ValueError: A setting is missing, unknown or not valid; the message says which.
    """
    missing = [name for name in _NEEDED if name not in settings]
    unknown = set(settings) - {*_SETTINGS, "labels", "score", "is_prediction"}
    if missing or unknown:
        names = f"lack {missing[0]!r}" if missing else f"hold {short_repr(min(unknown))}"
        raise ValueError(f"its settings {names}")
    known = {"unit": tuple(NATS_PER_UNIT), "view": _VIEWS, "overlap": OVERLAPS}
    wrong = [name for name, valid in known.items() if settings[name] not in valid]
    wrong += [name for name in ("engine",) if not isinstance(settings[name], str)]
    is_tuple = settings.get("is_tuple", False)
    wrong += ["is_tuple"] * (not isinstance(is_tuple, bool) or (inputs > 1 and not is_tuple))
    is_known = isinstance(settings.get("is_prediction", False), bool)
    wrong += ["is_prediction"] * (not is_known)
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
) -> Tensor:
    """Return the scores; refuse numbers that do not fit the number of images and regions.

    Args:
        tensors: ``scores``, (N, R) or for K classes (N, R, K); ``total``, (N,) or (N, K);
            ``contrast``, (N, 2) or (N, 2, K), if there is one; others.
        per_region: The names of the tensors that are shaped like ``scores``.
        per_image: The names of the tensors that are shaped like ``total``.
        regions: The R regions.

    Raises:
        ValueError: A tensor is missing, is not floating-point, or has another shape.
    """
    scores = tensors["scores"]
    if scores is None or scores.dim() not in (2, 3) or scores.shape[1] != len(regions):
        raise ValueError(f"it has scores {_shape_in_words(scores)} of {len(regions)} regions")
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
    return scores


def _checked_labels(labels: object, targets: Tensor | None, n: int) -> tuple[str, ...] | None:
    """Return the names of n targets; refuse targets and names that do not fit."""
    if targets is not None and (targets.shape != (n,) or targets.dtype != torch.long):
        raise ValueError(f"targets, of shape {(n,)}, is {describe(targets)}")
    if labels is None:
        return None
    fits = targets is not None and isinstance(labels, list) and len(labels) == n
    if not fits or not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
        raise ValueError(f"its labels are {short_repr(labels)}")
    return tuple(labels)


def _check_values(values: Tensor | None, n: int) -> None:
    """Refuse values that the information of n images is not about."""
    if values is not None and (values.shape != (n,) or not values.is_floating_point()):
        raise ValueError(f"value, of shape {(n,)}, is {describe(values)}")


def _score_of(settings: Mapping[str, Any]) -> Score | None:
    """Return how outputs were read; files of the first versions do not say it."""
    told = settings.get("score")
    if told is None:
        return None
    try:
        score = Score(**from_plain(told))
    except (TypeError, ValueError) as error:
        raise ValueError(f"its score is {short_repr(told)}") from error
    if score.unit != settings["unit"]:
        raise ValueError(f"its unit is {settings['unit']!r}, and that of its score {score.unit!r}")
    return score


def check_superpixels(labels: Tensor | None, n: int, regions: Regions) -> None:
    """Refuse superpixels that do not fit n pictures with these regions.

    Raises:
        ValueError: They have another type or shape, or numbers that no superpixel has.
    """
    if labels is None:
        return
    (*others, shape) = regions.shapes
    if (
        others
        or len(shape) < 2
        or labels.dtype != torch.int32
        or labels.shape[2:] != shape[1:]
        or len(labels) not in (1, n)
        or not labels.shape[1]
    ):
        raise ValueError(f"it has superpixels {describe(labels)} for inputs of {regions.shapes}")
    if int(labels.min()) < 0 or int(labels.max()) >= labels[:, 0].numel():
        raise ValueError("its superpixels have numbers that none has")


def _shape_in_words(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(tuple(tensor.shape))
