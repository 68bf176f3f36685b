# The pictures of a user's Dataset or DataLoader, with the keys and labels of its items.
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset, default_collate, default_convert
from torchvision.datasets import DatasetFolder

from captum_infomask._checks import describe, plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.dataset_items import Items, picture_of
from captum_infomask.dataset_run.data.own_input import own_numbers, picture_sha256
from captum_infomask.dataset_run.data.reading import LoadedPicture, Skipped, readable

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, repr=False)
class DatasetPictures:
    """Pictures that a Dataset yields, in its own order.

    Attributes:
        items: The data set.
        keys: The items' keys: their own; of a folder's files, their paths; or else their numbers.
            A ``Subset`` keeps the paths and numbers of the whole.
        keys_are_numbers: Whether keys are numbers.
        labels: The items' labels; None if they were not requested.
        class_names: The data set's names of the classes, if it has ``classes``.
        first: The first picture that can be read.
        decoders: The number of processes that should read it; None for any number.
        as_rgb: Whether pictures are given as RGB, which a ``Classifier`` takes.
    """

    items: Items
    keys: Sequence[str]
    keys_are_numbers: bool
    labels: Sequence[str | int | None] | None
    class_names: Sequence[str] | None
    first: Image.Image | Tensor
    decoders: int | None
    as_rgb: bool = True
    labels_are_folders: bool = False
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def of(cls, data: Any, target: str) -> DatasetPictures:
        """Take the items of a Dataset, of a DataLoader, or of a list.

        Args:
            data: The data set. If its items have keys, or labels are requested that the data set
                does not list, every item is read once.
            target: ``prediction`` or ``label``.

        Raises:
            ArgumentError: The items cannot be had by number, have another form, or change from call
                to call; or keys are not unique.
        """
        if target not in ("prediction", "label"):
            raise ArgumentError(
                f"Expected `target` to be 'prediction' or 'label' (what `data` yields after the "
                f"picture); got {short_repr(target)}."
            )
        items = Items.of(data)
        item = items.first()
        first, labelled = picture_of(item[0]), target == "label"
        if labelled and len(item) == 1:
            raise ArgumentError(
                "Expected `data` to yield (picture, label) for the target 'label'; it yields "
                "pictures alone. Of tensors, TensorDataset(pictures, labels) makes pairs."
            )
        keys = _file_keys(items.dataset)
        is_plain = items.collate in (None, default_collate, default_convert)
        labels = _known_labels(items.dataset) if labelled and is_plain else None
        if len(item) == 3 or (labelled and labels is None):
            facts = [_facts(items, k, labelled) for k in range(items.count)]
            labels = [label for label, _ in facts] if labelled else None
            keys = _unique([key for _, key in facts]) if len(item) == 3 else keys
        return cls(
            items,
            _numbers(items.dataset) if keys is None else keys,
            keys is None,
            labels,
            _class_names(items.dataset),
            first,
            # A process that is forked cannot use the GPU of its parent.
            0 if isinstance(item[0], Tensor) and item[0].device.type != "cpu" else items.workers,
        )

    def load(self, k: int) -> LoadedPicture:
        """Return picture k; its hash is that of its pixels or numbers."""
        with own_numbers():
            picture = picture_of(self.items.item(k)[0])
        if isinstance(picture, Tensor) is not isinstance(self.first, Tensor):
            raise ArgumentError(
                f"Expected `data` to yield pictures of one kind; got {describe(picture)} here, and "
                f"{describe(self.first)} first."
            )
        return LoadedPicture(picture_sha256(picture), lambda: self._shown(picture))

    def _shown(self, picture: Image.Image | Tensor) -> Image.Image | Tensor:
        if isinstance(picture, Tensor) or not self.as_rgb:
            return picture
        if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
            raise ArgumentError(
                f"Expected the image to have 8 bits per channel; it has Pillow mode "
                f"{picture.mode!r}."
            )
        return picture.convert("RGB")


def _facts(items: Items, k: int, labelled: bool) -> tuple[str | int | None, str]:
    """Label and key of an item; a bad item has no label, and its number as a key."""
    try:
        with quiet(""), own_numbers():
            item = (*items.item(k), None, None)
    except (ArgumentError, MemoryError):
        raise
    except Exception:  # it will be a bad picture of the run
        return None, f"item {k}"
    return _label(item[1], k) if labelled else None, _key(item[2], k)


def _label(given: Any, k: int) -> str | int | None:
    """An item's label as an index or a name."""
    is_one = isinstance(given, np.ndarray | Tensor) and given.shape == (1,)
    label = plain(given[0] if is_one else given)
    if label is None or isinstance(label, str) or type(label) is int:
        return label
    raise ArgumentError(
        f"Expected `data` to yield labels that are a class's index or name; item {k} has "
        f"{describe(given)}. The target 'prediction' needs no labels."
    )


def _key(given: Any, k: int) -> str:
    """An item's key, as words."""
    key = f"item {k}" if given is None else plain(given)
    if not isinstance(key, str | int) or key == "":
        raise ArgumentError(
            f"Expected `data` to yield keys that are words or numbers; item {k} has "
            f"{describe(given)}."
        )
    return readable(str(key))


def _unique(keys: list[str]) -> list[str]:
    """The keys, if each names one item."""
    places: dict[str, int] = {}
    for k, key in enumerate(keys):
        if places.setdefault(key, k) != k:
            raise ArgumentError(
                f"Expected `data` to yield a key of its own for every picture; {short_repr(key)} "
                f"is the key of items {places[key]} and {k}."
            )
    return keys


def _chosen(subset: Subset[Any], values: Sequence[_T] | None) -> list[_T] | None:
    """The values of a subset's items."""
    return None if values is None else [values[k] for k in subset.indices]


def _numbers(data: Any) -> list[str]:
    """The items' numbers as keys, in the whole data set of a subset."""
    if isinstance(data, Subset):
        return _unique(_chosen(data, _numbers(data.dataset)) or [])
    return [str(k) for k in range(len(data))]


def _file_keys(data: Any) -> list[str] | None:
    """The paths below a folder of torchvision's ImageFolder, which are the keys of the folder."""
    if isinstance(data, Subset):
        return _chosen(data, _file_keys(data.dataset))
    if not isinstance(data, DatasetFolder):
        return None
    paths = (os.path.relpath(path, data.root).replace(os.sep, "/") for path, _ in data.samples)
    return _unique([readable(path) for path in paths])


def _class_names(data: Any) -> tuple[str, ...] | None:
    """The names in a data set's ``classes``, as those of torchvision have them."""
    if isinstance(data, Subset):
        return _class_names(data.dataset)
    names = getattr(data, "classes", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def _known_labels(data: Any) -> list[str | int | None] | None:
    """The labels that a data set of torchvision lists, so that no item is read for them."""
    if isinstance(data, Subset):
        return _chosen(data, _known_labels(data.dataset))
    targets = getattr(data, "targets", None)
    is_torchvisions = type(data).__module__.startswith("torchvision.datasets.")
    if not is_torchvisions or targets is None or data.target_transform is not None:
        return None
    return [_label(label, k) for k, label in enumerate(targets)]
