# The pictures of a data set, wherever they lie: in a folder, in Parquet, behind a glob.
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.files import Skipped
from captum_infomask.dataset_run.data.finding import find_files, is_parquet
from captum_infomask.dataset_run.data.folders import FolderPictures
from captum_infomask.dataset_run.data.parquet import ParquetPictures


@runtime_checkable
class Pictures(Protocol):
    """The pictures of a data set in a fixed order; it can be pickled.

    Attributes:
        keys: Unique names, one per picture.
        labels: Per picture what the data says of its class; None where nothing was asked for.
        labels_are_folders: Whether the labels are names of folders.
        skipped: What lies among them and is not read.
    """

    @property
    def keys(self) -> Sequence[str]:
        """Unique names, one per picture."""

    @property
    def labels(self) -> Sequence[str | int | None] | None:
        """Per picture what the data says of its class."""

    @property
    def labels_are_folders(self) -> bool:
        """Whether the labels are names of folders."""

    @property
    def skipped(self) -> Skipped:
        """What lies among them and is not read."""

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file.

        Raises:
            OSError: or what else its storage raises, if it cannot be read.
        """


def find_pictures(
    data: str | Path, target: str = "prediction", without: Path | None = None
) -> Pictures:
    """Find the pictures of a data set.

    Args:
        data: A folder of pictures, of any depth; one picture; a ``.parquet`` file, or a folder of
            them; or a glob of pictures or ``.parquet`` files. All of these may lie wherever
            fsspec reads (``s3://bucket/train/*/*.jpg``). In a folder the files count that have a
            suffix of a format that Pillow reads, or no suffix and such a content (``.parquet``
            where none does), hidden ones aside, and links are followed; a glob's matches all
            count. Pipes, sockets and devices never do. Parquet holds pictures in the column
            ``image``: bytes, or Hugging Face's struct of ``bytes`` and ``path``, where a row
            without bytes is the file at its path, in or below the Parquet file's folder.
        target: ``"prediction"`` leaves labels out; ``"label"`` takes the name of the sub-folder,
            or Parquet's column ``label``; any other word names a Parquet column.
        without: A folder of this machine, that of the results, which holds none of them.

    Returns:
        The pictures. Keys of files are paths below the folder, or below the glob's longest folder
        without a wildcard, sorted. Keys of Parquet, whose order is kept, are the structs' paths
        if each is there once; or a column ``key`` or ``path``; or else ``file.parquet#row``.

    Raises:
        ArgumentError: if nothing is found, keys are not unique, or there are no such labels.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask.dataset_run.data.pictures import find_pictures
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
