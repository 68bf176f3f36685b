# A run's results, read back.
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from captum_infomask._checks import ArgumentError, describe
from captum_infomask.dataset_run.data.files import Skipped
from captum_infomask.dataset_run.data.pictures import Pictures, find_pictures
from captum_infomask.dataset_run.manifest import preprocess_of, read_manifest
from captum_infomask.dataset_run.rows import infomap_of, schema
from captum_infomask.dataset_run.shards import TEMPLATE, shard_path, shards_done
from captum_infomask.models.pictures import Preprocess, decode_image
from captum_infomask.results import InfoMap


class DatasetRun(Mapping[str, InfoMap]):
    """What is there of a run: for each key of a good picture its InfoMap, to the bit.

    Args:
        folder: The run's folder.

    Attributes:
        folder: The run's folder.
        manifest: Settings, versions, the network's hash, and when the run began.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask import load_run, run_dataset
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("L", (56, 28)).save(os.path.join(folder, "a.png"))
        >>> out = os.path.join(folder, "out")
        >>> run_dataset(folder, "two_digits", out, workers=0)
        DatasetRun(1 of 1 pictures, 0 of them bad)
        >>> load_run(out).table.column("error").null_count
        1
    """

    def __init__(self, folder: Path) -> None:
        found = read_manifest(folder) if folder.is_dir() else None
        if found is None:
            raise ArgumentError(f"Expected a run's folder; {folder} holds no manifest.json.")
        self.folder = folder
        self.manifest: dict[str, Any] = found

    def __repr__(self) -> str:
        """How far the run is."""
        return (
            f"DatasetRun({len(self.table)} of {self.manifest['pictures']} pictures, "
            f"{len(self.errors)} of them bad)"
        )

    @cached_property
    def table(self) -> pa.Table:
        """All rows that are there, in the order of their keys."""
        shards = sorted(shards_done(self.folder))
        tables = [pq.read_table(shard_path(self.folder, shard)) for shard in shards]
        if not tables:
            return schema(self._template.scores.dtype).empty_table()
        return pa.concat_tables(tables)

    @property
    def is_complete(self) -> bool:
        """Whether every picture has a row."""
        return len(self.table) == int(self.manifest["pictures"])

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the network's classes."""
        return tuple(self.manifest["categories"])

    @property
    def skipped(self) -> Skipped:
        """Files among the data that are no pictures: how many, and the first names of them."""
        found = self.manifest.get("skipped", {"count": 0, "first": []})
        return Skipped(found["count"], tuple(found["first"]))

    @cached_property
    def errors(self) -> dict[str, str]:
        """Bad pictures: by key, what is wrong."""
        columns = (self.table.column(name).to_pylist() for name in ("key", "error"))
        return {key: error for key, error in zip(*columns, strict=True) if error is not None}

    def __getitem__(self, key: str) -> InfoMap:
        """A picture's InfoMap; KeyError with the error of a bad picture."""
        row = self.table.slice(self._places[key], 1).to_pylist()[0]
        if row["error"] is not None:
            raise KeyError(f"{key} has no InfoMap: {row['error']}")
        return infomap_of(self._template, row)

    def __iter__(self) -> Iterator[str]:
        """Keys of good pictures."""
        return (key for key in self._places if key not in self.errors)

    def __len__(self) -> int:
        """How many good pictures there are."""
        return len(self._places) - len(self.errors)

    def picture(self, key: str) -> npt.NDArray[np.uint8] | None:
        """What the network saw of a picture, (H, W, 3); None where its file is not as it was."""
        if self._pictures is None or self._preprocess is None:
            return None
        row = self.table.slice(self._places[key], 1).to_pylist()[0]
        try:
            content = self._pictures.read(self._pictures.keys.index(key))
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                return None
            framed = self._preprocess.frame(decode_image(content, key))
        except (ArgumentError, OSError, ValueError):
            return None
        return np.asarray(framed.convert("RGB"))

    @cached_property
    def _template(self) -> InfoMap:
        return InfoMap.load(self.folder / TEMPLATE)

    @cached_property
    def _places(self) -> dict[str, int]:
        """The row of each key."""
        return {key: k for k, key in enumerate(self.table.column("key").to_pylist())}

    @cached_property
    def _pictures(self) -> Pictures | None:
        try:
            return find_pictures(self.manifest["data"])
        except (ArgumentError, OSError):
            return None

    @cached_property
    def _preprocess(self) -> Preprocess | None:
        return preprocess_of(self.manifest["preprocess"])


def load_run(out: str | PathLike[str]) -> DatasetRun:
    """Read what a run has written so far, whether it has ended or not.

    Args:
        out: The run's folder.

    Returns:
        A mapping from keys to InfoMaps, with all rows as a table of pyarrow's.

    Raises:
        ArgumentError: ``out`` is no run's folder.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask import load_run, run_dataset
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("L", (56, 28)).save(os.path.join(folder, "a.png"))
        >>> out = os.path.join(folder, "out")
        >>> run = run_dataset(folder, "two_digits", out, workers=0)
        >>> bool((load_run(out)["a.png"].scores == run["a.png"].scores).all())
        True
    """
    if not isinstance(out, str | PathLike) or not str(out):
        raise ArgumentError(f"Expected `out` to be a path; got {describe(out)}.")
    return DatasetRun(Path(out))
