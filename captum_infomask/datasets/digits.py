# Handwritten digits: scikit-learn's, and MNIST's.
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.datasets import MNIST

from captum_infomask._errors import ArgumentError

SIDE = 28  # of MNIST's pictures, and of all digits here

_STROKE_SIDE = 20  # MNIST fits each digit into a box of this side
_TRAIN_COUNT = 1347  # three quarters of scikit-learn's 1,797 digits; the rest are the test part


def sklearn_digits(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Read scikit-learn's handwritten digits, laid out as MNIST lays out its own.

    The 8 × 8 pictures are enlarged to 20 × 20 (bicubic) in the middle of 28 × 28.

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
        download: fetch the files where they are missing.

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
