# The boxes of the picture that views change.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.incremental.boxes import (
    Box,
    BoxTable,
    Frame,
    Size,
    Spans,
    frame,
    ones,
    starts_and_stops,
)
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.traced import channels_last
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.imputers.imputer_protocol import Pictures
from captum_infomask.views.view_plan import ViewPlan

_MASKS_AT_ONCE, _PLACES_AT_ONCE = 64, 2**24


@dataclass(frozen=True, eq=False)
class Contents:
    """Views as changes of base pictures.

    Attributes:
        plan: The views.
        bases: The base pictures, (B, C, ...), one per image or one for all.
        source: The pixels of the views' regions, as a table with an entry per image or one for all;
            None if they depend on the view.
        spans: The smallest box around each view's region, (V, 2 n).
        are_full: Whether the regions fill those boxes.
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
    def size(self) -> Size:
        """The lengths of the picture."""
        return tuple(self.bases.shape[2:])

    def box(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Box:
        """Return the boxes that some views show."""
        spans = self.spans[rows]
        chosen = frame(spans, self.size)
        if self.source is None or chosen is None or not self._fill(chosen, spans):
            (pictures,) = draw(self.plan, torch.from_numpy(rows))
            return _cropped(pictures, chosen)
        images = None if len(self.source.values) == 1 else self.plan.images.numpy()[rows]
        values = self.source.window(images, chosen.origin, chosen.size, ones(chosen.size))
        return Box(values.movedim(-1, 1), chosen)

    def differences(self, rows: Tensor) -> tuple[Box, Spans]:
        """Return whole views of one base picture as boxes, and the spans that differ."""
        (pictures,) = draw(self.plan, rows)
        image = int(self.plan.images[rows[0]]) if len(self.bases) > 1 else 0
        differ = (pictures != self.bases[image]).any(1)
        same = ~differ.flatten(1).any(1)
        differ.movedim(0, -1)[(0,) * len(self.size)] |= same  # a box holds at least one pixel
        spans = _spans(differ)
        return _cropped(pictures, frame(spans, self.size)), spans

    def _fill(self, chosen: Frame, spans: Spans) -> bool:
        """Whether every region fills its box."""
        starts, stops = starts_and_stops(spans)
        return self.are_full and bool((stops - starts == np.array(chosen.size)).all())


def _cropped(pictures: Tensor, chosen: Frame | None) -> Box:
    if chosen is None:
        return Box(channels_last(pictures), None)
    table = _table(pictures)
    values = table.window(np.arange(len(pictures)), chosen.origin, chosen.size, ones(chosen.size))
    return Box(values.movedim(-1, 1), chosen)


def _table(pictures: Tensor) -> BoxTable:
    size = tuple(pictures.shape[2:])
    return BoxTable(pictures.movedim(1, -1).contiguous(), (0,) * len(size), size)


def _rectangles(plan: ViewPlan, rectangles: Tensor) -> Spans:
    assert plan.regions is not None, "as planned"
    images = plan.images if len(rectangles) > 1 else torch.zeros_like(plan.images)
    spans: Spans = rectangles[images, plan.regions].numpy()
    return spans


def _around(plan: ViewPlan) -> Spans:
    """Return the smallest box around each view's region."""
    assert plan.regions is not None, "as planned"
    device = plan.scene.inputs[0].device
    found = []
    shape = plan.scene.inputs[0].shape[1:]
    at_once = max(1, min(_MASKS_AT_ONCE, _PLACES_AT_ONCE // shape.numel()))
    for rows in torch.arange(len(plan)).split(at_once):
        (mask,) = plan.scene.regions.masks(plan.images[rows], plan.regions[rows], device)
        assert mask is not None, "every view has a region"
        found.append(_spans(mask.expand(len(rows), *shape).any(1)))
    return np.concatenate(found)


def _spans(marked: Tensor) -> Spans:
    """Return the smallest box around each row's marked places: bool (V, ...) → (V, 2 n)."""
    starts, stops = [], []
    left = marked.view(torch.uint8)  # its maximum takes a third of the time of `any`
    while left.dim() > 1:
        line = left.reshape(len(left), -1, left.shape[-1]).amax(1)
        starts.append(line.argmax(1))
        stops.append(line.shape[1] - line.flip(1).argmax(1))
        left = left.amax(-1)
    ends = [*reversed(starts), *reversed(stops)]
    spans: Spans = torch.stack(ends, dim=1).cpu().numpy()
    return spans
