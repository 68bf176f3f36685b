# Handwritten digits of scikit-learn and MNIST, and the paper's pictures of one or two digits.
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.datasets import MNIST

from captum_infomask._checks import describe, positive_int
from captum_infomask._errors import ArgumentError

SIDE = 28  # the side of MNIST's pictures, and of all digits here

_STROKE_SIDE = 20  # MNIST fits each digit into a box of this side
_TRAIN_COUNT = 1347  # three quarters of scikit-learn's 1,797 digits; the rest are the test part


def sklearn_digits(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Read scikit-learn's handwritten digits in MNIST's layout.

    The 8 × 8 pictures are enlarged to 20 × 20 (bicubic), in the centre of 28 × 28.

    Args:
        train: the first 1,347 digits, or the last 450, which other people wrote.

    Returns:
        Digits (M, 28, 28), float32 in [0, 1], and their labels (M,), long.

    Raises:
        ArgumentError: where scikit-learn is not installed.

    Example:
        >>> from captum_infomask.datasets import sklearn_digits
        >>> digits, labels = sklearn_digits(train=False)
        >>> digits.shape
        torch.Size([450, 28, 28])

    Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), CC BY 4.0.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ArgumentError(
            "scikit-learn's digits need scikit-learn: pip install 'captum-infomask[demo]'"
        ) from error
    bunch: Any = load_digits()
    part = slice(None, _TRAIN_COUNT) if train else slice(_TRAIN_COUNT, None)
    small = torch.tensor(bunch.images[part], dtype=torch.float32)[:, None] / 16
    large = F.interpolate(small, (_STROKE_SIDE, _STROKE_SIDE), mode="bicubic").clamp(0, 1)
    margin = (SIDE - _STROKE_SIDE) // 2
    return F.pad(large, (margin,) * 4)[:, 0], torch.tensor(bunch.target[part]).long()


def mnist(
    root: str | Path, train: bool, download: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read MNIST by torchvision.

    Args:
        root: the folder that holds ``MNIST/raw``.
        train: the 60,000 training digits, or the 10,000 test digits.
        download: fetch the files if they are missing.

    Returns:
        Digits (M, 28, 28), float32 in [0, 1], and their labels (M,), long.

    Raises:
        ArgumentError: where the files are missing and ``download`` is false.

    Example:
        >>> from captum_infomask.datasets import mnist
        >>> digits, labels = mnist("data", train=False, download=True)  # doctest: +SKIP

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits".
    """
    try:
        data = MNIST(str(root), train=train, download=download)
    except RuntimeError as error:
        raise ArgumentError(
            f"Expected `root` to hold MNIST's files (MNIST/raw/*-ubyte); got {str(root)!r}. "
            "Fetch them with --download (download=True)."
        ) from error
    return data.data.float() / 255, data.targets.long()


HOLDS_TARGET = 1  # the label of pictures with the target digit
INK_THRESHOLD = 0.2  # a pixel brighter than this is ink; strokes are near 1, paper is 0


@dataclasses.dataclass(frozen=True)
class TwoDigits:
    """Pictures of one or two handwritten digits and whether they hold the target digit.

    Attributes:
        images: (N, 1, 28, 56), floating point in [0, 1]; ink is bright.
        labels: (N,), long: 1 where the picture holds the target digit, else 0.
        ink: (N, 1, 28, 56), boolean: the target digit's ink; empty where the label is 0.
        digits: (N, 2), long: the digit in the left and the right half, −1 for an empty half.

    Example:
        >>> import torch
        >>> from captum_infomask.datasets import two_digits
        >>> pictures = two_digits(torch.ones(10, 28, 28), torch.arange(10), target=0, count=8)
        >>> len(pictures.select(pictures.labels == 1).images)
        4
    """

    images: torch.Tensor
    labels: torch.Tensor
    ink: torch.Tensor
    digits: torch.Tensor

    def select(self, chosen: torch.Tensor) -> TwoDigits:
        """Return the pictures that an index (N',) or a boolean mask (N,) chooses."""
        return TwoDigits(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def holding_target_beside_another(self) -> TwoDigits:
        """Return the two-digit pictures that hold the target: those that a mask can get wrong."""
        return self.select((self.labels == 1) & (self.digits >= 0).all(1))


def two_digits(
    digits: torch.Tensor, labels: torch.Tensor, *, target: int, count: int, seed: int = 0
) -> TwoDigits:
    """Compose pictures of one or two digits, left or right, half of which hold the target digit.

    In every four pictures, one holds the target alone, one holds the target beside another digit,
    one holds another digit alone, and one holds two other digits. Order and sides are random.

    Args:
        digits: (M, 28, 28), floating point in [0, 1]; ink is bright.
        labels: (M,), integers: the digit that each picture shows.
        target: the digit that the pictures' question is about.
        count: number of pictures N.
        seed: the seed of this function's own generator; the global one is not used.

    Returns:
        The pictures, their labels and the target digit's ink.

    Raises:
        ArgumentError: where shapes, the value range or the target do not fit.

    Example:
        >>> import torch
        >>> from captum_infomask.datasets import two_digits
        >>> pictures = two_digits(torch.ones(10, 28, 28), torch.arange(10), target=3, count=8)
        >>> pictures.images.shape, pictures.labels.sum().item()
        (torch.Size([8, 1, 28, 56]), 4)

    Source: Qin & Kim, arXiv 1910.02629, Section 5.3.
    """
    _check_digits(digits, labels)
    count = positive_int("count", count)
    is_target = labels == target
    if not is_target.any() or is_target.all():
        raise ArgumentError(
            f"Expected `target` to be one of several digits in `labels`, which holds "
            f"{sorted(set(labels.tolist()))}; got {target!r}."
        )
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(count)[torch.randperm(count, generator=generator)] % 4
    holds, pair = kind % 2 == 0, kind < 2
    rows = torch.arange(count)
    side = torch.randint(2, (count,), generator=generator)

    # The first digit is on `side`; it is the target if the picture holds the target.
    first = _draw(torch.nonzero(~is_target).flatten(), count, generator)
    wanted = _draw(torch.nonzero(is_target).flatten(), count, generator)
    second = _draw(torch.nonzero(~is_target).flatten(), count, generator)
    first = torch.where(holds, wanted, first)

    halves = digits.new_zeros(count, 2, SIDE, SIDE)
    halves[rows, side] = digits[first]
    halves[rows[pair], 1 - side[pair]] = digits[second[pair]]
    names = torch.full((count, 2), -1)
    names[rows, side] = labels[first].long()
    names[rows[pair], 1 - side[pair]] = labels[second[pair]].long()

    ink = torch.zeros_like(halves, dtype=torch.bool)
    ink[rows[holds], side[holds]] = halves[rows[holds], side[holds]] > INK_THRESHOLD
    return TwoDigits(_side_by_side(halves), holds.long(), _side_by_side(ink), names)


def _draw(candidates: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``count`` of the candidates, with repetition."""
    return candidates[torch.randint(len(candidates), (count,), generator=generator)]


def _side_by_side(halves: torch.Tensor) -> torch.Tensor:
    """(N, 2, 28, 28) → (N, 1, 28, 56)."""
    return torch.cat([halves[:, :1], halves[:, 1:]], dim=3)


def _check_digits(digits: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse digits that are not (M, 28, 28) pictures in [0, 1] with one integer label each."""
    if not (
        isinstance(digits, torch.Tensor)
        and digits.is_floating_point()
        and digits.ndim == 3
        and digits.shape[0] > 0
        and digits.shape[1:] == (SIDE, SIDE)
    ):
        raise ArgumentError(
            f"Expected `digits` to be a floating-point tensor (M, {SIDE}, {SIDE}); "
            f"got {describe(digits)}."
        )
    if not (digits.min() >= 0 and digits.max() <= 1):
        raise ArgumentError(
            f"Expected `digits` to lie in [0, 1]; got values from {digits.min().item():g} "
            f"to {digits.max().item():g}. Divide 8-bit pictures by 255."
        )
    if not (
        isinstance(labels, torch.Tensor)
        and not labels.is_floating_point()
        and labels.shape == digits.shape[:1]
    ):
        raise ArgumentError(
            f"Expected `labels` to be an integer tensor ({len(digits)},), one per digit; "
            f"got {describe(labels)}."
        )
