# The pictures for a fit: splits a loader in two, and reads it again and again.
from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from captum_infomask._batches import batches
from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._random import OwnGenerators
from captum_infomask._types import Shape

_HELD_OUT = 0.1  # the share of a loader's pictures that are held out


def seed_of(*parts: int | str) -> int:
    """A seed that depends on every part, so no draw depends on earlier draws."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def fit_and_held_out(loader: object, held_out: object, seed: int) -> tuple[Any, Any]:
    """The loader to fit to and the one to hold out; without ``held_out``, a part of the first.

    Raises:
        ArgumentError: A loader cannot be read, or not split.
    """
    if held_out is not None:
        return _rereadable("loader", loader), _rereadable("held_out", held_out)
    if isinstance(loader, list | tuple):
        fit, held = _split(len(loader), "batches", seed)
        return (
            # One batch at a time, unchanged.
            DataLoader(Subset(loader, fit), batch_size=None, shuffle=True),  # type: ignore[arg-type]
            [loader[index] for index in held],
        )
    if not isinstance(loader, DataLoader):
        raise ArgumentError(
            f"Expected `loader` to be a DataLoader or a list of batches, which can be split, or "
            f"`held_out` along with it; got {describe(loader)} alone."
        )
    if (
        isinstance(loader.dataset, IterableDataset)
        or loader.batch_size is None
        or not isinstance(loader.sampler, RandomSampler | SequentialSampler)
    ):
        raise ArgumentError(
            "Expected `held_out` along with a DataLoader that has an IterableDataset or a sampler "
            "of its own, and so cannot be split; got none."
        )
    fit, held = _split(len(loader.dataset), "pictures", seed)  # type: ignore[arg-type]
    return _over(loader, fit, shuffle=True), _over(loader, held, shuffle=False)


@dataclass(frozen=True)
class LoaderPlace:
    """A place in the stream of batches: the epoch, and the batch within it."""

    epoch: int = 0
    batch: int = 0


@dataclass
class LoaderPictures:
    """A loader's pictures on a device; batches that are not finite are skipped with a warning.

    Attributes:
        loader: Yields images, or (images, labels).
        name: The argument's name, for messages.
        device: The device of the pictures.
        generators: The source of random numbers for the loader and for all other draws of the fit.
        shape: (C, H, W) of all pictures; the shape of the first batch if None.
    """

    loader: Any
    name: str
    device: torch.device
    generators: OwnGenerators
    shape: Shape | None = None
    _warned: bool = field(default=False, init=False)

    def once(self) -> Iterator[Tensor]:
        """Read the loader once."""
        yield from (images for _, images in self._epoch(0, 0, 0))

    def over_and_over(
        self, seed: int, start: LoaderPlace
    ) -> Generator[tuple[LoaderPlace, Tensor], None, None]:
        """Read the loader without end from a place; the order depends on the seed and the place.

        The generators are seeded before every batch.
        """
        epoch, skip = start.epoch, start.batch
        while True:
            yield from self._epoch(seed, epoch, skip)
            epoch, skip = epoch + 1, 0

    def _epoch(self, seed: int, epoch: int, skip: int) -> Iterator[tuple[LoaderPlace, Tensor]]:
        self.generators.seed(seed_of(seed, epoch, 0))
        finite = False
        found = batches(self.loader, name=self.name, description="", show_progress=False)
        for number, batch in enumerate(found):
            images = self._images(batch, number)
            if bool(images.isfinite().all()):
                finite = True
                if number >= skip:
                    yield LoaderPlace(epoch, number), images
            else:
                self._warn(number, images)
            self.generators.seed(seed_of(seed, epoch, number + 1))
        if not finite:
            raise ArgumentError(
                f"Expected `{self.name}` to yield finite pictures; every batch holds NaN or "
                f"infinity."
            )

    def _images(self, batch: object, number: int) -> Tensor:
        images = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if (
            not isinstance(images, Tensor)
            or images.dim() != 4
            or images.numel() == 0
            or not images.dtype.is_floating_point
        ):
            raise ArgumentError(
                f"Expected `{self.name}` to yield images (N, C, H, W), floating-point, or (images, "
                f"labels); batch {number} is {describe(batch)}."
            )
        shape = tuple(images.shape[1:])
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            raise ArgumentError(
                f"Expected `{self.name}` to yield images of one shape, {self.shape}; batch "
                f"{number} holds {shape}."
            )
        return images.to(self.device)

    def _warn(self, number: int, images: Tensor) -> None:
        if not self._warned:
            wrong = int((~images.isfinite().flatten(1).all(1)).sum())
            warn(
                f"Batch {number} of `{self.name}` is left out: it holds NaN or infinity in {wrong} "
                f"of {len(images)} pictures. Others like it are left out without a word.",
            )
        self._warned = True


def _rereadable(name: str, loader: object) -> Iterable[Any]:
    """Refuse anything that cannot be iterated over, or can be only once."""
    if not isinstance(loader, Iterable) or isinstance(loader, str | Tensor | Iterator):
        hint = " An iterator can be read once only." if isinstance(loader, Iterator) else ""
        raise ArgumentError(
            f"Expected `{name}` to be a DataLoader or another iterable of batches; got "
            f"{describe(loader)}.{hint}"
        )
    return loader


def _split(count: int, what: str, seed: int) -> tuple[list[int], list[int]]:
    """Indices to fit to, and a tenth, at least one, to hold out."""
    if count < 2:
        raise ArgumentError(
            f"Expected `loader` to hold at least 2 {what}, one of them to hold out, or `held_out` "
            f"along with it; got {count}."
        )
    generator = torch.Generator().manual_seed(seed_of(seed, "split"))
    order = torch.randperm(count, generator=generator).tolist()
    held = max(1, round(_HELD_OUT * count))
    return sorted(order[held:]), sorted(order[:held])


def _over(loader: DataLoader[Any], indices: list[int], *, shuffle: bool) -> DataLoader[Any]:
    """A loader with the same settings, over some of its examples."""
    return DataLoader(
        Subset(loader.dataset, indices),
        batch_size=loader.batch_size,
        shuffle=shuffle,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
    )
