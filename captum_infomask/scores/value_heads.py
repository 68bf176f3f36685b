# Heads of networks that return values, not classes: the density of a value, given an output.
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, finite_number
from captum_infomask._errors import ArgumentError

# One number for all columns of the output, or one for each.
Number: TypeAlias = float | tuple[float, ...]
AnyNumber: TypeAlias = float | tuple[float, ...] | list[float] | Tensor

_LOG_2PI = math.log(2 * math.pi)


@runtime_checkable
class ValueHead(Protocol):
    """The density p(y | v) of a value, read from the network's output for it."""

    @property
    def columns(self) -> int | None:
        """The number of the output's columns, if the settings tell it."""
        ...

    def log_density(self, values: Tensor, predictions: Tensor, columns: Tensor | None) -> Tensor:
        """Log p(y | v), in nats, (B,); differentiable in the predictions.

        Args:
            values: y, (B,).
            predictions: f(v), (B,).
            columns: The column of the output that each is of, long (B,); None if there is one.
        """
        ...


@dataclass(frozen=True, init=False)
class Gaussian:
    r"""The head of a regression network whose errors are Gaussian: p(y | v) = N(y; f(v), σ²).

    With the prior :class:`Normal`, the information is a log ratio of two densities:

    .. math::

        i(y; v) = \log \frac{N(y; f(v), \sigma^2)}{p(y)}.

    It has no upper bound of the kind of :math:`-\log \pi_y`. At the mode, if f(v) = y = the prior's
    mean, it is :math:`\log(\text{std}/\sigma)`; a value far from the mean can hold more.

    Args:
        sigma: σ > 0, the standard deviation of the network's errors on examples that it was not
            trained on, in the unit of the output; or a list of them, one per column of the output.
            It is no variance.

    Raises:
        ArgumentError: ``sigma`` is not above 0.

    Example:
        >>> import torch
        >>> from captum_infomask import Gaussian, InfoMask, Normal
        >>> network = lambda x: x.mean((1, 2, 3))
        >>> infomask = InfoMask(network, head=Gaussian(0.5), prior=Normal(mean=0.0, std=4.0))
        >>> infomap = infomask.score_regions(torch.zeros(1, 1, 8, 8), value=1.0, view="drop")
        >>> print(f"{infomap.total.item():.3f} bits")  # log2(4 / 0.5), less the error's cost
        0.160 bits

    Source: the pointwise mutual information of arXiv 1910.02629, with densities in place of
    probabilities; Bishop, "Pattern Recognition and Machine Learning" (2006), Eq. 1.60.
    """

    sigma: Number

    def __init__(self, sigma: AnyNumber) -> None:
        vars(self)["sigma"] = _checked("sigma", sigma, above=0)

    @property
    def columns(self) -> int | None:
        """The number of the output's columns, if ``sigma`` is a list."""
        return _count(self.sigma)

    def log_density(self, values: Tensor, predictions: Tensor, columns: Tensor | None) -> Tensor:
        """Log N(y; f(v), σ²), in nats, (B,)."""
        return _log_normal(values, predictions, _at(self.sigma, columns, predictions))

    @classmethod
    def of_errors(cls, errors: object) -> Gaussian:
        r"""The head with the most likely σ for some errors: :math:`\sqrt{\text{mean of } e^2}`.

        Args:
            errors: Values less predictions of examples that the network was not trained on, (n,),
                or (n, D) for D columns.

        Raises:
            ArgumentError: They are not finite numbers, or all are 0.

        Example:
            >>> from captum_infomask import Gaussian
            >>> Gaussian.of_errors([3.0, -4.0, 0.0, 0.0])
            Gaussian(sigma=2.5)
        """
        return cls(_checked_rows("errors", errors).square().mean(0).sqrt())


@dataclass(frozen=True, init=False)
class Laplace:
    r"""The head of a network trained by the absolute error: p(y | v) = e^(−|y − f(v)|/b)/(2b).

    The prior is :class:`Normal`: it is the distribution of the values, which need not have the form
    of the errors.

    Args:
        scale: b > 0, the mean absolute error of the network on examples that it was not trained on,
            in the unit of the output; or a list of them, one per column of the output.

    Raises:
        ArgumentError: ``scale`` is not above 0.

    Example:
        >>> import torch
        >>> from captum_infomask import Laplace, Normal, information
        >>> bits = information(torch.tensor([3.0, 9.0]), value=3.0, head=Laplace(0.5),
        ...                    prior=Normal(mean=3.0, std=4.0))
        >>> [round(each, 2) for each in bits.tolist()]
        [3.33, -13.99]

    Source: as for :class:`Gaussian`.
    """

    scale: Number

    def __init__(self, scale: AnyNumber) -> None:
        vars(self)["scale"] = _checked("scale", scale, above=0)

    @property
    def columns(self) -> int | None:
        """The number of the output's columns, if ``scale`` is a list."""
        return _count(self.scale)

    def log_density(self, values: Tensor, predictions: Tensor, columns: Tensor | None) -> Tensor:
        """The logarithm of the density, in nats, (B,)."""
        scale = _at(self.scale, columns, predictions)
        return -(values - predictions).abs() / scale - (2 * scale).log()

    @classmethod
    def of_errors(cls, errors: object) -> Laplace:
        r"""The head with the most likely b for some errors: the mean of :math:`|e|`.

        Args:
            errors: Values less predictions of examples that the network was not trained on, (n,),
                or (n, D) for D columns.

        Raises:
            ArgumentError: They are not finite numbers, or all are 0.

        Example:
            >>> from captum_infomask import Laplace
            >>> Laplace.of_errors([3.0, -4.0, 0.0, 1.0])
            Laplace(scale=2.0)
        """
        return cls(_checked_rows("errors", errors).abs().mean(0))


@dataclass(frozen=True, init=False)
class Normal:
    """The prior p(y) of values: a normal distribution, for the heads of values.

    :func:`estimate_prior` estimates it from values with ``of="values"``.

    Args:
        mean: Its mean, in the unit of the output; or a list of them, one per column of the output.
        std: Its standard deviation, above 0; or a list of them.

    Raises:
        ArgumentError: ``std`` is not above 0, or the lists differ in their lengths.

    Example:
        >>> from captum_infomask import Normal
        >>> Normal(mean=[40.0, 170.0], std=[12.0, 9.0])
        Normal(mean=(40.0, 170.0), std=(12.0, 9.0))
    """

    mean: Number
    std: Number

    def __init__(self, mean: AnyNumber, std: AnyNumber) -> None:
        vars(self).update(mean=_checked("mean", mean), std=_checked("std", std, above=0))
        counts = {_count(self.mean), _count(self.std)} - {None}
        if len(counts) > 1:
            raise ArgumentError(
                f"Expected `mean` and `std` for the same number of columns; got {self}."
            )

    @property
    def columns(self) -> int | None:
        """The number of the output's columns, if a setting is a list."""
        return max(_count(self.mean) or 0, _count(self.std) or 0) or None

    def means(self, columns: Tensor | None) -> Tensor:
        """The mean of each example's column, float64, (B,), or () for a mean of all columns."""
        return _at(self.mean, columns, torch.empty(0, dtype=torch.float64, device="cpu"))

    def log_density(self, values: Tensor, columns: Tensor | None) -> Tensor:
        """Log p(y), in nats, (B,)."""
        return _log_normal(values, _at(self.mean, columns, values), _at(self.std, columns, values))


_BY_NAME = {kind.__name__: kind for kind in (Gaussian, Laplace, Normal)}


def as_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with plain numbers and words, for files, in the place of heads and priors."""
    return {
        name: {type(value).__name__: vars(value)} if type(value) in _BY_NAME.values() else value
        for name, value in settings.items()
    }


def from_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings again, from those of a file.

    Raises:
        ValueError: There is no such head or prior.
        TypeError: It has no such settings.
    """
    return {name: _restored(value) for name, value in settings.items()}


def _restored(value: object) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, own),) = value.items()
    if kind not in _BY_NAME:
        raise ValueError(f"there is no {kind}")
    return _BY_NAME[kind](**own)


def _log_normal(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return -0.5 * (((values - mean) / std).square() + _LOG_2PI) - std.log()


def _count(number: Number) -> int | None:
    return len(number) if isinstance(number, tuple) else None


def _at(number: Number, columns: Tensor | None, like: Tensor) -> Tensor:
    """The number of each example's column, (B,) or ()."""
    found = torch.tensor(number, dtype=torch.float64, device="cpu").to(like.dtype).to(like.device)
    if found.dim() == 0:
        return found
    return found[0] if columns is None else found[columns.to(like.device)]


def _checked(name: str, given: object, *, above: float = -math.inf) -> Number:
    """One finite number, or one per column."""
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 1:
        given = given.tolist()
    if not isinstance(given, tuple | list):
        return finite_number(name, given, above=above)
    if not given:
        raise ArgumentError(
            f"Expected `{name}` to be a number, or one per column; got an empty list."
        )
    return tuple(finite_number(name, each, above=above) for each in given)


def _checked_rows(name: str, given: object) -> Tensor:
    """Numbers (n,), or (n, D), float64, on the CPU."""
    try:
        rows = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        rows = torch.empty(0, device="cpu")
    if rows.dim() not in (1, 2) or not rows.numel() or not bool(rows.isfinite().all()):
        raise ArgumentError(
            f"Expected `{name}` to hold finite numbers (n,), or (n, D) for D columns; got "
            f"{describe(given)}."
        )
    return rows


def normal_of(values: object, name: str) -> Normal:
    """The normal distribution with the mean and the standard deviation of values.

    Args:
        values: (n,), or (n, D) for D columns; at least two.
        name: The argument's name, for messages.

    Raises:
        ArgumentError: They are not finite numbers, or fewer than two, or all the same.
    """
    rows = _checked_rows(name, values)
    if len(rows) < 2 or bool((rows.std(0) == 0).any()):
        raise ArgumentError(
            f"Expected `{name}` to hold at least two values that differ; got {describe(values)}."
        )
    return Normal(rows.mean(0), rows.std(0))
