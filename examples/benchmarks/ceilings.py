# What exactness allows: the multiplications of a view's boxes beside those of its whole picture.
#
#     python examples/benchmarks/ceilings.py --models mobilenet_v2 resnet18
#
# No exact engine can be faster than the tight boxes multiplied at the rate of the processor. That
# rate is taken from the network's own 1 × 1 convolutions, each run alone, over and over.
from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from machine import machine
from networks import NETWORKS, network
from speed_tables import markdown
from torch.nn import functional as F

from captum_infomask import sliding_windows
from captum_infomask.engines.incremental.boxes import NEARLY_ALL
from captum_infomask.engines.incremental.incremental_network import BoxNetwork
from captum_infomask.engines.incremental.views_in_chunks import CostModel, chunks_of
from captum_infomask.engines.traced import folded, traced

_VIEWS, _REPEATS = 26, 9


@dataclass(frozen=True)
class Ceiling:
    """Multiplications per view, in millions, and how fast the processor does them.

    Attributes:
        whole: Of the whole picture.
        tight: Of boxes that fit each view.
        run: Of the boxes that the engine computes, in chunks.
        rate: Multiplications in a second, in 10⁹, of the 1 × 1 convolutions; NaN where there
            are none.
    """

    whole: float
    tight: float
    run: float
    rate: float

    @property
    def seconds(self) -> float:
        """A view's tight boxes at that rate, with nothing else to do."""
        return self.tight / self.rate / 1000


def ceiling(name: str, window: int, stride: int, side: int = 224, most: int = 32) -> Ceiling:
    """Count a network's multiplications for `drop` with square windows, and measure the rate."""
    picture = torch.randn(1, 3, side, side)
    built = network(name, side, calibrate=False)
    boxes = BoxNetwork(folded(traced(built)), picture, winograd=False)
    model = CostModel.of(boxes)
    rectangles = sliding_windows(picture, (3, window, window), (3, stride, stride)).rectangles()
    assert rectangles is not None, "windows are rectangles"
    lengths = model.lengths(boxes.spans(rectangles[0].numpy()))
    found = [step for step in boxes.steps if step.node in boxes.known.maps and step.found]
    per_position = np.array(
        [0.0, *(s.found[0].operation.cost * boxes.known.channels(s.node) for s in found)]
    )
    positions = model.sizes.prod(1)
    run = 0.0
    for rows in chunks_of(model, lengths, most):
        areas = lengths[rows].max(0).prod(-1)
        computed = np.where(areas >= NEARLY_ALL * positions, positions, areas)
        run += len(rows) * float((computed * per_position).sum())
    tight = float((lengths.prod(-1) * per_position).sum()) / len(lengths)
    whole = float((positions * per_position).sum())
    shapes = {
        (*each.weight.shape[:2], *boxes.known.size(step.node))
        for step in found
        for each in [boxes.known.modules.get(str(step.node.target))]
        if isinstance(each, torch.nn.Conv2d) and each.kernel_size == (1, 1) and each.groups == 1
    }
    return Ceiling(whole / 1e6, tight / 1e6, run / len(lengths) / 1e6, rate(shapes))


@torch.inference_mode()
def rate(shapes: set[tuple[int, ...]]) -> float:
    """The fastest of some 1 × 1 convolutions, (C_out, C_in, h, w) each, in 10⁹ per second."""
    rates = []
    for made, read, height, width in sorted(shapes):
        maps = torch.randn(_VIEWS, read, height, width)
        maps = maps.contiguous(memory_format=torch.channels_last)
        weight, seconds = torch.randn(made, read, 1, 1), []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            F.conv2d(maps, weight)
            seconds.append(time.perf_counter() - start)
        rates.append(maps.numel() * made / min(seconds) / 1e9)
    return max(rates, default=float("nan"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Count what exact engines have to compute.")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=["mobilenet_v2"])
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--stride", type=int, default=8)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{machine('cpu')}\n")
    head = ["network", "whole", "tight", "as run", "whole / tight", "10⁹ a second", "tight, ms"]
    rows = []
    for name in options.models:
        found = ceiling(name, options.window, options.stride)
        counts = [f"{count:.1f} M" for count in (found.whole, found.tight, found.run)]
        rest = [f"{found.whole / found.tight:.2f}", f"{found.rate:.1f}"]
        rows.append([name, *counts, *rest, f"{1000 * found.seconds:.1f}"])
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
