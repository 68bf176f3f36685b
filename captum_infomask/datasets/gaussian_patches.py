# Patches of Gaussian noise around a mean that depends on the label.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_infomask._checks import finite_number
from captum_infomask.datasets.patch_families import check_classes, checked_patches, patch_sizes


@dataclass(frozen=True, eq=False)
class GaussianPatches:
    r"""Patches of independent Gaussian pixels, whose mean depends on the label.

    .. math::

        \log p(x_r \mid k) = -\lVert x_r - \mu_{k,r} \rVert^2 / 2\sigma^2 + \text{constant}

    Args:
        means: μ of each class and position, (M, P, C, h, w); P = 1 where all positions share it.
        deviation: σ, the pixels' standard deviation.

    Raises:
        ArgumentError: A shape or value is out of range.

    Example:
        >>> from captum_infomask.datasets import GaussianPatches
        >>> patches = GaussianPatches.random(classes=3, positions=4, side=2, seed=0)
        >>> patches.means.shape
        torch.Size([3, 4, 1, 2, 2])
    """

    means: Tensor
    deviation: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", checked_patches("means", self.means, "(M, P, C, h, w)"))
        object.__setattr__(self, "deviation", finite_number("deviation", self.deviation, above=0))
        check_classes("means", self.means)

    @classmethod
    def random(
        cls,
        *,
        classes: int,
        positions: int = 1,
        channels: int = 1,
        side: int = 4,
        strength: float = 2.0,
        seed: int = 0,
    ) -> GaussianPatches:
        """Draw the means.

        Args:
            classes: M, the number of labels.
            positions: Number of patches of a picture, or 1 for one distribution in all places.
            channels: C.
            side: Height and width of a patch, in pixels.
            strength: Typical distance between two classes' means of a patch, in standard
                deviations: the larger, the more a patch tells.
            seed: Of this function's own generator.

        Returns:
            Patches with standard deviation 1.
        """
        m, p, c, s = patch_sizes(classes, positions, channels, side)
        distance = finite_number("strength", strength, above=0)
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(m, p, c, s, s, generator=generator, dtype=torch.float64)
        return cls(means * distance / (2 * c * s * s) ** 0.5)

    @property
    def classes(self) -> int:
        """M."""
        return len(self.means)

    @property
    def positions(self) -> int:
        """P."""
        return self.means.shape[1]

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        channels, height, width = self.means.shape[2:]
        return channels, height, width

    def may_be_all(self, value: float) -> bool:
        """Never: the probability is 0."""
        return False

    def sample(self, labels: Tensor, patches: int, generator: torch.Generator) -> Tensor:
        """Draw patches (N, patches, C, h, w)."""
        means = self.means[labels].expand(-1, patches, -1, -1, -1)
        noise = torch.randn(means.shape, generator=generator, dtype=torch.float64)
        return means + self.deviation * noise

    def likelihood(self) -> nn.Module:
        """The log-likelihood as a module."""
        return _GaussianLikelihood(self.means, self.deviation)


class _GaussianLikelihood(nn.Module):
    """Minus half the squared distance to each class's mean, in units of the variance."""

    means: Tensor

    def __init__(self, means: Tensor, deviation: float) -> None:
        super().__init__()
        self.register_buffer("means", means.transpose(0, 1).flatten(2).clone())  # (P, M, C h w)
        self.deviation = deviation

    def forward(self, patches: Tensor) -> Tensor:
        values = patches.flatten(2).to(self.means)
        distances = (values[:, :, None] - self.means).square().sum(3)
        return -distances / (2 * self.deviation**2)
