# Imputers that take patches from other pictures of a data set.
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._batches import batches
from captum_infomask._checks import describe, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.imputers.imputer_protocol import Pictures, StandIn, float_places, wide
from captum_infomask.imputers.noise import Draw, order

Donors = Tensor | Iterable[Any]

_POOLS: dict[int, Any] = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def read_donors(images: Donors, limit: int) -> Tensor:
    """Pictures (D, C, H, W): the tensor given, or the first ``limit`` pictures of a loader."""
    positive_int("limit", limit)
    if isinstance(images, Tensor):
        return _checked(images)
    found: list[Tensor] = []
    for batch in batches(images, name="images", description="Donors", show_progress=False):
        pictures = _checked(batch[0] if isinstance(batch, tuple | list) and batch else batch)
        if found and pictures.shape[1:] != found[0].shape[1:]:
            raise ArgumentError(
                f"Expected `images` to yield pictures of one shape; got "
                f"{tuple(found[0].shape[1:])} and {tuple(pictures.shape[1:])}."
            )
        found.append(pictures)
        if sum(map(len, found)) >= limit:
            break
    return torch.cat(found)[:limit]


def _checked(pictures: object) -> Tensor:
    """Refuse anything but finite floating-point images."""
    if (
        not isinstance(pictures, Tensor)
        or pictures.dim() < 3
        or not pictures.dtype.is_floating_point
        or pictures.numel() == 0
    ):
        raise ArgumentError(
            f"Expected `images` to be floating-point images (D, C, H, W), signals (D, C, T) or "
            f"volumes, or a loader of such batches or of (images, labels); got "
            f"{describe(pictures)}."
        )
    if not bool(pictures.isfinite().all()):
        raise ArgumentError("Expected `images` to be finite; they hold NaN or infinity.")
    return pictures.detach()


def check_donors(imputer: str, donors: Tensor, inputs: Tensors) -> None:
    """Refuse inputs whose shape differs from the donors' shape."""
    float_places(imputer, inputs)
    if len(inputs) != 1 or inputs[0].shape[1:] != donors.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ArgumentError(
            f"Expected one input (N, {', '.join(map(str, donors.shape[1:]))}) for the imputer "
            f"{imputer}, as the shape of its `images` is; got {shapes}."
        )


def copies(donors: Tensor, inputs: Tensor) -> Tensor:
    """Which donors equal which input, to the inputs' precision: bool (n, D), on their device."""
    found = torch.zeros(len(inputs), len(donors), dtype=torch.bool, device=donors.device)
    for image, x in enumerate(inputs.to(donors.device)):
        # Few donors share a row of pixels with the picture. Only these are compared in full.
        alike = (donors[:, :, 0].to(x.dtype) == x[:, 0]).flatten(1).all(1).nonzero()[:, 0]
        found[image, alike] = (donors[alike].to(x.dtype) == x).flatten(1).all(1)
    return found


@dataclass(frozen=True, eq=False)
class MarginalPatches:
    """Hidden pixels take the values of the same place in another picture of a data set.

    This is a draw from the marginal distribution of the region, independent of its surroundings. It
    is a random imputer: each draw of a series takes another picture, in a random order, until all
    are used.

    Args:
        images: Pictures (D, C, H, W) like the inputs, with the same normalisation, on any device.
            Or a loader that yields such batches, or (images, labels); it is read once, here. Leave
            out the pictures that you want to explain.
        limit: The most pictures of a loader that are read and kept.

    Raises:
        ArgumentError: ``images`` has no such pictures, or has NaN; when used: the inputs have
            another shape.

    Example:
        >>> from captum_infomask.imputers import MarginalPatches
        >>> import torch
        >>> x, others = torch.rand(1, 3, 8, 8), torch.rand(5, 3, 8, 8)
        >>> (picture,) = MarginalPatches(others).draw(seed=0, index=2).prepare((x,)).pictures
        >>> bool((picture == others).flatten(1).all(1).any())
        True

    Source: Robnik-Šikonja & Kononenko, IEEE TKDE 20(5), 2008; the marginal sampling of Zintgraf et
    al., arXiv 1702.04595, Section 3; PredDiff, Blücher et al., arXiv 2102.13519.
    """

    images: Donors = field(repr=False)
    limit: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", read_donors(self.images, self.limit))

    def prepare(self, inputs: Tensors) -> StandIn:
        """The first draw of seed 0."""
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed: int, index: int) -> Draw:
        """The imputer with one picture."""
        return Draw(self._make, seed, index)

    def _make(self, inputs: Tensors, seed: int, index: int) -> Pictures:
        assert isinstance(self.images, Tensor), "as read"
        check_donors("MarginalPatches", self.images, inputs)
        donor = order(len(self.images), seed)[index % len(self.images)]
        return Pictures((self.images[donor : donor + 1].to(inputs[0]),))


@dataclass(frozen=True, eq=False)
class ConditionalPatches:
    r"""Hidden pixels take the values of the same place in a picture with similar surroundings.

    Pictures z of a data set are ordered by the Euclidean distance along the region's border B,

    .. math::

        d(x, z)^2 = \sum_{p \in B} \lVert x_p - z_p \rVert^2,

    where B holds the visible pixels within ``border`` of the region. By nearest neighbours, this is
    a draw of the region given its surroundings. It is a random imputer: the draws of a series take
    the nearest ``neighbours`` pictures, each once, in a random order, and then begin again. If
    everything is hidden, there is no border, and the draw is that of :class:`MarginalPatches`. A
    picture that equals the explained picture is left out.

    Args:
        images: As for :class:`MarginalPatches`; with more pictures, the neighbours are better.
        neighbours: The number of nearest pictures from which patches are drawn.
        border: The width of the border, in pixels.
        limit: The most pictures of a loader that are read and kept.

    Raises:
        ArgumentError: ``images`` has no such pictures, has NaN, or has fewer pictures than
            ``neighbours``; a setting is not an integer of at least 1; when used: the inputs have
            another shape, or fewer than ``neighbours`` pictures differ from one of them.

    Example:
        >>> from captum_infomask.imputers import ConditionalPatches
        >>> import torch
        >>> others = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
        >>> x = torch.full((1, 1, 8, 8), 0.6)
        >>> hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> hidden[..., 2:5, 2:5] = True
        >>> stand_in = ConditionalPatches(others, neighbours=1).prepare((x,))
        >>> stand_in(torch.tensor([0]), (hidden,))[0].unique().item()
        0.5

    Source: the conditional sampling of Zintgraf et al., arXiv 1702.04595, Section 3, and PredDiff,
    Blücher et al., arXiv 2102.13519, with nearest neighbours instead of their normal distribution.
    """

    images: Donors = field(repr=False)
    neighbours: int = 8
    border: int = 4
    limit: int = 256

    def __post_init__(self) -> None:
        positive_int("neighbours", self.neighbours)
        positive_int("border", self.border)
        donors = read_donors(self.images, self.limit)
        if len(donors) < self.neighbours:
            raise ArgumentError(
                f"Expected `images` to hold at least `neighbours`={self.neighbours} pictures; got "
                f"{len(donors)}."
            )
        object.__setattr__(self, "images", donors)

    def prepare(self, inputs: Tensors) -> StandIn:
        """The first draw of seed 0."""
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed: int, index: int) -> Draw:
        """The imputer that takes each region's neighbour of one rank."""
        return Draw(self._make, seed, index)

    def _make(self, inputs: Tensors, seed: int, index: int) -> StandIn:
        assert isinstance(self.images, Tensor), "as read"
        donors = self.images
        check_donors("ConditionalPatches", donors, inputs)
        own = copies(donors, inputs[0].detach())
        fewest = int((~own).sum(1).min())
        if fewest < self.neighbours:
            raise ArgumentError(
                f"Expected `images` with at least `neighbours`={self.neighbours} pictures other "
                f"than the one explained; got {fewest}."
            )
        rank = order(self.neighbours, seed)[index % self.neighbours]
        turns = order(len(donors), seed)
        turns = turns[index % len(turns) :] + turns[: index % len(turns)]
        return _Nearest(inputs[0].detach(), donors, own, self.border, rank, turns)


@dataclass(frozen=True, eq=False)
class _Nearest:
    """The stand-in of one draw.

    Attributes:
        inputs: (n, C, H, W).
        donors: (D, C, H, W).
        copies: Which donors equal which input, bool (n, D).
        border: The width of the border.
        rank: The rank of the donor among the nearest, from 0.
        turns: The order of the donors if there is no border.
    """

    inputs: Tensor
    donors: Tensor
    copies: Tensor
    border: int
    rank: int
    turns: list[int]

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Each view's donor."""
        (mask,) = hidden
        if mask is None:
            return (self.inputs[:1],)
        size = 2 * self.border + 1
        mask = mask.expand(len(images), -1, *self.inputs.shape[2:])
        pool = _POOLS[mask.dim()]
        near = pool(mask.float(), size, stride=1, padding=self.border) > 0
        pairs = zip(images.tolist(), near & ~mask, strict=True)
        found = [self._donor(image, ring) for image, ring in pairs]
        return (self.donors[found].to(self.inputs),)

    def _donor(self, image: int, ring: Tensor) -> int:
        picture = self.inputs[image]
        places = ring.expand(picture.shape).flatten().nonzero()[:, 0]
        if len(places) == 0:
            return next(donor for donor in self.turns if not self.copies[image, donor])
        here = wide(picture.flatten()[places]).to(self.donors.device)
        there = self.donors.flatten(1).index_select(1, places.to(self.donors.device))
        distances = (wide(there) - here).square().sum(1)
        distances = distances.masked_fill(self.copies[image], torch.inf)
        return int(distances.argsort(stable=True)[self.rank])
