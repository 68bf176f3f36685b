# The boxes of the picture that views change.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.incremental.boxes import Box, BoxTable, Frame, Pair, Spans, frame
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.imputers.imputer_protocol import Pictures
from captum_infomask.views.view_plan import ViewPlan

_MASKS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Contents:
    """Views as changes of base pictures.

    Attributes:
        plan: The views.
        bases: The base pictures, (B, C, H, W), one per image or one for all.
        source: The pixels of the views' regions, as a table with an entry per image or one for all;
            None if they depend on the view.
        spans: The smallest rectangle around each view's region, (V, 4).
        are_full: Whether the regions fill those rectangles.
    """

    plan: ViewPlan
    bases: Tensor
    source: BoxTable | None
    spans: Spans
    are_full: bool

    @classmethod
    def of(cls, plan: ViewPlan) -> Contents:
        """Read a plan whose views hide a region of an image, or all but some regions.

        Raises:
            StandsAside: The views have no base picture.
        """
        (images,) = plan.scene.inputs
        stand_in = plan.scene.stand_in
        imputed = None
        if isinstance(stand_in, Pictures):
            (picture,) = stand_in.pictures
            imputed = picture.expand(-1, *images.shape[1:])
        bases, source = images, imputed
        if plan.hidden != "region":
            if imputed is None:
                raise StandsAside("what the imputer puts in depends on what is hidden")
            bases, source = imputed, images
        rectangles = plan.scene.regions.rectangles()
        spans = _around(plan) if rectangles is None else _rectangles(plan, rectangles)
        table = None if source is None else _table(source)
        return cls(plan, bases, table, spans, rectangles is not None)

    @property
    def size(self) -> Pair:
        """The height and width of the picture."""
        return (self.bases.shape[2], self.bases.shape[3])

    def box(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Box:
        """Return the boxes that some views show."""
        spans = self.spans[rows]
        chosen = frame(spans, self.size)
        if self.source is None or chosen is None or not self._fill(chosen, spans):
            (pictures,) = draw(self.plan, torch.from_numpy(rows))
            return _cropped(pictures, chosen)
        images = None if len(self.source.values) == 1 else self.plan.images.numpy()[rows]
        values = self.source.window(images, chosen.origin, chosen.size, (1, 1))
        return Box(values.permute(0, 3, 1, 2), chosen)

    def differences(self, rows: Tensor) -> tuple[Box, Spans]:
        """Return whole views of one base picture as boxes, and the rectangles that differ."""
        (pictures,) = draw(self.plan, rows)
        image = int(self.plan.images[rows[0]]) if len(self.bases) > 1 else 0
        differ = (pictures != self.bases[image]).any(1).cpu()
        differ[:, 0, 0] |= ~differ.flatten(1).any(1)  # a box holds at least one pixel
        rows_of, columns_of = _ends(differ.any(2)), _ends(differ.any(1))
        edges = [rows_of[0], columns_of[0], rows_of[1], columns_of[1]]
        spans: Spans = torch.stack(edges, dim=1).numpy()
        return _cropped(pictures, frame(spans, self.size)), spans

    def _fill(self, chosen: Frame, spans: Spans) -> bool:
        """Whether every region fills its box."""
        lengths = spans[:, 2:] - spans[:, :2]
        return self.are_full and bool((lengths == np.array(chosen.size)).all())


def _cropped(pictures: Tensor, chosen: Frame | None) -> Box:
    if chosen is None:
        return Box(pictures.contiguous(memory_format=torch.channels_last), None)
    table = _table(pictures)
    values = table.window(np.arange(len(pictures)), chosen.origin, chosen.size, (1, 1))
    return Box(values.permute(0, 3, 1, 2), chosen)


def _table(pictures: Tensor) -> BoxTable:
    size = (pictures.shape[2], pictures.shape[3])
    return BoxTable(pictures.permute(0, 2, 3, 1).contiguous(), (0, 0), size)


def _rectangles(plan: ViewPlan, rectangles: Tensor) -> Spans:
    assert plan.regions is not None, "as planned"
    images = plan.images if len(rectangles) > 1 else torch.zeros_like(plan.images)
    spans: Spans = rectangles[images, plan.regions].numpy()
    return spans


def _around(plan: ViewPlan) -> Spans:
    """Return the smallest rectangle around each view's region."""
    assert plan.regions is not None, "as planned"
    device = plan.scene.inputs[0].device
    found = []
    for rows in torch.arange(len(plan)).split(_MASKS_AT_ONCE):
        (mask,) = plan.scene.regions.masks(plan.images[rows], plan.regions[rows], device)
        assert mask is not None, "every view has a region"
        mask = mask.expand(len(rows), *plan.scene.inputs[0].shape[1:]).any(1)
        edges = [_ends(mask.any(2)), _ends(mask.any(1))]
        found.append(torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1))
    spans: Spans = torch.cat(found).cpu().numpy()
    return spans


def _ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's first marked place, and the place after the last: (V, L) → (V,), (V,)."""
    places = marked.long()
    return places.argmax(1), marked.shape[1] - places.flip(1).argmax(1)
