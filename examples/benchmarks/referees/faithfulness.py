# Does a map foretell what the network does? Nothing needs to be known about the pictures.
from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from skimage.segmentation import slic
from torch import Tensor, nn

from captum_infomask import (
    Blur,
    Constant,
    Deletion,
    Infidelity,
    Inpaint,
    Insertion,
    LocalMean,
    Sensitivity,
)
from captum_infomask.evaluation.metric_protocol import Sample
from captum_infomask.imputers.imputer_protocol import Imputer

from .cases import Case, Method, Subject
from .clutter import clutter, normalised
from .in_clutter import in_clutter
from .pasted import BEST, SIZES, lite, pixels_to_input
from .photographs import KNOWN, photograph, square
from .small_networks import Lab, trained

CELLS = 4  # IDSDS' grid
_SUPERPIXELS, _STEPS = 25, 8
_AT_ONCE = 16
_SURE = 0.3

IDSDS = {"idsds": "rank correlation"}
FAITHFULNESS = {
    "srg": "SRG",
    "insertion": "insertion",
    "deletion": "deletion",
    "infidelity": "infidelity",
    "sensitivity": "sensitivity",
}


def faithfulness(plane: Tensor, case: Case, network: nn.Module, method: Method) -> dict[str, float]:
    """Five numbers of one map (H, W)."""
    plane = plane.double()
    fill = Blur().prepare((case.picture,)).pictures[0]
    sample = Sample(
        forward=network,
        inputs=case.picture,
        target=case.target,
        attributions=plane[None, None],
        plane=plane,
        mask=plane > 0,
        attribute=lambda picture: method.attribute(network, picture, case.target)[None, None],
        fill=fill,
    )
    return {
        "srg": symmetric_gain(plane, case, network),
        "insertion": Insertion(steps=16)(sample).value,
        "deletion": Deletion(steps=16)(sample).value,
        "infidelity": Infidelity(n=16)(sample).value,
        "sensitivity": 0.0 if method.dear else Sensitivity(n=2)(sample).value,
    }


def idsds(plane: Tensor, case: Case, network: nn.Module, method: Method) -> dict[str, float]:
    """The number of :func:`single_deletion`."""
    return {"idsds": single_deletion(plane.double(), case, network)}


def single_deletion(plane: Tensor, case: Case, network: nn.Module) -> float:
    """Spearman's correlation of a grid's sums with what the logit loses without each cell.

    Hesse et al., NeurIPS 2024, arXiv 2407.11910: the network of theirs was trained on pictures
    without a cell as well. A cell becomes 0, the grey that the networks are normalised to. A map
    whose sums are all equal says nothing, 0.
    """
    sums = torch.stack([plane[cell].sum() for cell in _cells(*plane.shape)])
    drops = _drops(case, network)
    if bool((sums == sums[0]).all()) or bool((drops == drops[0]).all()):
        return 0.0
    return float(spearmanr(sums.numpy(), drops.numpy()).statistic)


@lru_cache(maxsize=1)  # of all methods' maps the same
@torch.no_grad()
def _drops(case: Case, network: nn.Module) -> Tensor:
    """What the target's logit loses without each cell."""
    cells = _cells(*case.picture.shape[2:])
    without = case.picture.repeat(len(cells), 1, 1, 1)
    for picture, cell in zip(without, cells, strict=True):
        picture[(slice(None), *cell)] = 0
    whole = network(case.picture)[0, case.target]
    return whole - _outputs(network, without)[:, case.target]


def _cells(height: int, width: int) -> list[tuple[slice, slice]]:
    down, across = (
        [slice(length * k // CELLS, length * (k + 1) // CELLS) for k in range(CELLS)]
        for length in (height, width)
    )
    return [(rows, columns) for rows in down for columns in across]


@torch.no_grad()
def symmetric_gain(
    plane: Tensor, case: Case, network: nn.Module, imputers: Sequence[Imputer] | None = None
) -> float:
    """Area between two walks that hide superpixels, the least important first or the most.

    Blücher et al., TMLR 2024, arXiv 2401.06654: of p(target); the walks' mean over imputers.
    """
    used = (Constant(0.0), Blur(), LocalMean(), Inpaint()) if imputers is None else imputers
    labels = _superpixels(case)
    count = torch.bincount(labels.flatten())
    sums = torch.zeros(len(count), dtype=torch.double)
    sums.scatter_add_(0, labels.flatten(), plane.double().flatten())
    order = (sums / count).argsort(stable=True)
    steps = [round(len(order) * k / _STEPS) for k in range(_STEPS + 1)]
    least = torch.stack([torch.isin(labels, order[:step]) for step in steps])
    most = torch.stack([torch.isin(labels, order[len(order) - step :]) for step in steps])
    hidden = torch.cat([least, most])[:, None]
    gains = []
    for imputer in used:
        stand_in = imputer.prepare((case.picture,))
        images = torch.zeros(len(hidden), dtype=torch.long)
        (filled,) = stand_in(images, (hidden.expand(-1, *case.picture.shape[1:]),))
        shown = torch.where(hidden, filled, case.picture)
        said = _outputs(network, shown).softmax(1)[:, case.target].double()
        late, early = (torch.trapezoid(walk) / _STEPS for walk in said.split(_STEPS + 1))
        gains.append(late - early)
    return torch.stack(gains).mean().item()


@lru_cache(maxsize=1)
def _superpixels(case: Case) -> Tensor:
    low, high = case.picture.min(), case.picture.max()
    shown = ((case.picture[0] - low) / (high - low).clamp_min(1e-6)).permute(1, 2, 0)
    labels = slic(shown.double().numpy(), _SUPERPIXELS, channel_axis=-1, start_label=0)
    return torch.from_numpy(labels.astype(np.int64))


def _outputs(network: nn.Module, pictures: Tensor) -> Tensor:
    return torch.cat([network(some) for some in pictures.split(_AT_ONCE)])


def photographs(count: int) -> Subject:
    """EfficientNet-Lite0, and parts of its photographs of which it is fairly sure."""
    network = lite(0)
    random = np.random.default_rng(0)
    cases: list[Case] = []
    while len(cases) < count:
        name = str(random.choice(list(KNOWN)))
        photo = square(photograph(name))[:, :: int(random.choice((-1, 1)))]
        side = int(random.integers(round(0.7 * len(photo)), len(photo) + 1))
        top, left = (int(place) for place in random.integers(len(photo) - side + 1, size=2))
        part = photo[top : top + side, left : left + side]
        shown = pixels_to_input(cv2.resize(part, (224, 224), interpolation=cv2.INTER_AREA))
        with torch.no_grad():
            sure = network(shown).softmax(1)[0, KNOWN[name]] > _SURE
        if sure:
            place = torch.ones(224, 224, dtype=torch.bool)
            cases.append(Case(f"{len(cases)} {name}", shown, KNOWN[name], place))
    layers = {BEST: network.get_submodule("_bn1")}
    return Subject("faithfulness", "EfficientNet-Lite0", network, cases, layers, BEST, SIZES)


def digits_without_cells(count: int, lab: Lab) -> Subject:
    """The small residual network, trained on with a cell of its pictures missing, as IDSDS asks."""
    subject = in_clutter("residual", count, lab)

    def untrained() -> nn.Module:
        return deepcopy(subject.network).requires_grad_(True)

    def pictures() -> tuple[Tensor, Tensor]:
        made = clutter(*lab.read_digits(train=True), lab.count(8_000), seed=4)
        return made.pictures, made.labels

    file = lab.cache / f"clutter-{lab.origin}-residual-without-cells"
    network = trained(untrained, pictures, lab.count(300), file, _with_a_cell_missing)
    names = {module: name for name, module in subject.network.named_modules()}
    layers = {words: network.get_submodule(names[one]) for words, one in subject.layers.items()}
    name = "residual, trained without cells"
    return replace(subject, referee="faithfulness", name=name, network=network, layers=layers)


def _with_a_cell_missing(pictures: Tensor) -> Tensor:
    """Normalised pictures, a random cell of every second one being 0."""
    shown = normalised(pictures)
    cells = _cells(*shown.shape[2:])
    for picture, k in zip(shown[::2], torch.randint(len(cells), (len(shown),)), strict=False):
        picture[(slice(None), *cells[int(k)])] = 0
    return shown


def subjects(count: int, lab: Lab) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {
        "EfficientNet-Lite0": partial(photographs, count),
        "residual, trained without cells": partial(digits_without_cells, count, lab),
    }
