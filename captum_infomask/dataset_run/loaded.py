# Reads the results of a run.
from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import pyarrow as pa
import torch

from captum_infomask._checks import describe, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.data_pictures import DataPictures, find_pictures
from captum_infomask.dataset_run.data.reading import Skipped
from captum_infomask.dataset_run.listing import Listing
from captum_infomask.dataset_run.manifest import preprocess_of, read_manifest, template_hash
from captum_infomask.dataset_run.page_pictures import Photo, kept_pictures, seen
from captum_infomask.dataset_run.result_rows import FURTHER, infomap_of, picture_columns, schema
from captum_infomask.dataset_run.run_evidence import COLUMNS, check_evidence, evidence_sums
from captum_infomask.dataset_run.run_settings import LIKELY
from captum_infomask.dataset_run.shards import (
    TEMPLATE,
    DamagedError,
    check_no_others,
    check_shard,
    read_shard,
    shards_done,
)
from captum_infomask.results import InfoMap
from captum_infomask.results.combined_evidence import By, CombinedEvidence
from captum_infomask.results.evidence_sums import EvidenceSums
from captum_infomask.results.region_table import frame

_COMPARED = 10_000  # keys that are compared letter by letter; more take long


class DatasetRun(Mapping[str, InfoMap]):
    """The results of a run so far: for each key of a good picture its InfoMap, to the bit.

    Args:
        folder: The run's folder.
        pictures: The data set, if you want to read its pictures.
        scored: The value of the attribute.

    Attributes:
        folder: The run's folder.
        manifest: Settings, versions, the network's hash, and when the run began.
        scored: The number of pictures, good or bad, that this call of ``run_dataset`` scored.

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

    def __init__(self, folder: Path, pictures: DataPictures | None = None, scored: int = 0) -> None:
        found = read_manifest(folder) if folder.is_dir() else None
        if found is None:
            what = "holds no manifest.json" if folder.exists() else "does not exist"
            if folder.is_file():
                what = "is a file"
            raise ArgumentError(f"Expected a run's folder; {folder} {what}.")
        self.folder = folder
        self.manifest: dict[str, Any] = found
        self.scored = scored
        self._pictures = pictures
        self._shards = self._listed()

    def _listed(self) -> dict[int, list[str]]:
        """The keys of each existing shard; if the run has ended, each shard must exist."""
        there = shards_done(self.folder)
        if not there and self.manifest["ended"] is None:
            return {}
        with self._named():
            listing = Listing.load(self.folder, self.manifest["run"])
            self.manifest["pictures"] = len(listing.keys)  # the run may be in an extension
            shards = listing.shards(self.manifest["settings"]["shard_size"])
            check_no_others(self.folder, len(shards))
            if self.manifest["ended"] is not None:
                there = set(range(len(shards)))
            return {
                shard: list(listing.keys[shards[shard].start : shards[shard].stop])
                for shard in sorted(there)
            }

    def check(self) -> None:
        """Read every byte of the results, and raise ArgumentError if one has changed.

        The error names the file. ``load_run`` does this.
        """
        with self._named():
            for shard in self._shards:
                check_shard(self.folder, shard, self.manifest["run"])
        self._template  # noqa: B018 - which checks itself

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add to the error of a damaged file where it is and what to do."""
        try:
            yield
        except DamagedError as error:
            raise ArgumentError(
                f"Expected the files of the run in {self.folder} as they were written; {error}. "
                f"The run's call, made once more, scores again what is missing or damaged."
            ) from error

    def __repr__(self) -> str:
        """The progress of the run."""
        return (
            f"DatasetRun({len(self.table)} of {self.manifest['pictures']} pictures, "
            f"{len(self.errors)} of them bad)"
        )

    @cached_property
    def table(self) -> pa.Table:
        """All existing rows, in the order of their keys.

        The files have two more columns if scores are bets, ``likely_classes`` and
        ``likely_probabilities``, which :meth:`evidence` reads.
        """
        run = self.manifest["run"]
        with self._named():
            tables = [
                read_shard(self.folder, shard, run, keys, without=LIKELY)
                for shard, keys in self._shards.items()
            ]
        if not tables:
            template = self._template
            further = [name for name in FURTHER if getattr(template, name) is not None]
            return schema(template.scores.dtype, further).empty_table()
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
        """Files among the data that are not pictures: their number, and the first names."""
        found = self.manifest.get("skipped", {"count": 0, "first": []})
        return Skipped(found["count"], tuple(found["first"]))

    @cached_property
    def errors(self) -> dict[str, str]:
        """The errors of bad pictures, by key."""
        columns = (self.table.column(name).to_pylist() for name in ("key", "error"))
        return {key: error for key, error in zip(*columns, strict=True) if error is not None}

    def __getitem__(self, key: str) -> InfoMap:
        """A picture's InfoMap; the KeyError gives the error of a bad picture, or near keys."""
        row = self._row(key)
        if row["error"] is not None:
            raise KeyError(f"{key} has no InfoMap: {row['error']}")
        found = infomap_of(self._template, row)
        names = self.categories if row["target"] < len(self.categories) else None
        return found.about(torch.tensor([row["target"]]), names)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per picture, good or bad, in the order of the keys.

        Columns: ``key``, ``target``, ``label`` (its name), ``predicted``, ``predicted_label``,
        ``total`` (i(y; x), in the run's unit) and what else the run has for a whole picture,
        ``share`` (the share of the picture in the mask), ``x0``, ``y0``, ``x1``, ``y1`` (the first
        box of the mask), ``seconds``, ``engine``, ``error``.

        Raises:
            ModuleNotFoundError: pandas is not installed; the message has the command.
        """
        return frame(picture_columns(self.table, self.categories))

    @property
    def has_evidence(self) -> bool:
        """Whether the rows hold what :meth:`evidence` needs, and there is a good one."""
        return "likely_classes" in self.manifest["settings"] and len(self) > 0

    def evidence(self, by: By = "class and place") -> CombinedEvidence:
        r"""Add up the evidence of all good pictures that places say something about classes.

        For class c, which :math:`n_c` of n pictures have, and a place with the view v,

        .. math::

            E_{c,R} = \binom{n}{n_c} \operatorname{mean}_{\lambda, \theta} \prod_i
                \left((1 - \lambda)\, \theta_i + \lambda\, q_i\right),

        where :math:`\theta_i` is θ and :math:`q_i` is :math:`q(c \mid v)` for pictures of class c,
        and :math:`1 - \theta` and :math:`1 - q(c \mid v)` for all others. A view bets on its own
        eight likeliest classes, which the rows hold. It holds for labels of any distribution, so it
        needs no prior (:func:`combine_evidence`). The network must not have learned from these
        pictures and labels, unless the targets are its own predictions.

        The rows are read once, shard by shard, so memory does not grow with the pictures.

        Args:
            by: ``class and place``, ``place`` or ``class``.

        Returns:
            :class:`CombinedEvidence`, for the classes that occur.

        Raises:
            ArgumentError: The scores are differences (``drop``, ``chain``, ``evidence``, ``relay``,
                a contrast), or of a head without a distribution; an earlier version wrote the run;
                or no picture is good.

        Warns:
            UserWarning: Pictures were left out because the network says that their label is
                impossible: a logit of −inf.

        Example:
            >>> import tempfile, torch
            >>> from captum_infomask import grid, run_dataset
            >>> pairs = []
            >>> for k in range(200):
            ...     x = torch.rand(1, 8, 8)
            ...     x[:, :4, :4] = k % 2  # a mark that tells the label
            ...     pairs.append((x, k % 2))
            >>> class Mark(torch.nn.Module):
            ...     def forward(self, x):
            ...         mean = x.mean((1, 2, 3))
            ...         return 9.0 * torch.stack([mean == 0, mean == 1], 1)
            >>> run = run_dataset(
            ...     pairs, Mark(), tempfile.mkdtemp(), target="label", view="crop",
            ...     regions=grid(torch.zeros(1, 1, 8, 8), 2, 2))
            >>> run.evidence().discoveries(rate=0.05)
            tensor([[ True, False, False, False],
                    [ True, False, False, False]])

        Source: :func:`captum_infomask.combine_evidence`.
        """
        one_of("by", by, get_args(By))
        return self._evidence.result(by, self.categories)

    @cached_property
    def _evidence(self) -> EvidenceSums:
        check_evidence(self._template, self.folder)
        run, columns = self.manifest["run"], COLUMNS
        with self._named():
            tables = (
                read_shard(self.folder, shard, run, keys, columns)
                for shard, keys in self._shards.items()
            )
            return evidence_sums(tables, self._template, len(self.categories), self.folder)

    def __contains__(self, key: object) -> bool:
        """Whether it is the key of a good picture."""
        return key in self._places and key not in self.errors

    def get(self, key: str, default: Any = None) -> Any:
        """A picture's InfoMap, or the default if the picture is missing or bad."""
        if key not in self:
            return default
        return self[key]

    def __iter__(self) -> Iterator[str]:
        """Keys of good pictures."""
        return (key for key in self._places if key not in self.errors)

    def __len__(self) -> int:
        """The number of good pictures."""
        return len(self._places) - len(self.errors)

    def picture(self, key: str) -> Photo | None:
        """A picture as the network saw it, (H, W, 3).

        The run keeps the 12 pictures that its page shows. Other pictures are read from the data, if
        the data were given. The result is None if neither is possible, or if the file has changed.
        The manifest holds the place of the data in the run, but this place is never opened without
        your request.
        """
        row = self._row(key)
        sha256, frame = self._kept.get(key, (None, None))
        if frame is None or sha256 != row["sha256"]:
            preprocess = preprocess_of(self.manifest["preprocess"])
            if self._pictures is None or preprocess is None or preprocess.shape[1:] != self._size:
                return None
            frame = seen(self._pictures, key, row["sha256"], preprocess)
        return frame if frame is None or frame.shape[:2] == self._size else None

    @property
    def _size(self) -> tuple[int, ...]:
        """(H, W) of the network's input."""
        return tuple(self._template.regions.shapes[0][1:])

    @cached_property
    def _kept(self) -> dict[str, tuple[str, Photo]]:
        return kept_pictures(self.folder)

    @cached_property
    def _template(self) -> InfoMap:
        path = self.folder / TEMPLATE
        try:
            template = InfoMap.load(path)
            is_whole = template_hash(template) == self.manifest["map_sha256"]
        except Exception as error:  # damaged bytes can raise any error
            raise self._no_template(path) from error
        if not is_whole:
            raise self._no_template(path)
        return template

    def _no_template(self, path: Path) -> ArgumentError:
        return ArgumentError(
            f"Expected {path} as it was written; it is missing or damaged. The run's call, made "
            f"once more, writes it again."
        )

    def _row(self, key: str) -> dict[str, Any]:
        """A picture's row; the KeyError gives near keys."""
        if key not in self._places:
            raise KeyError(
                f"The run in {self.folder} has no picture {short_repr(key)}; it has "
                f"{len(self._places)}.{_hint(key, list(self._places))}"
            )
        row: dict[str, Any] = self.table.slice(self._places[key], 1).to_pylist()[0]
        return row

    @cached_property
    def _places(self) -> dict[str, int]:
        """The row of each key."""
        return {key: k for k, key in enumerate(self.table.column("key").to_pylist())}


def _hint(key: object, keys: Sequence[str]) -> str:
    """Keys of files with the same name, or else keys with similar spelling."""
    if not isinstance(key, str):
        return f" Keys are words, such as {short_repr(keys[0])}." if keys else ""
    name = PurePosixPath(key)
    near = [one for one in keys if name.stem and PurePosixPath(one).stem == name.stem]
    near = near or difflib.get_close_matches(key, keys[:_COMPARED])
    return f" Nearest: {', '.join(map(short_repr, near[:3]))}." if near else ""


def load_run(out: str | PathLike[str], data: str | Path | None = None) -> DatasetRun:
    """Read the results of a run so far; the run may still continue.

    Only the folder itself and ``data`` are opened. Paths in the manifest are not opened, because
    somebody else may have written them.

    Args:
        out: The run's folder.
        data: The data set, as in :func:`run_dataset`. ``DatasetRun.picture`` needs it for pictures
            that the run did not keep.

    Returns:
        A mapping from keys to InfoMaps, with all rows as a table of pyarrow's.

    Raises:
        ArgumentError: There are no pictures at ``data``; ``out`` is not the folder of a run; or a
            file in it is damaged, or is missing from a run that has ended (the message names it).

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
    run = DatasetRun(Path(out), None if data is None else find_pictures(data, without=Path(out)))
    run.check()
    return run
