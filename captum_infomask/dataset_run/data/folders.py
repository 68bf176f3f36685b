# Pictures that are files, in class folders or not.
from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.files import Files, Skipped, readable


@dataclass(frozen=True, repr=False, eq=False)
class FolderPictures:
    """Pictures that are files; their keys are their paths below the folder, sorted."""

    files: Files
    keys: Sequence[str]
    labels: Sequence[str] | None
    labels_are_folders: bool = True

    @classmethod
    def of(cls, files: Files, target: str) -> FolderPictures:
        """Take the files' names for keys, and their first folders for labels if asked for."""
        keys = [readable(name) for name in files.names]
        for key, following in itertools.pairwise(keys):
            if key == following:
                raise ArgumentError(
                    f"Expected `data` to hold files of different names; {key} is there twice."
                )
        if target == "prediction":
            return cls(files, keys, None)
        if target != "label":
            raise ArgumentError(
                "Expected `target` to be 'prediction' or 'label' (the sub-folder), because "
                f"{files.root} holds files, not Parquet with columns; got {short_repr(target)}. "
                "One class for all pictures is given by a column of Parquet."
            )
        return cls(files, keys, _first_folders(keys, files.root))

    @property
    def skipped(self) -> Skipped:
        """What lies among the files and is no picture."""
        return self.files.skipped

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file."""
        return self.files.read(k)


def _first_folders(keys: Sequence[str], root: str) -> list[str]:
    """Return every key's first folder; equal ones are one object."""
    known: dict[str, str] = {}
    labels = []
    for key in keys:
        folder, below, _ = key.partition("/")
        if not below:
            raise ArgumentError(
                "Expected every picture to lie in a sub-folder, whose name is its label; "
                f"{key} lies in {root} itself. The target 'prediction' needs no labels."
            )
        labels.append(known.setdefault(folder, folder))
    return labels
