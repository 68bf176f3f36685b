# The items of a user's Dataset or DataLoader by number, and the forms that pictures have in them.
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.own_input import is_random, own_numbers
from captum_infomask.dataset_run.data.reading import in_one_line

_FORMS = "(picture, label) or (picture, label, key)"
_CHANNELS = (1, 3, 4)  # of 8-bit pictures that Pillow takes
_TRIED = 100  # items that may be bad before one is good


@dataclass(frozen=True, eq=False, repr=False)
class Items:
    """The items of a data set by number, as its loader would give them in batches of one.

    Attributes:
        dataset: Gives an item by its number.
        count: The number of items.
        collate: A loader's ``collate_fn``; None if there is no loader.
        batched: Whether the loader makes batches.
        workers: The number of the loader's processes; None if there is no loader.
    """

    dataset: Any
    count: int
    collate: Callable[[Any], Any] | None = None
    batched: bool = True
    workers: int | None = None

    @classmethod
    def of(cls, data: Any) -> Items:
        """Take a Dataset, a DataLoader of one, or a list.

        Raises:
            ArgumentError: It does not give every item by its number; or the loader leaves out or
                repeats items.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> from captum_infomask.dataset_run.data.dataset_items import Items
            >>> pairs = [("a picture", 0), ("another", 1)]
            >>> Items.of(DataLoader(pairs, batch_size=2, shuffle=True)).item(1)
            ('another', tensor(1))
        """
        if not isinstance(data, DataLoader):
            return cls(data, _count(data))
        count = _count(data.dataset)
        _check_order(data)
        batched = data.batch_sampler is not None
        return cls(data.dataset, count, data.collate_fn, batched, data.num_workers)

    def item(self, k: int) -> tuple[Any, ...]:
        """Picture, label and key of an item; what it does not have is missing."""
        item = self.dataset[k]
        if self.collate is not None:
            item = self.collate([item] if self.batched else item)
        if isinstance(item, Image.Image | np.ndarray | Tensor):
            item = (item,)
        if not isinstance(item, tuple | list) or not 1 <= len(item) <= 3:
            raise ArgumentError(
                f"Expected `data` to yield {_FORMS}; item {k} is {_described(item)}.{_pairs(item)}"
            )
        is_batch = self.collate is not None and self.batched
        return tuple(part[0] for part in item) if is_batch else tuple(item)

    def _picture(self, k: int) -> Image.Image | Tensor:
        return picture_of(self.item(k)[0])

    def first(self) -> tuple[Any, ...]:
        """The first item that can be read.

        Raises:
            ArgumentError: None can be read, or the item draws random numbers.
        """
        failed = ""
        for k in range(min(self.count, _TRIED)):
            try:
                with quiet(""), own_numbers():
                    item = self.item(k)
                    drawn = is_random(partial(self._picture, k))
            except (ArgumentError, MemoryError):
                raise
            except Exception as error:  # a bad picture
                failed = failed or in_one_line(error)
                continue
            if drawn:
                raise ArgumentError(
                    f"Expected `data` to yield the same picture each time; item {k} draws random "
                    f"numbers, as transforms for training do. Give it the transform for evaluation."
                )
            return item
        lines = (
            " Write:\n"
            "    data = loader.dataset  # whose pictures the transform takes one by one\n"
            "    run_dataset(data, model, out, transform=transform)"
        )
        raise ArgumentError(
            f"Expected `data` to yield pictures; its first item raised {failed}."
            f"{lines * (self.collate is not None)}"
        )


def _described(item: object) -> str:
    """An item in words; of a dict only its names."""
    if isinstance(item, Mapping):
        return f"a {type(item).__name__} with {', '.join(map(short_repr, item))}"
    return describe(item)


def _pairs(item: object) -> str:
    """The lines that make pairs of items of another form."""
    if isinstance(item, str | os.PathLike):
        return " Pass the folder that holds the pictures."
    if not isinstance(item, Mapping):
        return ""
    names = [name for name in item if isinstance(name, str)]
    is_picture = [isinstance(item[name], Image.Image | np.ndarray | Tensor) for name in names]
    picture = next((name for name, is_it in zip(names, is_picture, strict=True) if is_it), "image")
    label = next((name for name in names if name in ("label", "labels", "target")), "label")
    return (
        f" Write:\n"
        f"    pairs = [(row[{picture!r}], row[{label!r}]) for row in data]\n"
        f"    run_dataset(pairs, model, out, transform=transform)"
    )


def _count(data: Any) -> int:
    """The number of items; refuse what does not give them by number."""
    if isinstance(data, IterableDataset) or not hasattr(data, "__getitem__"):
        is_stream = isinstance(data, IterableDataset) or hasattr(data, "__iter__")
        list_it = (
            "\n    pairs = list(dataset)  # of (picture, label), or write them into a folder"
            "\n    run_dataset(pairs, model, out)"
        )
        raise ArgumentError(
            f"Expected `data` to be a folder, a glob, Parquet, a Dataset that gives its items by "
            f"number, or a DataLoader of one; got {describe(data)}."
            + (f" A run that is continued must find picture k again. Write:{list_it}" * is_stream)
        )
    try:
        count = len(data)
    except TypeError as error:
        raise ArgumentError(
            f"Expected `data` to have a length; {type(data).__name__} has none."
        ) from error
    if isinstance(data, Mapping):
        raise ArgumentError(
            f"Expected `data` to give its items by number; got {_described(data)}. Write: "
            f"run_dataset(list(data.values()), model, out)"
        )
    if not count:
        raise ArgumentError(f"Expected `data` to hold pictures; {type(data).__name__} is empty.")
    return count


def _check_order(loader: DataLoader[Any]) -> None:
    """Refuse a loader that leaves out or repeats pictures; its order does not matter."""
    sampler = loader.sampler
    repeats = isinstance(sampler, RandomSampler) and (
        sampler.replacement or sampler.num_samples != len(loader.dataset)  # type: ignore[arg-type]
    )
    is_whole = type(sampler) in (SequentialSampler, RandomSampler) and not repeats
    in_batches = type(loader.batch_sampler) in (BatchSampler, type(None))
    if not isinstance(loader.dataset, IterableDataset) and not (is_whole and in_batches):
        chosen = sampler if in_batches else loader.batch_sampler
        raise ArgumentError(
            f"Expected `data` to be a loader of every picture once; {type(chosen).__name__} may "
            f"choose others each time, and a run that is continued must find the same. Write:\n"
            f"    chosen = torch.utils.data.Subset(loader.dataset, indices)\n"
            f"    run_dataset(chosen, model, out)"
        )


def picture_of(given: Any) -> Image.Image | Tensor:
    """What a data set gave as a picture: a picture for a transform, or the network's input.

    Args:
        given: A picture of PIL; 8-bit pixels in an array (H, W) or (H, W, C), or in a tensor
            (C, H, W); or floats (C, H, W), which are the network's input.

    Raises:
        ArgumentError: It is something else.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.dataset_run.data.dataset_items import picture_of
        >>> picture_of(np.zeros((4, 6, 3), np.uint8)).size
        (6, 4)
    """
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, np.ndarray) and given.dtype == np.uint8:
        return _from_pixels(given)
    if isinstance(given, Tensor) and given.dtype == torch.uint8:
        pixels = given.detach().cpu()
        return _from_pixels((pixels.movedim(0, -1) if pixels.dim() == 3 else pixels).numpy())
    tensor = torch.tensor(given) if _is_float_array(given) else given
    if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() == 3:
        if tensor.shape[2] in (1, 3) and min(tensor.shape[:2]) > 4:
            raise ArgumentError(
                f"Expected tensors of `data` with the channels first, (C, H, W); got "
                f"{describe(given)}. torch.as_tensor(picture).permute(2, 0, 1) puts them there."
            )
        return tensor.detach().cpu()
    raise ArgumentError(
        f"Expected `data` to yield pictures of PIL, 8-bit arrays (H, W) or (H, W, C), or float "
        f"tensors (C, H, W); got {describe(given)}.{_hint(given)}"
    )


def _hint(given: object) -> str:
    """How a picture of another form becomes one."""
    if isinstance(given, str | os.PathLike):
        return " Pass the folder that holds the files, or open each with PIL.Image.open."
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 2:
        return " picture[None] adds the channel of a grey picture."
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 3:
        return " Divide whole numbers by the largest, as float32."
    return ""


def _is_float_array(given: object) -> bool:
    return isinstance(given, np.ndarray) and given.dtype in (np.float16, np.float32, np.float64)


def _from_pixels(pixels: Any) -> Image.Image:
    """A picture from 8-bit pixels, (H, W) or (H, W, C)."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in _CHANNELS or not pixels.size:
        raise ArgumentError(
            f"Expected 8-bit pictures of `data` to have 1, 3 or 4 channels; got shape "
            f"{pixels.shape}, (H, W, C)."
        )
    flat = pixels[..., 0] if pixels.ndim == 3 and channels == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat))
