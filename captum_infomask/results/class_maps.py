# ClassMaps: every region's information about several classes.
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_infomask._captum import format_output
from captum_infomask._checks import ArgumentError, plain, short_repr
from captum_infomask.regions.sharpening import averaged
from captum_infomask.results.info_map import PER_REGION, InfoMap


@dataclass(frozen=True, eq=False, repr=False)
class ClassMaps:
    """Information of every region about K classes, from one set of forward passes.

    Attributes:
        classes: The classes of each image, long (N, K), on the CPU.
        scores: Information of each region about each class, (N, R, K), in ``unit``; NaN where an
            image does not have the region.
        total: i(y; x) of the whole images about each class, (N, K), in ``unit``.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, grid
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
        >>> x = torch.rand(2, 1, 8, 8)
        >>> maps = InfoMask(model).score_classes(x, top_k=3, view="drop", regions=grid(x, 2, 2))
        >>> maps.scores.shape, maps.rank(0).attributions().shape, maps.class_map().shape
        (torch.Size([2, 4, 3]), torch.Size([2, 1, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    classes: Tensor
    stacked: InfoMap

    @property
    def scores(self) -> Tensor:
        """(N, R, K)."""
        return self.stacked.scores

    @property
    def total(self) -> Tensor:
        """(N, K)."""
        return self.stacked.total

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        return self.stacked.unit

    def __repr__(self) -> str:
        """What a notebook or prompt shows."""
        n, regions, count = self.scores.shape
        return (
            f"ClassMaps({n} image{'s' * (n != 1)} × {regions} regions × {count} classes, "
            f"view={self.stacked.view!r}, {self.unit})"
        )

    def rank(self, k: int) -> InfoMap:
        """Column k of ``classes`` as an :class:`InfoMap`: for ``top_k`` the k-th likeliest class.

        Raises:
            ArgumentError: There is no column k.
        """
        count, column = self.classes.shape[1], plain(k)
        if not isinstance(column, int) or isinstance(column, bool) or not 0 <= column < count:
            raise ArgumentError(f"Expected `k` from 0 to {count - 1}; got {short_repr(k)}.")
        parts: dict[str, Any] = {
            name: None if (part := getattr(self.stacked, name)) is None else part[..., column]
            for name in (*PER_REGION, "total")
        }
        return dataclasses.replace(self.stacked, **parts)

    def of_class(self, label: int) -> InfoMap:
        """One class as an :class:`InfoMap`, where every image was asked for it.

        Raises:
            ArgumentError: Some image was not asked for the class.
        """
        found = (self.classes == label).long()
        if not bool((found.sum(1) == 1).all()):
            raise ArgumentError(
                f"Expected `label` to be a class that every image was asked for; got "
                f"{short_repr(label)}."
            )
        column = found.argmax(1)
        rows = torch.arange(len(column))

        def pick(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            return part.movedim(-1, 1)[rows.to(part.device), column.to(part.device)]

        parts: dict[str, Any] = {
            name: pick(getattr(self.stacked, name)) for name in (*PER_REGION, "total")
        }
        return dataclasses.replace(self.stacked, **parts)

    def class_map(self) -> Any:
        """The class that each element's regions say most about; −1 where none is above 0.

        Returns:
            Long tensors of the inputs' type and shapes.
        """
        painted = [self.rank(k).painted() for k in range(self.classes.shape[1])]
        maps = []
        for parts in zip(*painted, strict=True):
            stacked = torch.stack(parts, 1)
            if self.stacked.superpixels is not None:
                stacked = averaged(stacked, self.stacked.superpixels)
            values, best = stacked.max(1)
            classes = self.classes.to(best.device)
            names = classes.gather(1, best.flatten(1)).reshape(best.shape)
            maps.append(torch.where(values > 0, names, -1))
        return format_output(self.stacked.is_tuple, tuple(maps))
