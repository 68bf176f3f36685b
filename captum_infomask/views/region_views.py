# The views that show or hide regions: `crop`, `keep`, `drop` and `features`.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.regions.map_cells import span_channels
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import Scales, scales_of
from captum_infomask.scores.readings import Reading
from captum_infomask.views.view_plan import (
    Blank,
    Needs,
    Scene,
    ViewPlan,
    all_imputed,
    or_windows,
    over_regions,
    region_pairs,
)

_ELSE = "Pass view='drop' or view='keep'."


@dataclass(frozen=True)
class Crop:
    """The region cut out and resized: i(y; x_R), the paper's T(x_i, y).

    Attributes:
        sizes: The size that regions are resized to: (height, width), or one number or three for
            signals or volumes, ``native`` for no resizing, or None for the images' own size. There
            is one for all regions, or one per scale.
        margin: The margin that is shown around a region on each side, as a share of the region's
            own sides.
        reference: ``prior`` takes the value as it is. ``blank`` subtracts the value of the
            all-imputed picture at the same size.
        n_samples: Samples of a stochastic network, or draws of rectangles; None for a single pass,
            or the usual number of draws.
        jitter: The most that each edge of a rectangle moves at random, as a share of the region's
            own side; 0 moves nothing.
        seed: The seed of these moves.
    """

    sizes: tuple[tuple[int, ...] | str | None, ...] = (None,)
    margin: float = 0.0
    reference: str = "prior"
    n_samples: int | None = None
    jitter: float = 0.0
    seed: int = 0
    over_orders = False
    name = "crop"

    @property
    def needs(self) -> Needs:
        """Crops are lone parts; with a jitter, they are drawn."""
        return Needs(lone_parts=True, draws=self.jitter > 0)

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or windows; one set for each of several sizes."""
        regions = or_windows(asked, inputs)
        if len(self.sizes) == 1:
            return regions
        if not isinstance(regions, Scales):
            return Scales((regions,) * len(self.sizes))
        if len(regions.parts) != len(self.sizes):
            raise ArgumentError(
                f"Expected `crop_size` to be one size, or a list with one for each of the "
                f"{len(regions.parts)} scales; got {len(self.sizes)} sizes."
            )
        return regions

    def check(self, scene: Scene) -> None:
        """Refuse inputs without places, regions that are not boxes, and sizes of other places."""
        inputs = scene.inputs
        if len(inputs) != 1 or inputs[0].dim() < 3:
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise ArgumentError(
                f"Expected `inputs` to be one tensor of images (N, C, H, W), signals (N, C, T) or "
                f"volumes (N, C, D, H, W) for view='crop'; got {shapes}. {_ELSE}"
            )
        for size in self.sizes:
            check_sides(size, inputs[0].dim() - 2)
        if scene.regions.rectangles() is None:
            raise ArgumentError(
                "Expected regions that are rectangles over all channels for view='crop'; got "
                f"regions that are not. {_ELSE}"
            )

    def plan(self, scene: Scene) -> ViewPlan:
        """Cut out each region's rectangle, moved as the scene's draw says."""
        images, regions = region_pairs(scene)
        rectangles = self._rectangles(scene)
        if self.jitter:
            assert scene.draw is not None, "it is drawn"
            rectangles = self._moved(scene, rectangles, scene.draw)
        cuts = rectangles[images if len(rectangles) > 1 else 0, regions]
        sizes = self._sizes(scene, cuts, scales_of(scene.regions)[regions])
        return ViewPlan(scene, "nothing", images, regions, cuts, sizes)

    def blank(self, scene: Scene) -> Blank | None:
        """Show each image all imputed, at every size that its regions are shown at.

        With the size ``native`` and a jitter it is the size of a region that has not moved.
        """
        if self.reference == "prior":
            return None
        n, *places = len(scene.inputs[0]), *scene.inputs[0].shape[2:]
        rectangles = self._rectangles(scene).expand(n, -1, -1)
        shown = self._sizes(scene, rectangles, scales_of(scene.regions))
        sizes, which = shown.reshape(-1, len(places)).unique(dim=0, return_inverse=True)
        cuts = torch.tensor([*[0] * len(places), *places]).expand(n * len(sizes), -1)
        plan = ViewPlan(
            scene,
            "everything",
            scene.images.repeat_interleave(len(sizes)),
            cuts=cuts,
            sizes=sizes.repeat(n, 1),
        )
        index = scene.images[:, None] * len(sizes) + which.reshape(n, -1)
        return Blank(plan, index)

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return i(y; x_R); with the reference ``blank``, i(y; all-imputed) is subtracted."""
        shown = over_regions(plan, shown)
        return shown if blank is None else shown.minus(blank)

    def _rectangles(self, scene: Scene) -> Tensor:
        rectangles = scene.regions.rectangles()
        assert rectangles is not None, "check() comes first"
        first, last = rectangles.chunk(2, dim=-1)
        around = ((last - first) * self.margin).round().long()
        frame = torch.tensor(scene.inputs[0].shape[2:])
        return torch.cat([(first - around).clamp_min(0), (last + around).minimum(frame)], dim=-1)

    def _moved(self, scene: Scene, rectangles: Tensor, draw: int) -> Tensor:
        """Move each edge of the boxes (..., 2 · D) at random; each keeps at least one pixel.

        The moves depend on the seed, the draw and the rectangle alone. So an image has the same in
        a batch as alone, and equal regions of several scales move together.
        """
        own = scene.regions.rectangles()
        assert own is not None, "check() comes first"
        ends = own.shape[-1]
        distinct, which = own.reshape(-1, ends).unique(dim=0, return_inverse=True)
        shares = np.stack(
            [
                np.random.default_rng((self.seed, draw, *edges)).uniform(-1, 1, ends)
                for edges in distinct.tolist()
            ]
        )
        first, last = distinct.chunk(2, dim=1)
        moves = (torch.from_numpy(shares) * self.jitter * (last - first).repeat(1, 2)).round()
        first, last = (rectangles + moves.long()[which].reshape(own.shape)).chunk(2, dim=-1)
        frame = torch.tensor(scene.inputs[0].shape[2:])
        first = first.clamp_min(0).minimum(frame - 1)
        return torch.cat([first, last.minimum(frame).maximum(first + 1)], dim=-1)

    def _sizes(self, scene: Scene, cuts: Tensor, scales: Tensor) -> Tensor:
        """Return the new size, (..., D), of each cut (..., 2 · D), by the scale of its region."""
        first, last = cuts.chunk(2, dim=-1)
        own = (last - first).clamp_min(1)
        frame = torch.tensor(scene.inputs[0].shape[2:])
        options = [
            own if size == "native" else torch.tensor(size or frame.tolist()).expand_as(own)
            for size in self.sizes
        ]
        chosen = scales.clamp_max(len(options) - 1)
        return torch.stack(options).gather(0, chosen[..., None].expand_as(own)[None])[0]


def check_sides(size: tuple[int, ...] | str | None, places: int) -> None:
    """Refuse a ``crop_size`` with another number of sides than the inputs have places."""
    if not isinstance(size, tuple) or len(size) == places:
        return
    wanted = {1: "a length", 2: "(height, width)", 3: "(depth, height, width)"}
    given, hint = size[0] if len(size) == 1 else size, ""
    if len(size) == 1:
        hint = f" Did you mean {size * places}?"
    elif len(size) == places + 1:
        hint = f" Did you mean {size[1:]}?"
    raise ArgumentError(
        f"Expected `crop_size` to be {wanted.get(places, f'{places} sides')}, 'native' or None; "
        f"got {given}.{hint}"
    )


@dataclass(frozen=True)
class Keep:
    """The region in place, all else imputed: i(y; x_R), counted from the all-imputed view.

    Attributes:
        reference: ``blank`` subtracts the all-imputed view's value; ``prior`` takes the value as it
            is.
        n_samples: Samples of a stochastic network; None for a single pass.
    """

    reference: str = "blank"
    n_samples: int | None = None
    over_orders = False
    name = "keep"
    needs = Needs(lone_parts=True)

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or windows."""
        return or_windows(asked, inputs)

    def check(self, scene: Scene) -> None:
        """Accept any scene."""

    def plan(self, scene: Scene) -> ViewPlan:
        """Show each region with the rest hidden."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "rest", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """Show one all-imputed view for each image."""
        if self.reference == "prior":
            return None
        return all_imputed(scene)

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return i(y; x_R in place) − i(y; all-imputed)."""
        shown = over_regions(plan, shown)
        return shown if blank is None else shown.minus(blank)


@dataclass(frozen=True)
class Drop:
    """The image, the region imputed: i(y; x_R given the rest) = i(y; x) − i(y; x without R).

    Attributes:
        n_samples: Samples of a stochastic network; None for a single pass.
    """

    n_samples: int | None = None
    over_orders = False
    name = "drop"
    needs = Needs()

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or windows."""
        return or_windows(asked, inputs)

    def check(self, scene: Scene) -> None:
        """Accept any scene."""

    def plan(self, scene: Scene) -> ViewPlan:
        """Show each image with one region hidden."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "region", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """Return None: a difference needs no reference."""
        return None

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return i(y; x) − i(y; x without R)."""
        return total.map(lambda part: part[:, None]).minus(over_regions(plan, shown))


@dataclass(frozen=True)
class Features:
    r"""The region's features in place of the whole picture's: i(y; f_R).

    .. math::

        f_R = \sum_c a_R(c)\, f(c), \qquad a_R(c) = |R \cap c| \,/\, |R|,

    with f the last feature map. The end of the network sees only the mean of f over all cells c. A
    cell has seen more of the picture than lies under it, so f_R also tells of R's surroundings.

    Source: infoCAM (Qin, Kim & Gedeon, arXiv 2106.10472), with the log-partition kept.
    """

    name = "features"
    n_samples = None
    over_orders = False
    needs = Needs(engine="features")

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or windows."""
        return or_windows(asked, inputs)

    def check(self, scene: Scene) -> None:
        """Refuse feature maps by channel: they have the picture's places but not its channels."""
        if len(scene.inputs) != 1 or scene.inputs[0].dim() < 3:
            shapes = ", ".join(str(tuple(x.shape)) for x in scene.inputs)
            raise ArgumentError(
                f"Expected `inputs` to be one tensor of images (N, C, H, W), signals (N, C, T) or "
                f"volumes (N, C, D, H, W) for view='features'; got {shapes}."
            )
        if not span_channels(scene.regions, *region_pairs(scene)):
            raise ArgumentError(
                "Expected regions over all channels for view='features'; got some over a part of "
                "them. Pass view='drop' or view='keep'."
            )

    def plan(self, scene: Scene) -> ViewPlan:
        """Show each region's features."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "features", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """Return None: nothing is imputed."""
        return None

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return i(y; f_R)."""
        return over_regions(plan, shown)
