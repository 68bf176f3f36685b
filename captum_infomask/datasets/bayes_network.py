# The Bayes-optimal network for pictures of independent patches.
from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError


class BayesNetwork(nn.Module):
    r"""Logits that are sums of log-likelihoods: no training can do better.

    .. math::

        f_k(x) = \log \pi_k + \sum_{r \text{ not hidden}} \log p(x_r \mid k)

    up to a constant that all classes share. A patch whose pixels all equal the baseline is hidden:
    it is left out of the sum, so that the softmax is exactly p(y | the patches that are shown).

    Args:
        likelihood: Patches (N, R, C, h, w) → log p(patch | class), (N, R, M).
        log_prior: What is added for each class, (M,): log π, or 0 for a network trained by
            prior-corrected softmax.
        patch_shape: (C, h, w).
        grid: (rows, columns) of a picture; None takes any number of patches, one included.
        baseline: The value of hidden pixels.

    Example:
        >>> from captum_infomask.datasets import GaussianPatches, IndependentPatches
        >>> pictures = IndependentPatches(GaussianPatches.random(classes=3), rows=2, columns=2)
        >>> images, labels = pictures.draw(5, seed=0)
        >>> pictures.network()(images).shape
        torch.Size([5, 3])

    Source: Bayes' rule.
    """

    log_prior: Tensor

    def __init__(
        self,
        likelihood: nn.Module,
        log_prior: Tensor,
        patch_shape: tuple[int, int, int],
        grid: tuple[int, int] | None,
        baseline: float,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.register_buffer("log_prior", log_prior.clone())
        self.patch_shape, self.grid, self.baseline = patch_shape, grid, baseline

    def log_likelihoods(self, images: Tensor) -> Tensor:
        """Log p(x_r | k) of every patch, (N, R, M); 0 for all classes where a patch is hidden."""
        patches = self._patches(images)
        hidden = (patches == self.baseline).flatten(2).all(2)
        found: Tensor = self.likelihood(patches)
        return found.masked_fill(hidden[..., None], 0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (N, C, rows · h, columns · w) → logits (N, M)."""
        return self.log_likelihoods(images).sum(1) + self.log_prior

    def _patches(self, images: Tensor) -> Tensor:
        """Cut pictures into patches, row by row: (N, R, C, h, w)."""
        channels, height, width = self.patch_shape
        shape = tuple(images.shape) if isinstance(images, Tensor) else ()
        rows, columns = (shape[2] // height, shape[3] // width) if len(shape) == 4 else (0, 0)
        fits = (
            len(shape) == 4
            and 0 not in shape
            and shape[1:] == (channels, rows * height, columns * width)
            and self.grid in (None, (rows, columns))
        )
        if not fits:
            of = "any number of" if self.grid is None else f"{self.grid[0]} × {self.grid[1]}"
            raise ArgumentError(
                f"Expected `images` (N, {channels}, H, W) of {of} patches of {height} × {width} "
                f"pixels; got {describe(images)}."
            )
        cut = images.reshape(-1, channels, rows, height, columns, width)
        return torch.permute(cut, (0, 2, 4, 1, 3, 5)).flatten(1, 2)
