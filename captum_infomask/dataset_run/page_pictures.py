# Keeps the few pictures of a run's page among its results, so the page needs no other files.
from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from captum_infomask._errors import ArgumentError
from captum_infomask._files import read, write
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.own_input import AsTensors, OwnTransform
from captum_infomask.dataset_run.shards import shard_path, shards_done, stops_without_space
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.report.run_content import Counts, Floats

KEPT = "pictures.safetensors"

Photo: TypeAlias = npt.NDArray[np.uint8]

_FORMAT = "captum_infomask.pictures 1"
EXAMPLES = 6  # pictures of each kind
_COLUMNS = ["key", "sha256", "total", "error"]


def keep_pictures(folder: Path, pictures: DataPictures, preprocess: object) -> None:
    """Keep the pictures with the highest and the lowest i(y; x), as the network saw them.

    These are at most 12 pictures of the network's size. A picture is left out if its file cannot be
    read again, or has changed since it was scored. All are left out if the preprocessing is that of
    the user's own ``Classifier``, which says nothing of pictures.

    Args:
        folder: The folder of an ended run.
        pictures: The data set.
        preprocess: The network's preprocessing.

    Raises:
        RunStopped: There is no space.
    """
    if not isinstance(preprocess, OwnTransform | AsTensors) and type(preprocess) is not Preprocess:
        return
    chosen = _extreme_pictures(folder)
    try:
        before = {key: sha256 for key, (sha256, _) in kept_pictures(folder).items()}
    except ArgumentError:  # if it is damaged, it is written again
        before = {}
    if before == chosen:
        return
    found = {
        key: frame
        for key, sha256 in chosen.items()
        if (frame := seen(pictures, key, sha256, preprocess)) is not None
    }
    frames = [torch.from_numpy(frame) for frame in found.values()]
    facts = {"keys": list(found), "sha256": [chosen[key] for key in found]}
    pixels = torch.stack(frames) if frames else torch.zeros(0, *preprocess.shape[1:], 3).byte()
    with stops_without_space(folder / KEPT):
        write("out", folder / KEPT, _FORMAT, {"pixels": pixels}, facts)


def kept_pictures(folder: Path) -> dict[str, tuple[str, Photo]]:
    """The kept pictures: by key, the SHA-256 of the file and the network's view (H, W, 3).

    Raises:
        ArgumentError: Their file has changed.
    """
    path = folder / KEPT
    if not path.exists():
        return {}
    tensors, facts = read("out", path, _FORMAT)
    pixels, keys, hashes = tensors.get("pixels"), facts.get("keys"), facts.get("sha256")
    if (
        pixels is None
        or pixels.dtype != torch.uint8
        or pixels.dim() != 4
        or pixels.shape[3] != 3
        or not (isinstance(keys, list) and isinstance(hashes, list))
        or not len(pixels) == len(keys) == len(hashes)
        or not all(isinstance(words, str) for words in (*keys, *hashes))
    ):
        raise ArgumentError(f"Expected {path} to hold pictures as a run keeps them.")
    return dict(zip(keys, zip(hashes, pixels.numpy(), strict=True), strict=True))


def seen(pictures: DataPictures, key: str, sha256: str | None, preprocess: Any) -> Photo | None:
    """A picture as the network saw it, (H, W, 3); None if its file has changed."""
    try:
        found = pictures.load(pictures.keys.index(key))
        if found.sha256 != sha256:
            return None
        return np.array(preprocess.frame(found.decode()).convert("RGB"))
    except MemoryError:
        raise
    except Exception:  # each kind of storage has its own errors
        return None


def _extreme_pictures(folder: Path) -> dict[str, str]:
    """Keys and hashes of the pictures that the page of a run shows."""
    tables = [
        pq.read_table(shard_path(folder, shard), columns=_COLUMNS)
        for shard in sorted(shards_done(folder))
    ]
    if not tables:
        return {}
    rows = pa.concat_tables(tables)
    rows = rows.filter(rows["error"].is_null())
    best, worst = extremes(rows["total"].to_numpy())
    shown = rows.take(np.concatenate([best, worst]))
    return dict(zip(shown["key"].to_pylist(), shown["sha256"].to_pylist(), strict=True))


def extremes(totals: Floats) -> tuple[Counts, Counts]:
    """The places of the highest and of the lowest i(y; x), the most extreme first; no overlap.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.dataset_run.page_pictures import extremes
        >>> extremes(np.array([1.0, np.nan, 3.0, 1.0]))
        (array([2, 0]), array([3]))
    """
    places = np.flatnonzero(np.isfinite(totals))
    known = totals[places]
    best = places[np.argsort(-known, kind="stable")][: min(EXAMPLES, -(-len(places) // 2))]
    worst = places[np.argsort(known, kind="stable")]
    return best, worst[~np.isin(worst, best)][:EXAMPLES]
