# The pictures of a data set (a folder, a glob, Parquet files or a Dataset), and their decoding.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.finding import FolderPictures, find_files, is_parquet
from captum_infomask.dataset_run.data.own_dataset import DatasetPictures
from captum_infomask.dataset_run.data.parquet_files import ParquetPictures
from captum_infomask.dataset_run.data.reading import LoadedPicture, Skipped, in_one_line
from captum_infomask.engines.memory import is_out_of_memory


@runtime_checkable
class DataPictures(Protocol):
    """The pictures of a data set in a fixed order; it can be pickled.

    Attributes:
        keys: Unique names, one per picture.
        keys_are_numbers: Whether keys are numbers, which say nothing of the pictures.
        labels: The label of each picture in the data; None if labels were not requested.
        labels_are_folders: Whether the labels are names of folders.
        class_names: The data set's own names of the classes that its labels number, if any.
        skipped: The files among them that are not read.
    """

    @property
    def keys(self) -> Sequence[str]:
        """Unique names, one per picture."""

    @property
    def keys_are_numbers(self) -> bool:
        """Whether keys are numbers."""

    @property
    def labels(self) -> Sequence[str | int | None] | None:
        """The label of each picture in the data."""

    @property
    def labels_are_folders(self) -> bool:
        """Whether the labels are names of folders."""

    @property
    def class_names(self) -> Sequence[str] | None:
        """The data set's own names of the classes."""

    @property
    def skipped(self) -> Skipped:
        """The files among them that are not read."""

    def load(self, k: int) -> LoadedPicture:
        """Return picture k, not yet decoded.

        Raises:
            OSError: or another error of its storage, if it cannot be read.
        """


def find_pictures(
    data: Any, target: str = "prediction", without: Path | None = None
) -> DataPictures:
    """Find the pictures of a data set.

    Args:
        data: A folder of pictures, of any depth; one picture; a ``.parquet`` file, or a folder of
            them; or a glob of pictures or ``.parquet`` files. All of these may be at any place that
            fsspec reads (``s3://bucket/train/*/*.jpg``). In a folder, a file counts if it has a
            suffix of a format that Pillow reads, or no suffix and such content. If there is none,
            ``.parquet`` files count. Hidden files do not count, and links are followed. All matches
            of a glob count. Pipes, sockets and devices never count. Parquet holds pictures in the
            column ``image``: bytes, or Hugging Face's struct of ``bytes`` and ``path``. A row
            without bytes means the file at its path, in or below the Parquet file's folder. Or a
            Dataset that yields (picture, label) or (picture, label, key), or a DataLoader of one.
        target: ``"prediction"`` needs no labels. ``"label"`` takes the name of the sub-folder, or
            Parquet's column ``label``. Any other word names a Parquet column.
        without: A folder of this machine that is left out: the folder of the results.

    Returns:
        The pictures. Keys of files are paths below the folder, or below the glob's longest folder
        without a wildcard, sorted. Keys of Parquet keep the order of the rows. They are the
        structs' paths if each occurs once; or a column ``key`` or ``path``; or else
        ``file.parquet#row``. Keys of a Dataset are its own, or else the items' numbers.

    Raises:
        ArgumentError: if nothing is found, if keys are not unique, or if there are no such labels.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask.dataset_run.data.data_pictures import find_pictures
        >>> folder = tempfile.mkdtemp()
        >>> os.mkdir(os.path.join(folder, "cat"))
        >>> Image.new("RGB", (4, 4)).save(os.path.join(folder, "cat", "1.png"))
        >>> pictures = find_pictures(folder, "label")
        >>> pictures.keys, pictures.labels
        (['cat/1.png'], ['cat'])
    """
    if not isinstance(target, str):
        raise ArgumentError(
            f"Expected `target` to be 'prediction', 'label' or a column; got {describe(target)}."
        )
    if not isinstance(data, str | Path):
        return DatasetPictures.of(data, target)
    files = find_files(data, without)
    are_tables = [is_parquet(name) for name in files.names]
    if all(are_tables):
        return ParquetPictures.of(files, target)
    if any(are_tables):
        raise ArgumentError(
            f"Expected `data` to match pictures or .parquet files, not both; {data} matches "
            f"{files.names[are_tables.index(True)]} and {files.names[are_tables.index(False)]}."
        )
    return FolderPictures.of(files, target)


@dataclass(frozen=True)
class Decoded:
    """A picture's tensor, or its error.

    Attributes:
        index: The picture's number in its data set.
        sha256: The SHA-256 of the file's bytes, in hexadecimal; None if they cannot be read.
        tensor: (C, H, W), float32; None if the picture is bad.
        error: The error in one line; empty if the picture is good.
    """

    index: int
    sha256: str | None
    tensor: Tensor | None
    error: str


def decode_picture(
    pictures: DataPictures,
    k: int,
    preprocess: Callable[[Any], Tensor],
    shape: tuple[int, ...],
) -> Decoded:
    """Read, decode and preprocess one picture; any fault of the picture becomes its error.

    The same bytes give the same result, or the same error, in any process. No warning is given.

    Args:
        pictures: A data set.
        k: The picture's number.
        preprocess: Picture → (1, C, H, W), as in a ``Classifier``.
        shape: The expected (C, H, W).

    Returns:
        The tensor, or the error. Only errors that the picture did not cause are raised:
        MemoryError, KeyboardInterrupt.

    Example:
        >>> import os, tempfile
        >>> from captum_infomask.dataset_run.data.data_pictures import decode_picture
        >>> from captum_infomask.dataset_run.data.data_pictures import find_pictures
        >>> from captum_infomask.models.preprocessing import Preprocess
        >>> path = os.path.join(tempfile.mkdtemp(), "notes.jpg")
        >>> with open(path, "w") as file:
        ...     print("not a picture", file=file)
        >>> decode_picture(find_pictures(path), 0, Preprocess(), (3, 224, 224)).error
        'Expected the image to be a picture file such as PNG or JPEG; it is not one.'
    """
    sha256 = None
    try:
        with quiet(""):
            loaded = pictures.load(k)
            sha256 = loaded.sha256
            tensor = _checked(preprocess(loaded.decode()), shape)
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        return Decoded(k, sha256, None, in_one_line(error))
    return Decoded(k, sha256, tensor, "")


def _checked(made: object, shape: tuple[int, ...]) -> Tensor:
    """Take the picture out of its batch of one, or raise its error."""
    if not isinstance(made, Tensor) or tuple(made.shape) != (1, *shape):
        raise ArgumentError(
            f"Expected the preprocessing to return a tensor of shape {(1, *shape)}; "
            f"got {describe(made)}."
        )
    picture = made.detach()[0].to("cpu", torch.float32)
    if not bool(picture.isfinite().all()):
        raise ArgumentError("Expected the preprocessed picture to be finite; got NaN or infinity.")
    return picture.contiguous()
