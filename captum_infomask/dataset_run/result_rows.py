# Converts a picture's InfoMap to a row of Parquet, and back.
from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._run_length import decode
from captum_infomask.dataset_run.run_settings import LIKELY
from captum_infomask.results import InfoMap
from captum_infomask.results.map_files import PER_IMAGE, PER_REGION
from captum_infomask.scores.likely_classes import LikelyClasses

# Parts of InfoMaps that have a column only if the InfoMaps have them.
FURTHER = ("contrast", "explained", "residual", "superpixels")
_PER_PICTURE = (*PER_REGION, *PER_IMAGE, "contrast")
_LIKELY = dict(zip(LIKELY, (pa.int32(), pa.float32()), strict=True))
_TYPES = {torch.float32: pa.float32(), torch.float64: pa.float64()}


@dataclass(frozen=True, eq=False)
class Row:
    """A run's result for one picture.

    Attributes:
        key: The picture's name in its data set.
        sha256: The SHA-256 of the file's bytes; None if they could not be read.
        error: The reason if there are no numbers; empty if there are numbers.
        target: The class that is scored.
        predicted: The class of the largest output.
        infomap: The InfoMap of this picture alone; None in a row with an error.
        likely: The classes that each region's view makes likely, if scores are bets.
        mask: The mask in COCO's compressed run lengths.
        boxes: The mask's boxes, (K, 4): x0, y0, x1, y1, half-open.
        seconds: This picture's share of its batch's time.
    """

    key: str
    sha256: str | None
    error: str = ""
    target: int | None = None
    predicted: int | None = None
    infomap: InfoMap | None = None
    likely: LikelyClasses | None = None
    mask: Mapping[str, Any] | None = None
    boxes: Sequence[Sequence[int]] | None = None
    seconds: float = 0.0


def schema(dtype: torch.dtype, further: Collection[str] = ()) -> pa.Schema:
    """The columns for scores of this type.

    Args:
        dtype: The scores' type.
        further: The columns of ``FURTHER`` and ``LIKELY`` that exist.
    """
    number = _TYPES[dtype]
    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            ("sha256", pa.string()),
            ("target", pa.int32()),
            ("predicted", pa.int32()),
            *[("contrast", pa.int32())] * ("contrast" in further),
            ("total", number),
            *[(name, number) for name in ("explained", "residual") if name in further],
            *[(name, pa.list_(number)) for name in PER_REGION],
            *[(name, pa.list_(_LIKELY[name])) for name in LIKELY if name in further],
            ("mask", mask),
            ("boxes", pa.list_(pa.list_(pa.int32()))),
            *[("superpixels", pa.binary())] * ("superpixels" in further),
            ("seconds", pa.float64()),
            ("engine", pa.string()),
            ("error", pa.string()),
        ]
    )


def table_of(rows: Sequence[Row], dtype: torch.dtype, further: Collection[str]) -> pa.Table:
    """Rows as a Parquet table; the arguments are those of ``schema``."""
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=schema(dtype, further))


def with_rows(before: pa.Table, now: pa.Table) -> pa.Table:
    """A table in which some rows, by their keys, are replaced."""
    places = {key: len(before) + k for k, key in enumerate(now["key"].to_pylist())}
    order = [places.get(key, k) for k, key in enumerate(before["key"].to_pylist())]
    return pa.concat_tables([before, now]).take(order)


def _plain(row: Row) -> dict[str, Any]:
    """A row in a form for pyarrow."""
    found: dict[str, Any] = {
        "key": row.key,
        "sha256": row.sha256,
        "target": row.target,
        "predicted": row.predicted,
        "seconds": row.seconds,
        "error": row.error or None,
    }
    if row.infomap is not None:
        tensors = {name: getattr(row.infomap, name) for name in (*PER_REGION, *PER_IMAGE)}
        found |= {name: _values(tensor) for name, tensor in tensors.items() if tensor is not None}
        found |= {
            "contrast": None if row.infomap.contrast is None else int(row.infomap.contrast[0, 1]),
            "engine": row.infomap.engine,
            "mask": row.mask,
            "boxes": row.boxes,
        }
        if row.infomap.superpixels is not None:
            labels = row.infomap.superpixels.numpy().astype("<i4")
            found["superpixels"] = zlib.compress(labels.tobytes())
    if row.likely is not None:
        both = (row.likely.classes, row.likely.probabilities)
        found |= {name: part.flatten().numpy() for name, part in zip(LIKELY, both, strict=True)}
    return found


def _superpixels(content: bytes, like: Tensor) -> Tensor:
    """The superpixels of a row; memory is limited to their size."""
    size = 4 * like.numel()
    try:
        found = zlib.decompressobj().decompress(content, size + 1)
    except zlib.error:
        found = b""
    labels = np.frombuffer(found, "<i4") if len(found) == size else np.array([-1])
    if labels.min() < 0 or labels.max() >= like[0, 0].numel():
        raise ArgumentError("Expected the `superpixels` of a row as they were written.")
    return torch.from_numpy(labels.astype(np.int32)).reshape(like.shape)


def _values(tensor: Tensor) -> Any:
    return tensor.numpy()[0]


def infomap_of(template: InfoMap, row: Mapping[str, Any]) -> InfoMap:
    """The InfoMap of a row; the template gives regions and settings."""
    dtype = template.scores.dtype
    per_region = {
        name: None if row[name] is None else _tensor(row[name], dtype) for name in PER_REGION
    }
    found: dict[str, Any] = {**per_region, "total": _tensor(row["total"], dtype)}
    found["targets"] = torch.tensor([row["target"]])
    for name in ("explained", "residual"):
        if getattr(template, name) is not None:
            found[name] = _tensor(row[name], dtype)
    if template.contrast is not None:
        found["contrast"] = torch.tensor([[row["target"], row["contrast"]]])
    if template.superpixels is not None:
        found["superpixels"] = _superpixels(row["superpixels"], template.superpixels)
    return replace(template, engine=row["engine"], **found)


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    """One value or many as a tensor of one picture, (1, ...)."""
    return torch.from_numpy(np.asarray(values, np.float64)).to(dtype)[None]


def picture_columns(table: pa.Table, categories: Sequence[str]) -> dict[str, list[Any]]:
    """What the rows say of whole pictures, by column; None stands for nothing.

    Args:
        table: The rows.
        categories: The classes' names.
    """
    names = dict(enumerate(categories))
    found: dict[str, list[Any]] = {"key": table["key"].to_pylist()}
    for name, label in (("target", "label"), ("predicted", "predicted_label")):
        found[name] = table[name].to_pylist()
        found[label] = [names.get(index) for index in found[name]]
    further = [name for name in ("contrast", *PER_IMAGE) if name in table.column_names]
    found |= {name: table[name].to_pylist() for name in further}
    masks = table["mask"].to_pylist()
    found["share"] = [None if one is None else _share(one) for one in masks]
    boxes = [(one or [[None] * 4])[0] for one in table["boxes"].to_pylist()]
    found |= {name: [box[k] for box in boxes] for k, name in enumerate(("x0", "y0", "x1", "y1"))}
    return found | {name: table[name].to_pylist() for name in ("seconds", "engine", "error")}


def _share(mask: Mapping[str, Any]) -> float:
    """The share of the picture that a mask keeps."""
    return float(decode(mask, name="mask", size=tuple(mask["size"])).double().mean())


def without_numbers(infomap: InfoMap) -> InfoMap:
    """The InfoMap with all numbers set to 0: the part that all pictures of a run share."""
    found = {name: getattr(infomap, name) for name in (*_PER_PICTURE, "superpixels")}
    zeros: dict[str, Any] = {
        name: torch.zeros_like(old) for name, old in found.items() if old is not None
    }
    return replace(infomap, **{**zeros, "targets": None, "labels": None, "probability": None})


def one_picture(infomap: InfoMap, k: int) -> InfoMap:
    """The InfoMap of picture k of a batch, on the CPU."""
    tensors = {
        name: getattr(infomap, name)[k : k + 1].cpu()
        for name in (*_PER_PICTURE, "targets")
        if getattr(infomap, name) is not None
    }
    labels, n = infomap.superpixels, len(infomap.total)
    if labels is not None and len(labels) > 1:
        tensors["superpixels"] = labels[k : k + 1]
    views = None if infomap.views is None else infomap.views // n
    return replace(infomap, views=views, **tensors)
