# How far an engine's logits lie from those of float64 forward passes, and what a window changes.
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from subjects import Subject, drawn
from torch import Tensor

from captum_infomask import Constant
from captum_infomask.engines.choose_engine import choose_engine
from captum_infomask.engines.engine_protocol import Call, Engine
from captum_infomask.regions.box_regions import BoxRegions
from captum_infomask.views.view_plan import Scene, ViewPlan


def with_corners(windows: BoxRegions, count: int) -> BoxRegions:
    """The windows in the four corners of a grid, and others at random, ``count`` in all."""
    boxes = windows.boxes[0]
    side = round(len(boxes) ** 0.5)
    corners = boxes[[0, side - 1, len(boxes) - side, len(boxes) - 1]]
    some = torch.cat([corners, drawn(windows, count - 4).boxes[0]])
    return BoxRegions(windows.shapes, (some,))


@torch.no_grad()
def exactness(subject: Subject, engines: Mapping[str, str | Engine], count: int) -> dict[str, Any]:
    """Errors of the logits of `drop`, by engine and of plain passes, against float64.

    Returns:
        ``scale``: the largest logit; ``effects``: for each window, the most that hiding it
        changes a logit; ``errors``: for each engine, what ran and its error at each window.
    """
    windows = with_corners(subject.windows, count)
    views = _hidden(subject.picture, windows)
    wide = copy.deepcopy(subject.network).double()
    wanted = torch.cat([wide(view[None].double()) for view in views])
    whole = wide(subject.picture.double())
    found = {name: _logits(subject, windows, engine) for name, engine in engines.items()}
    found["plain"] = ("plain", torch.cat([subject.network(view[None]) for view in views]))
    return {
        "scale": float(wanted.abs().max()),
        "effects": _largest(wanted - whole),
        "errors": {
            name: {"ran": ran, "errors": _largest(logits.double() - wanted)}
            for name, (ran, logits) in found.items()
        },
    }


def _hidden(picture: Tensor, windows: BoxRegions) -> Tensor:
    """The picture once for each window, with 0 in it."""
    views = picture.repeat(len(windows), 1, 1, 1)
    for view, ((_, _), (y0, y1), (x0, x1)) in zip(views, windows.boxes[0].tolist(), strict=True):
        view[:, y0:y1, x0:x1] = 0
    return views


def _logits(subject: Subject, windows: BoxRegions, engine: str | Engine) -> tuple[str, Tensor]:
    """What ran, and its logits for each window."""
    inputs = (subject.picture,)
    scene = Scene(inputs, windows, Constant(0.0).prepare(inputs))
    rows = torch.arange(len(windows))
    plan = ViewPlan(scene, "region", torch.zeros_like(rows), rows)
    running = choose_engine(engine, None).start(Call(subject.network))
    chunks = list(running.run(plan))
    order = torch.cat([rows for rows, _ in chunks]).argsort()
    return running.name, torch.cat([output for _, output in chunks])[order]


def _largest(differences: Tensor) -> list[float]:
    return differences.abs().amax(1).tolist()
