# Controls: maps that see no network, which every method must beat.
from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor


def centred_blob(height: int, width: int) -> Tensor:
    """A Gaussian in the middle of a picture, a quarter of its sides wide: (H, W)."""
    down, across = (torch.linspace(-2, 2, side).square() for side in (height, width))
    return (-(down[:, None] + across) / 2).exp()


def uniform_noise(*shape: int) -> Tensor:
    """Independent uniform noise per pixel, not blurred, always the same."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def blurred_noise(height: int, width: int) -> Tensor:
    """Normal noise, blurred over a sixteenth of a picture's sides, at most 1: (H, W)."""
    noise = torch.randn(height, width).double().numpy()
    blurred = torch.from_numpy(gaussian_filter(noise, (height / 16, width / 16)))
    return (blurred / blurred.abs().max()).float()
