# Families of patches: Gaussian noise around a mean, and symbols drawn by the label.
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe, finite_number, positive_int
from captum_infomask._errors import ArgumentError


class PatchFamily(Protocol):
    """A distribution of patches given the label, with its likelihoods."""

    @property
    def classes(self) -> int:
        """M, the number of labels."""
        ...

    @property
    def positions(self) -> int:
        """The number of distributions: one per patch, or 1 that all patches share."""
        ...

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a patch."""
        ...

    def may_be_all(self, value: float) -> bool:
        """Whether a patch may hold this value everywhere."""
        ...

    def sample(self, labels: Tensor, patches: int, generator: torch.Generator) -> Tensor:
        """Draw ``patches`` patches for each label (N,): float64 (N, patches, C, h, w)."""
        ...

    def likelihood(self) -> nn.Module:
        """Patches (N, R, C, h, w) → log p(patch | label), (N, R, M), nats, up to a constant."""
        ...


def checked_patches(name: str, given: object, form: str) -> Tensor:
    """A finite float64 copy with as many dimensions as the form says, none of them 0."""
    if (
        not isinstance(given, Tensor)
        or not given.is_floating_point()
        or given.dim() != form.count(",") + 1
        or given.numel() == 0
        or not bool(given.isfinite().all())
    ):
        raise ArgumentError(
            f"Expected `{name}` to be a finite floating-point tensor {form}; got {describe(given)}."
        )
    return given.detach().to("cpu", torch.float64, copy=True)


def check_classes(name: str, given: Tensor) -> None:
    """Refuse fewer than two classes in dimension 0."""
    if len(given) < 2:
        raise ArgumentError(f"Expected `{name}` of at least 2 classes; got {describe(given)}.")


def patch_sizes(
    classes: int, positions: int, channels: int, side: int
) -> tuple[int, int, int, int]:
    """M, P, C and the side, checked."""
    named = {"classes": classes, "positions": positions, "channels": channels, "side": side}
    m, p, c, s = (positive_int(name, given) for name, given in named.items())
    return m, p, c, s


@dataclass(frozen=True, eq=False)
class GaussianPatches:
    r"""Patches of independent Gaussian pixels, whose mean depends on the label.

    .. math::

        \log p(x_r \mid k) = -\lVert x_r - \mu_{k,r} \rVert^2 / 2\sigma^2 + \text{constant}

    Args:
        means: μ of each class and position, (M, P, C, h, w); P = 1 if all positions share it.
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
                deviations. A larger distance gives a patch more information.
            seed: The seed of this function's own generator.

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


@dataclass(frozen=True, eq=False)
class CategoricalPatches:
    r"""Patches that each show one symbol of an alphabet, drawn with probabilities per label.

    .. math::

        \log p(x_r \mid k) = \log p(\text{symbol of } x_r \mid k, r)

    A patch that is not a symbol is read as the nearest one, so rounding has no effect.

    Args:
        symbols: The alphabet's A pictures, (A, C, h, w), all different.
        probabilities: p(symbol | class, position), (M, P, A), all above 0; P = 1 if all positions
            share them.

    Raises:
        ArgumentError: A shape or value is out of range.

    Example:
        >>> from captum_infomask.datasets import CategoricalPatches
        >>> patches = CategoricalPatches.random(classes=3, positions=4, alphabet=5, seed=0)
        >>> patches.symbols.shape, patches.probabilities.shape
        (torch.Size([5, 1, 4, 4]), torch.Size([3, 4, 5]))
    """

    symbols: Tensor
    probabilities: Tensor

    def __post_init__(self) -> None:
        symbols = checked_patches("symbols", self.symbols, "(A, C, h, w)")
        probabilities = checked_patches("probabilities", self.probabilities, "(M, P, A)")
        object.__setattr__(self, "symbols", symbols)
        object.__setattr__(self, "probabilities", probabilities)
        check_classes("probabilities", probabilities)
        if len(symbols) < 2 or len(symbols.flatten(1).unique(dim=0)) < len(symbols):
            raise ArgumentError(
                f"Expected `symbols` to hold at least 2 pictures, all different; got "
                f"{describe(self.symbols)}."
            )
        sums = probabilities.sum(2)
        if (
            probabilities.shape[2] != len(symbols)
            or not bool((probabilities > 0).all())
            or not bool(((sums - 1).abs() < 1e-6).all())
        ):
            raise ArgumentError(
                f"Expected `probabilities` (M, P, {len(symbols)}) above 0 that sum to 1 over the "
                f"symbols; got {describe(self.probabilities)} from {probabilities.min():g}, with "
                f"sums from {sums.min():g} to {sums.max():g}."
            )

    @classmethod
    def random(
        cls,
        *,
        classes: int,
        positions: int = 1,
        alphabet: int = 8,
        channels: int = 1,
        side: int = 4,
        strength: float = 1.0,
        seed: int = 0,
    ) -> CategoricalPatches:
        """Draw the alphabet and the probabilities.

        Args:
            classes: M, the number of labels.
            positions: Number of patches of a picture, or 1 for one distribution in all places.
            alphabet: A, the number of symbols.
            channels: C.
            side: Height and width of a patch, in pixels.
            strength: Standard deviation of the log-probabilities, in nats. A larger one gives a
                patch more information.
            seed: The seed of this function's own generator.

        Returns:
            Symbols of pixels in ±[0.5, 1], and their probabilities.
        """
        m, p, c, s = patch_sizes(classes, positions, channels, side)
        count = positive_int("alphabet", alphabet)
        spread = finite_number("strength", strength, above=0)
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.rand(count, c, s, s, generator=generator, dtype=torch.float64) - 0.5
        logits = spread * torch.randn(m, p, count, generator=generator, dtype=torch.float64)
        return cls(pixels + pixels.sign() / 2, logits.softmax(2))

    @property
    def classes(self) -> int:
        """M."""
        return len(self.probabilities)

    @property
    def positions(self) -> int:
        """P."""
        return self.probabilities.shape[1]

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        channels, height, width = self.symbols.shape[1:]
        return channels, height, width

    def may_be_all(self, value: float) -> bool:
        """Whether a symbol has this value everywhere, in single precision."""
        return bool((self.symbols.float() == value).flatten(1).all(1).any())

    def sample(self, labels: Tensor, patches: int, generator: torch.Generator) -> Tensor:
        """Draw patches (N, patches, C, h, w)."""
        probabilities = self.probabilities[labels].expand(-1, patches, -1).flatten(0, 1)
        drawn = torch.multinomial(probabilities, 1, generator=generator)
        return self.symbols[drawn.reshape(len(labels), patches)]

    def likelihood(self) -> nn.Module:
        """The log-likelihood as a module."""
        return _CategoricalLikelihood(self.symbols, self.probabilities.log())


class _CategoricalLikelihood(nn.Module):
    """The logarithm of the probability of the nearest symbol."""

    symbols: Tensor
    log_probabilities: Tensor

    def __init__(self, symbols: Tensor, log_probabilities: Tensor) -> None:
        super().__init__()
        self.register_buffer("symbols", symbols.flatten(1).clone())  # (A, C h w)
        self.register_buffer("log_probabilities", log_probabilities.permute(1, 2, 0).clone())

    def forward(self, patches: Tensor) -> Tensor:
        values = patches.flatten(2).to(self.symbols)
        distances = (values[:, :, None] - self.symbols).square().sum(3)
        symbol = distances.argmin(2)
        table = self.log_probabilities.expand(symbol.shape[1], -1, -1)
        return table[torch.arange(symbol.shape[1], device=symbol.device), symbol]
