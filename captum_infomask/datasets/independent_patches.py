# Pictures of patches that are independent given the label. The information of each is known.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_infomask._checks import describe, one_of, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask.datasets.known_information import (
    BayesNetwork,
    conditional_information,
    mean_over_orders,
    single_information,
    total_information,
)
from captum_infomask.datasets.patch_families import PatchFamily

_VIEWS = {
    "crop": single_information,
    "keep": single_information,
    "drop": conditional_information,
    "chain": mean_over_orders,
}
_MOST_IN_A_CHAIN = 12  # 2¹² sets of patches
_NATS_PER_BIT = math.log(2)


@dataclass(frozen=True, eq=False)
class IndependentPatches:
    r"""Pictures made of patches that are drawn independently given the label.

    Every number that the package estimates has a closed form here. With
    :math:`\ell_{k,r} = \log p(x_r \mid k)`, for a set S of patches

    .. math::

        i(y; x_S) = \sum_{r \in S} \ell_{y,r}
                    - \log \sum_k \pi_k \exp \sum_{r \in S} \ell_{k,r}.

    Args:
        patches: The distribution of patches given the label: ``GaussianPatches`` or
            ``CategoricalPatches``.
        rows: Patches down.
        columns: Patches across.
        prior: π, a probability above 0 per class; uniform if None.
        baseline: The value of hidden pixels. A patch that has this value everywhere tells nothing.

    Attributes:
        log_prior: log π, float64 (M,).
        shared: Whether all patches share one distribution, so that a patch can be shown alone.

    Raises:
        ArgumentError: An argument is out of range, or does not fit the others.

    Example:
        >>> from captum_infomask import InfoMask, grid
        >>> from captum_infomask.datasets import GaussianPatches, IndependentPatches
        >>> pictures = IndependentPatches(
        ...     GaussianPatches.random(classes=3, positions=4), rows=2, columns=2)
        >>> images, labels = pictures.draw(5, seed=0)
        >>> exact = pictures.information(images, labels, view="keep")
        >>> infomap = InfoMask(pictures.network()).score_regions(
        ...     images, target=labels, view="keep", regions=grid(images, 2, 2))
        >>> bool((infomap.scores - exact).abs().max() < 1e-9)
        True

    Source: Bayes' rule; the chain's values are those of Shapley, "A Value for n-Person Games".
    """

    patches: PatchFamily
    rows: int
    columns: int
    prior: Sequence[float] | Tensor | None = None
    baseline: float = 0.0

    def __post_init__(self) -> None:
        count = positive_int("rows", self.rows) * positive_int("columns", self.columns)
        if self.patches.positions not in (1, count):
            raise ArgumentError(
                f"Expected `patches` with 1 position (shared) or {count} = {self.rows} × "
                f"{self.columns}; got {self.patches.positions}."
            )
        if self.patches.may_be_all(self.baseline):
            raise ArgumentError(
                f"Expected `baseline` to differ from every symbol of `patches`, so that a hidden "
                f"patch can be told; got {self.baseline!r}, which is all that one symbol holds."
            )
        object.__setattr__(self, "prior", self._checked_prior())

    @property
    def shared(self) -> bool:
        """Whether all patches share one distribution."""
        return self.patches.positions == 1

    @property
    def log_prior(self) -> Tensor:
        """Log π, float64 (M,)."""
        if self.prior is None:
            return torch.ones(self.patches.classes).double().log_softmax(0)
        return torch.as_tensor(self.prior).log()

    def draw(
        self, count: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Draw pictures.

        Args:
            count: N.
            seed: The seed of this function's own generator; the global one is not used.
            dtype: The pictures' type.

        Returns:
            Pictures (N, C, rows · h, columns · w) and labels, long (N,).
        """
        generator = torch.Generator().manual_seed(seed)
        count = positive_int("count", count)
        labels = torch.multinomial(self.log_prior.exp(), count, True, generator=generator)
        drawn = self.patches.sample(labels, self.rows * self.columns, generator)
        channels, height, width = self.patches.patch_shape
        drawn = drawn.reshape(count, self.rows, self.columns, channels, height, width)
        images = drawn.permute(0, 3, 1, 4, 2, 5)
        shape = (count, channels, self.rows * height, self.columns * width)
        return images.reshape(shape).to(dtype), labels

    def information(
        self,
        images: Tensor,
        target: int | Tensor,
        view: Literal["crop", "keep", "drop", "chain"],
    ) -> Tensor:
        r"""The exact information of each patch about the target.

        ================== ======================================================
        view               value of patch r
        ================== ======================================================
        ``crop``, ``keep`` i(y; x_r)
        ``drop``           i(y; x) − i(y; x without r)
        ``chain``          mean over all orders of i(y; x_r given what is before)
        ================== ======================================================

        Args:
            images: (N, C, rows · h, columns · w).
            target: y: a class, or one per picture, long (N,).
            view: The view; ``chain`` takes at most 12 patches.

        Returns:
            (N, rows · columns), float64, in bits, row by row as :func:`captum_infomask.grid`.

        Raises:
            ArgumentError: An argument is out of range, or does not fit the others.
        """
        formula = _VIEWS[one_of("view", view, _VIEWS)]
        if view == "chain" and self.rows * self.columns > _MOST_IN_A_CHAIN:
            raise ArgumentError(
                f"Expected at most {_MOST_IN_A_CHAIN} patches for view='chain', which lists every "
                f"set of patches; got {self.rows * self.columns}."
            )
        found = self._log_likelihoods(images)
        return formula(found, self.log_prior, self._targets(target, len(found))) / _NATS_PER_BIT

    def total(self, images: Tensor, target: int | Tensor) -> Tensor:
        """i(y; x) of whole pictures, (N,), float64, in bits; arguments as ``information``."""
        found = self._log_likelihoods(images)
        targets = self._targets(target, len(found))
        return total_information(found, self.log_prior, targets) / _NATS_PER_BIT

    def network(
        self, trained_with: Literal["cross_entropy", "pc_softmax"] = "cross_entropy"
    ) -> BayesNetwork:
        """The Bayes-optimal network, in double precision (``.float()`` gives single precision).

        Args:
            trained_with: With ``cross_entropy`` the logits contain log π; with ``pc_softmax`` they
                do not.

        Returns:
            A module from pictures to logits (N, M). If all patches share one distribution, it takes
            pictures with any number of patches.
        """
        training = one_of("trained_with", trained_with, ("cross_entropy", "pc_softmax"))
        return BayesNetwork(
            self.patches.likelihood(),
            self.log_prior if training == "cross_entropy" else torch.zeros_like(self.log_prior),
            self.patches.patch_shape,
            None if self.shared else (self.rows, self.columns),
            self.baseline,
        ).eval()

    def _log_likelihoods(self, images: Tensor) -> Tensor:
        """(N, R, M) on the CPU; refuses pictures of a size that the network may take."""
        channels, height, width = self.patches.patch_shape
        shape = (channels, self.rows * height, self.columns * width)
        if not isinstance(images, Tensor) or tuple(images.shape[1:]) != shape:
            raise ArgumentError(
                f"Expected `images` (N, {', '.join(map(str, shape))}); got {describe(images)}."
            )
        return self.network().log_likelihoods(images.detach().to("cpu", torch.float64))

    def _targets(self, target: int | Tensor, count: int) -> Tensor:
        """One class per picture, long (N,)."""
        values = torch.as_tensor(target).cpu()
        if (
            values.is_floating_point()
            or values.dtype == torch.bool
            or tuple(values.shape) not in ((), (count,))
            or not bool(((values >= 0) & (values < self.patches.classes)).all())
        ):
            raise ArgumentError(
                f"Expected `target` to be a class from 0 to {self.patches.classes - 1}, or one "
                f"for each of the {count} pictures; got {describe(target)}."
            )
        return values.long().expand(count)

    def _checked_prior(self) -> Tensor | None:
        """The prior in float64, summing to 1 to the last digit."""
        if self.prior is None:
            return None
        try:
            prior = torch.as_tensor(self.prior, dtype=torch.float64)
        except (TypeError, ValueError):
            prior = torch.empty(0)
        if (
            tuple(prior.shape) != (self.patches.classes,)
            or not bool((prior > 0).all())
            or abs(float(prior.sum()) - 1) > 1e-6
        ):
            raise ArgumentError(
                f"Expected `prior` to hold {self.patches.classes} probabilities above 0 that sum "
                f"to 1; got {describe(self.prior)}."
            )
        return prior / prior.sum()
