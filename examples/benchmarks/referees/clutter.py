# Handwritten digits among other shapes over photographs, with the digits' pixels known.
from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from .photographs import SCENES, Pixels, photograph

SIDE = 64
_INK = 0.5


@dataclass(frozen=True)
class Clutter:
    """N pictures.

    Attributes:
        pictures: (N, 3, 64, 64), uint8.
        labels: (N,), the digits.
        truth: (N, 64, 64), bool: the digits' ink.
    """

    pictures: Tensor
    labels: Tensor
    truth: Tensor


def clutter(digits: Tensor, labels: Tensor, count: int, seed: int) -> Clutter:
    """Draw pictures of one digit each, in a tint that the photograph behind it has not.

    Args:
        digits: (M, 28, 28) in [0, 1].
        labels: (M,).
        count: N.
        seed: Of all that is drawn.
    """
    randoms = [np.random.default_rng((seed, k)) for k in range(count)]  # the first are the first
    chosen = np.array([random.integers(len(digits)) for random in randoms])
    drawn = [_picture(digits[k].numpy(), random) for k, random in zip(chosen, randoms, strict=True)]
    pictures, truth = (np.stack(part) for part in zip(*drawn, strict=True))
    return Clutter(
        torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
        labels[torch.from_numpy(chosen)],
        torch.from_numpy(truth),
    )


def normalised(pictures: Tensor) -> Tensor:
    """What the small networks see."""
    return pictures.float() / 64 - 2


def _picture(digit: Pixels, random: Generator) -> tuple[Pixels, Pixels]:
    canvas = _scene(random)
    for _ in range(random.integers(3, 6)):
        canvas = _tinted(canvas, _shape(random), random.uniform(0, 255, 3))
    ink = _placed(digit, random)
    behind = canvas[ink > _INK].mean(0)
    tint = random.uniform(0, 255, 3)
    while np.abs(tint - behind).mean() < 70:
        tint = random.uniform(0, 255, 3)
    return _tinted(canvas, ink, tint).round().astype(np.uint8), ink > _INK


def _scene(random: Generator) -> Pixels:
    photo = photograph(str(random.choice(SCENES)))
    side = int(random.integers(SIDE, 220))
    top, left = (random.integers(length - side) for length in photo.shape[:2])
    photo = photo[top : top + side, left : left + side]
    part = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return part[:, :: random.choice((-1, 1))].astype(np.float32)


def _tinted(canvas: Pixels, cover: Pixels, tint: Pixels) -> Pixels:
    return canvas + cover[..., None] * (tint.astype(np.float32) - canvas)


def _placed(digit: Pixels, random: Generator) -> Pixels:
    """The digit's ink, 32 to 44 pixels high and wide with its margin, somewhere in the picture."""
    side = int(random.integers(32, 45))
    large = cv2.resize(digit[2:26, 2:26], (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    ink = np.zeros((SIDE, SIDE), np.float32)
    top, left = random.integers(SIDE - side + 1, size=2)
    ink[top : top + side, left : left + side] = large
    return ink


def _shape(random: Generator) -> Pixels:
    """A disc, ring, box, triangle, cross or zigzag: (64, 64), from 0 to 1."""
    cover = np.zeros((SIDE, SIDE), np.uint8)
    x, y = (int(v) for v in random.integers(6, SIDE - 6, size=2))
    r, width = int(random.integers(4, 10)), int(random.integers(2, 5))
    kind = random.integers(6)
    if kind == 0:
        cv2.circle(cover, (x, y), r, 255, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.ellipse(cover, (x, y), (r + 3, r), int(random.integers(180)), 0, 360, 255, width)
    elif kind == 2:
        cv2.rectangle(cover, (x - r, y - r // 2), (x + r, y + r // 2), 255, -1)
    elif kind == 3:
        corners = np.array([x, y]) + random.integers(-r - 3, r + 4, size=(3, 2))
        cv2.fillPoly(cover, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 4:
        cv2.line(cover, (x - r, y), (x + r, y), 255, width, cv2.LINE_AA)
        cv2.line(cover, (x, y - r), (x, y + r), 255, width, cv2.LINE_AA)
    else:
        corners = np.array([x, y]) + random.integers(-r - 4, r + 5, size=(4, 2))
        for first, second in pairwise(corners.tolist()):
            cv2.line(cover, first, second, 255, width, cv2.LINE_AA)
    return cover.astype(np.float32) / 255
