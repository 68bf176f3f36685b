# Information of independent patches in closed form, and the Bayes-optimal network.
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError

_CHUNK = 2**22  # numbers in memory at a time while all sets of patches are listed


def set_information(evidence: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    r"""Information of sets of patches, from the sums of their log-likelihoods.

    .. math::

        i(y; x_S) = L_y - \log \sum_k \pi_k e^{L_k}, \qquad L_k = \sum_{r \in S} \log p(x_r \mid k).

    Args:
        evidence: L of each set and class, (N, S, M), in nats, up to a constant per set.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, S), in nats.

    Source: Bayes' rule.
    """
    of_target = evidence.gather(2, target[:, None, None].expand(-1, evidence.shape[1], 1))[..., 0]
    return of_target - torch.logsumexp(evidence + log_prior, dim=2)


def single_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x_R) of each patch by itself, as in the views ``crop`` and ``keep``.

    Args:
        log_likelihoods: log p(x_r | k), (N, R, M), in nats, up to a constant per patch.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, R), in nats.
    """
    return set_information(log_likelihoods, log_prior, target)


def total_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x) of the whole pictures, (N,), in nats; arguments as :func:`single_information`."""
    return set_information(log_likelihoods.sum(1, keepdim=True), log_prior, target)[:, 0]


def conditional_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x_R given the rest): the view ``drop``; as :func:`single_information`."""
    everything = log_likelihoods.sum(1, keepdim=True)
    rest = set_information(everything - log_likelihoods, log_prior, target)
    return set_information(everything, log_prior, target) - rest


def mean_over_orders(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    r"""Mean of i(y; x_R given what came before R) over all orders of the patches: ``chain``.

    .. math::

        \varphi_r = \sum_{S \not\ni r} \frac{|S|!\,(R - |S| - 1)!}{R!}
                    \bigl[ i(y; x_{S \cup r}) - i(y; x_S) \bigr]

    Args:
        log_likelihoods: As :func:`single_information`, of at most 12 patches.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, R), in nats; the values of a picture sum to i(y; x).

    Source: Shapley, "A Value for n-Person Games", 1953.
    """
    _, patches, classes = log_likelihoods.shape
    numbers = torch.arange(2**patches)
    members = (numbers[:, None] >> torch.arange(patches)) & 1
    sizes = members.sum(1)
    # A set has a plus sign for its patches, which came last, and a minus sign for the others.
    weights = log_likelihoods.new_tensor(
        [1 / (patches * math.comb(patches - 1, before)) for before in range(patches)]
    )
    with_last = weights[(sizes - 1).clamp_min(0)][:, None] * members
    without = weights[sizes.clamp_max(patches - 1)][:, None] * (1 - members)
    shares = with_last - without
    chosen = members.to(log_likelihoods)
    rows = max(1, _CHUNK // (len(numbers) * classes))
    found = [
        set_information(chosen @ part, log_prior, labels) @ shares
        for part, labels in zip(log_likelihoods.split(rows), target.split(rows), strict=True)
    ]
    return torch.cat(found)


class BayesNetwork(nn.Module):
    r"""Logits that are sums of log-likelihoods; no training can give better ones.

    .. math::

        f_k(x) = \log \pi_k + \sum_{r \text{ not hidden}} \log p(x_r \mid k)

    up to a constant that all classes share. A patch whose pixels all equal the baseline is hidden.
    The sum leaves it out, so the softmax is exactly p(y | the visible patches).

    Args:
        likelihood: Patches (N, R, C, h, w) → log p(patch | class), (N, R, M).
        log_prior: The term that is added for each class, (M,): log π, or 0 for a network trained by
            prior-corrected softmax.
        patch_shape: (C, h, w).
        grid: (rows, columns) of a picture; None takes any number of patches, also one.
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
        """Log p(x_r | k) of every patch, (N, R, M); 0 for all classes if a patch is hidden."""
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
