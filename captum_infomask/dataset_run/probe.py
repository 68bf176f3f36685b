# What a network answers on pictures of our own: tells networks apart that have the same weights.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.results import InfoMap

_HEIGHT, _WIDTH = 480, 640
_BLOCKS = (160, 32, 8, 1)  # sides of blocks of noise: some are left by whatever preprocessing does

# How far apart answers may lie, as a share of the largest. Processors and numbers of threads differ
# by 1e-6 in float32; where TF32 or half precision computes, by far more.
_ROUNDING, _COARSE = 1e-4, 1e-2


def probe_inputs(preprocess: Callable[[Image.Image], Tensor], device: str) -> list[Tensor]:
    """Three pictures of noise, the same everywhere, as the network takes them: (1, C, H, W) each.

    They differ in contrast, so that activations are met on both sides of their bends.
    """
    inputs = []
    for number, contrast in enumerate((1.0, 0.5, 2.0)):
        draw = np.random.RandomState(number)  # the same numbers in all versions of numpy
        noise = np.mean([_blocks(draw, side) for side in _BLOCKS], axis=0)
        pixels = (128 + contrast * (noise - 128)).clip(0, 250).astype(np.uint8)
        made = preprocess(Image.fromarray(pixels))
        if not isinstance(made, Tensor) or made.dim() != 4 or len(made) != 1:
            raise ArgumentError(
                f"Expected the preprocessing of `model` to give a tensor (1, C, H, W); got "
                f"{describe(made)}."
            )
        inputs.append(made.to(device, torch.float32))
    return inputs


def _blocks(draw: np.random.RandomState, side: int) -> Any:
    """Squares of random colours, (H, W, 3)."""
    colours = draw.randint(0, 256, (_HEIGHT // side, _WIDTH // side, 3))
    return colours.repeat(side, 0).repeat(side, 1)


@dataclass(frozen=True)
class Probe:
    """Answers to compare, as far as their digits can be the same elsewhere.

    Attributes:
        answers: For each picture the network's outputs.
        scores: i(y; x) of the first picture, and its regions' scores; empty where only the network
            was asked, and then not compared.
        tolerance: How far apart answers may lie, as a share of the largest.
    """

    answers: Sequence[Sequence[float]]
    scores: Sequence[float]
    tolerance: float

    @classmethod
    def made(cls, outputs: Sequence[Tensor], scored: InfoMap | None = None) -> Probe:
        """Of the network's outputs, (1, M) each, and the first picture's InfoMap."""
        answers = [_rounded(output[0]) for output in outputs]
        scores = [] if scored is None else _rounded(torch.cat([scored.total, scored.scores[0]]))
        is_coarse = outputs[0].device.type != "cpu" or outputs[0].element_size() < 4
        return cls(answers, scores, _COARSE if is_coarse else _ROUNDING)

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Probe:
        """From ``words``."""
        answers = [[float(number) for number in line.split()] for line in words["answers"]]
        scores = [float(number) for number in words["scores"].split()]
        return cls(answers, scores, words["tolerance"])

    def words(self) -> dict[str, Any]:
        """What a manifest holds of it."""
        return {
            "answers": [" ".join(map(str, line)) for line in self.answers],
            "scores": " ".join(map(str, self.scores)),
            "tolerance": self.tolerance,
        }

    def differences(self, now: Probe) -> dict[str, str]:
        """By name, what differs by more than rounding: the network's answers, or else scores."""
        tolerance = max(self.tolerance, now.tolerance)
        # A score is a difference of logarithms, and so loses digits.
        for name, share in (("answers", tolerance), ("scores", 10 * tolerance)):
            before, after = (np.ravel(getattr(probe, name)) for probe in (self, now))
            if not after.size:
                continue
            largest = np.abs(before[np.isfinite(before)]).max(initial=float(name == "scores"))
            same = np.isclose(before, after, rtol=0, atol=share * largest, equal_nan=True)
            if not same.all():
                k = int(np.argmin(same))
                whose = "the network's answers" if name == "answers" else "the view's scores"
                words = f"{before[k]:.4g} before, {after[k]:.4g} now"
                return {f"{whose} on a picture of our own": words}
        return {}


def _rounded(numbers: Tensor) -> list[float]:
    """Seven digits of each: all that float32 has."""
    return [float(f"{number:.7g}") for number in numbers.double().tolist()]
