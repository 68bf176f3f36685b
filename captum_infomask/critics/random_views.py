# Random views of pictures, like the views of attributions. A critic is fitted on these.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import describe, one_of, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.regions.label_regions import LabelRegions
from captum_infomask.views.view_plan import Scene, ViewPlan

VIEWS = ("windows", "patches", "rest", "crops")
WHOLE, BLANK = "whole", "blank"
_KINDS = (*VIEWS, WHOLE, BLANK)

# Shares of the picture's shorter side: 7 and 10 pixels of 28, 28 to 112 pixels of 224.
_SIZES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)


@dataclass(frozen=True)
class RandomViews:
    """The random views of a picture.

    Attributes:
        kinds: Any of ``windows`` (a window in place, all else imputed: what ``keep`` shows),
            ``patches`` (a random set of patches, of random density: what ``chain`` shows),
            ``rest`` (a window imputed: what ``drop`` shows) and ``crops`` (a window cut out).
        sizes: (height, width) of the windows and patches, in pixels.
        crop_size: (height, width) that crops are resized to, ``native`` for no resizing, or None
            for the pictures' own size.
        imputer: Replaces hidden pixels.
        strides: Steps between the places of windows and patches, down and across, in pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.critics.random_views import RandomViews
        >>> from captum_infomask.engines.pixels import draw
        >>> from captum_infomask.imputers import Constant
        >>> views = RandomViews(("windows",), ((2, 2),), None, Constant(0))
        >>> plan = views.plan(torch.ones(3, 1, 8, 8), torch.Generator().manual_seed(0))
        >>> draw(plan, torch.arange(3))[0].sum((1, 2, 3))
        tensor([4., 4., 4.])
    """

    kinds: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    crop_size: tuple[int, ...] | str | None
    imputer: Imputer
    strides: tuple[int, int] = (1, 1)

    def rows(self) -> list[tuple[str, tuple[int, int] | None]]:
        """Every kind at every size, the whole picture, and the all-imputed picture."""
        return [
            (WHOLE, None),
            *((kind, size) for kind in self.kinds for size in self.sizes),
            (BLANK, None),
        ]

    def plan(self, images: Tensor, generator: torch.Generator) -> ViewPlan:
        """One view of each picture (n, C, H, W), of a kind and size drawn uniformly."""
        n = len(images)
        kinds = torch.tensor([_KINDS.index(kind) for kind in self.kinds])
        sizes = torch.tensor(self.sizes)
        drawn = torch.randint(len(kinds), (n,), generator=generator)
        measured = torch.randint(len(sizes), (n,), generator=generator)
        return self._plan(images, kinds[drawn], sizes[measured], generator)

    def plan_row(
        self,
        images: Tensor,
        row: tuple[str, tuple[int, int] | None],
        generator: torch.Generator,
    ) -> ViewPlan:
        """One view of each picture, all of the same kind and size."""
        kind, size = row
        kinds = torch.tensor(_KINDS.index(kind)).expand(len(images))
        return self._plan(
            images, kinds, torch.tensor(size or (1, 1)).expand(len(images), 2), generator
        )

    def _plan(
        self, images: Tensor, kinds: Tensor, sizes: Tensor, generator: torch.Generator
    ) -> ViewPlan:
        frame, strides = torch.tensor(images.shape[2:]), torch.tensor(self.strides)
        corners = _uniform((frame - sizes) // strides + 1, generator) * strides
        inside = _spans(corners, corners + sizes, frame)
        lit = _patches(sizes, strides, frame, generator)
        nothing, everything = torch.zeros_like(inside), torch.ones_like(inside)
        choices = {"windows": ~inside, "patches": ~lit, "rest": inside, BLANK: everything}
        options = torch.stack([choices.get(kind, nothing) for kind in _KINDS])
        rows = torch.arange(len(images))
        labels = options[kinds, rows].long()[:, None]  # 0 means shown, 1 means hidden
        scene = Scene(
            (images,),
            LabelRegions((tuple(images.shape[1:]),), (labels,), torch.arange(2)),
            self.imputer.prepare((images,)),
        )
        hidden = torch.ones_like(rows)
        if "crops" not in self.kinds:
            return ViewPlan(scene, "region", rows, hidden)
        crop = (kinds == _KINDS.index("crops"))[:, None]
        corner = torch.cat([torch.zeros_like(frame), frame])
        cuts = torch.where(crop, torch.cat([corners, corners + sizes], dim=1), corner)
        if self.crop_size == "native":
            return ViewPlan(scene, "region", rows, hidden, cuts, cuts[:, 2:] - cuts[:, :2])
        resized = frame if self.crop_size is None else torch.tensor(self.crop_size)
        return ViewPlan(scene, "region", rows, hidden, cuts, torch.where(crop, resized, frame))


def check_kinds(views: object) -> tuple[str, ...]:
    """Return the kinds of views to fit on: one or more of ``VIEWS``, each once."""
    if not isinstance(views, tuple | list) or not views or len(set(map(str, views))) < len(views):
        raise ArgumentError(
            f"Expected `views` to name at least one of {', '.join(map(repr, VIEWS))}, each once; "
            f"got {describe(views)}."
        )
    return tuple(one_of("views", kind, VIEWS) for kind in views)


def check_window_shapes(window_shapes: object) -> tuple[tuple[int, int], ...] | None:
    """Return the windows as (height, width) each, or None for the default sizes."""
    if window_shapes is None:
        return None
    if not isinstance(window_shapes, tuple | list) or not window_shapes:
        raise ArgumentError(
            f"Expected `window_shapes` to be a list of sides or of (height, width), in pixels; got "
            f"{describe(window_shapes)}."
        )
    pairs = [shape if isinstance(shape, tuple | list) else (shape,) * 2 for shape in window_shapes]
    if any(len(pair) != 2 for pair in pairs):
        raise ArgumentError(
            f"Expected `window_shapes` to hold sides or (height, width), without channels; got "
            f"{describe(window_shapes)}."
        )
    return tuple(
        (positive_int("window_shapes", height), positive_int("window_shapes", width))
        for height, width in pairs
    )


def check_strides(strides: object) -> tuple[int, int]:
    """Return the steps down and across."""
    pair = strides if isinstance(strides, tuple | list) else (strides, strides)
    if len(pair) != 2:
        raise ArgumentError(
            f"Expected `strides` to be a number of pixels or (down, across); got "
            f"{describe(strides)}."
        )
    return positive_int("strides", pair[0]), positive_int("strides", pair[1])


def sizes_for(
    shape: Shape, window_shapes: tuple[tuple[int, int], ...] | None
) -> tuple[tuple[int, int], ...]:
    """The sizes of windows for pictures of a shape (C, H, W); refuse windows that do not fit."""
    height, width = shape[1:]
    if window_shapes is None:
        sides = sorted({max(1, int(share * min(height, width))) for share in _SIZES})
        return tuple((side, side) for side in sides)
    for window in window_shapes:
        if window[0] > height or window[1] > width:
            raise ArgumentError(
                f"Expected `window_shapes` of at most {height} × {width}, the pictures of "
                f"`loader`; got {window[0]} × {window[1]}."
            )
    return window_shapes


def _uniform(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from 0 to count − 1 for each of the counts, long."""
    return (torch.rand(counts.shape, generator=generator, dtype=torch.float64) * counts).long()


def _spans(start: Tensor, stop: Tensor, frame: Tensor) -> Tensor:
    """Which pixels of the frame lie between the corners (n, 2): bool (n, H, W)."""
    down, across = (
        (place >= start[:, side, None]) & (place < stop[:, side, None])
        for side, place in enumerate(map(torch.arange, frame.tolist()))
    )
    return down[:, :, None] & across[:, None, :]


def _patches(sizes: Tensor, strides: Tensor, frame: Tensor, generator: torch.Generator) -> Tensor:
    """A random set of patches for each picture, from a grid at a random offset: bool (n, H, W).

    The density of a set is uniform in [0, 1], so empty and full sets occur too.
    """
    offsets = _uniform((sizes - 1) // strides + 1, generator) * strides
    rows, columns = (
        (torch.arange(size) + offsets[:, side, None]) // sizes[:, side, None]
        for side, size in enumerate(frame.tolist())
    )
    density = torch.rand((len(sizes), 1, 1), generator=generator)
    shown = (
        torch.rand(
            (len(sizes), int(rows.max()) + 1, int(columns.max()) + 1),
            generator=generator,
        )
        < density
    )
    picture = torch.arange(len(sizes))[:, None, None]
    return shown[picture, rows[:, :, None], columns[:, None, :]]
