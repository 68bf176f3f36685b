# Grids of pictures of different classes: GridPG, DiPart and DiFull.
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from .cases import Case, Subject
from .clutter import SIDE, Clutter, normalised
from .in_clutter import drawn, small
from .others import resized
from .pasted import BEST, lite, pixels_to_input
from .photographs import KNOWN, photograph, square
from .small_networks import Lab

Box = tuple[int, int, int, int]  # top, left, bottom, right


class FullyApart(nn.Module):
    """DiFull: the network sees one cell of the grid and nothing else."""

    def __init__(self, network: nn.Module, box: Box) -> None:
        super().__init__()
        self.network, self.box = network, box

    def forward(self, pictures: Tensor) -> Tensor:
        top, left, bottom, right = self.box
        logits: Tensor = self.network(pictures[..., top:bottom, left:right])
        return logits


class PartlyApart(nn.Module):
    """DiPart: the features are the whole grid's, the pooling sees those of one cell."""

    def __init__(self, body: nn.Module, head: nn.Module, box: Box, side: int) -> None:
        super().__init__()
        self.body, self.head, self.box, self.side = body, head, box, side

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.body(pictures)
        scale = features.shape[-1] / self.side
        top, left, bottom, right = (round(edge * scale) for edge in self.box)
        logits: Tensor = self.head(features[..., top:bottom, left:right])
        return logits


def small_grid(kind: str, cells: int, aligned: bool, count: int, lab: Lab) -> Subject:
    """Grids of digits in clutter, for the small residual network."""
    network = small("residual", lab)
    by_class = _surest(network, drawn(lab, 600, seed=3))
    random = np.random.default_rng(0)

    def grid() -> tuple[Tensor, dict[int, Box]]:
        classes = [int(k) for k in random.choice(10, cells**2, replace=False)]
        chosen = [by_class[k][random.integers(len(by_class[k]))][None] for k in classes]
        return assembled(dict(zip(classes, chosen, strict=True)), cells, SIDE, aligned, random)

    children = dict(network.named_children())
    cut = list(children).index("block4") + 1
    body, head = (nn.Sequential(*part) for part in _split(list(children.values()), cut))
    cases = _cases(network, body, head, kind, grid, count)
    layers = {"last block (its authors' layer)": children["block4"]}
    return _subject(kind, "residual", cells, aligned, network, cases, layers, 16)


def _surest(network: nn.Module, made: Clutter) -> dict[int, Tensor]:
    """The pictures of each class of which the network is surest, a third of them."""
    shown = normalised(made.pictures)
    with torch.no_grad():
        sure = network(shown).softmax(1).gather(1, made.labels[:, None])[:, 0]
    found = {}
    for label in range(10):
        own = (made.labels == label).nonzero()[:, 0]
        found[label] = shown[own[sure[own].argsort(descending=True)[: -(-len(own) // 3)]]]
    return found


def photograph_grid(kind: str, count: int) -> Subject:
    """Four of five photographs, 112 pixels each, for EfficientNet-Lite0."""
    network = lite(0)
    random = np.random.default_rng(0)

    def grid() -> tuple[Tensor, dict[int, Box]]:
        names = [str(name) for name in random.choice(list(KNOWN), 4, replace=False)]
        small = {
            KNOWN[name]: pixels_to_input(
                cv2.resize(square(photograph(name)), (112, 112), interpolation=cv2.INTER_AREA)
            )
            for name in names
        }
        return assembled(small, 2, 112, True, random)

    body, head = _Features(network), _Classifier(network)
    layers = {BEST: network.get_submodule("_bn1")}
    cases = _cases(network, body, head, kind, grid, count)
    return _subject(kind, "EfficientNet-Lite0", 2, True, network, cases, layers, 28)


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(pictures)
        return features


class _Classifier(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.pool, self.linear = network.get_submodule("_avg_pooling"), network.get_submodule("_fc")

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(features).flatten(1))
        return logits


def assembled(
    pictures: dict[int, Tensor], cells: int, side: int, aligned: bool, random: Generator
) -> tuple[Tensor, dict[int, Box]]:
    """Put pictures by class into a grid of cells, with equal sides or cut anywhere."""
    whole = cells * side
    edges = [list(range(0, whole + 1, side)) for _ in range(2)]
    if not aligned:
        moves = random.integers(-side // 4, side // 4 + 1, size=(2, cells - 1))
        edges = [
            [0, *(edge + int(move) for edge, move in zip(axis[1:-1], moved, strict=True)), whole]
            for axis, moved in zip(edges, moves, strict=True)
        ]
    canvas = torch.zeros(1, 3, whole, whole)
    boxes: dict[int, Box] = {}
    for (label, picture), (row, column) in zip(
        pictures.items(), np.ndindex(cells, cells), strict=True
    ):
        top, bottom = edges[0][row : row + 2]
        left, right = edges[1][column : column + 2]
        canvas[..., top:bottom, left:right] = resized(picture, (bottom - top, right - left))
        boxes[label] = (top, left, bottom, right)
    return canvas, boxes


def _cases(
    network: nn.Module,
    body: nn.Module,
    head: nn.Module,
    kind: str,
    grid: Callable[[], tuple[Tensor, dict[int, Box]]],
    count: int,
) -> list[Case]:
    def questions() -> Iterator[Case]:
        number = 0
        while True:
            picture, boxes = grid()
            for label, box in boxes.items():
                side = picture.shape[-1]
                asked = {
                    "GridPG": network,
                    "DiPart": PartlyApart(body, head, box, side).eval(),
                    "DiFull": FullyApart(network, box).eval(),
                }
                yield Case(f"{number} {label}", picture, label, inside(box, side), asked[kind])
            number += 1

    return [case for case, _ in zip(questions(), range(count), strict=False)]


def inside(box: Box, side: int) -> Tensor:
    """The pixels of a cell, (side, side)."""
    top, left, bottom, right = box
    truth = torch.zeros(side, side, dtype=torch.bool)
    truth[top:bottom, left:right] = True
    return truth


def _subject(
    kind: str,
    network_name: str,
    cells: int,
    aligned: bool,
    network: nn.Module,
    cases: Sequence[Case],
    layers: dict[str, nn.Module],
    window: int,
) -> Subject:
    window = window if aligned else 0
    name = f"{network_name}, {cells} × {cells}" + ("" if aligned else ", unaligned")
    if kind == "DiFull":  # a layer's map there is the cell's alone, whatever the method
        return Subject(kind, name, network, cases, window=window)
    best = next(iter(layers))
    return Subject(kind, name, network, cases, layers, best, window=window)


def _split(modules: list[nn.Module], cut: int) -> tuple[list[nn.Module], list[nn.Module]]:
    return modules[:cut], modules[cut:]


def subjects(kind: str, count: int, lab: Lab) -> dict[str, partial[Subject]]:
    """What makes each subject of one of the three, by its name."""
    made = {
        f"residual, {cells} × {cells}{words}": partial(
            small_grid, kind, cells, not words, count, lab
        )
        for cells, words in ((2, ""), (3, ""), (3, ", unaligned"))
    }
    return {"EfficientNet-Lite0, 2 × 2": partial(photograph_grid, kind, count), **made}
