# Reads a regression network's outputs as information about a value.
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import AnyHead, check_head_output, widen
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.scores.targets import check_range, select
from captum_infomask.scores.value_heads import Normal, ValueHead

# A value for all examples, or one for each.
Values: TypeAlias = float | list[float] | Tensor | None


@dataclass(frozen=True)
class ValueScore:
    r"""Reads outputs as the information about a value: log p(y | v) − log p(y), both densities.

    A row of the table holds the place of the target in the output, followed by the value y. It is
    float64, so both are exact. The result is differentiable in the output.

    Attributes:
        score: Its head and prior are those of values.
    """

    score: Score

    @property
    def head(self) -> AnyHead:
        """The head of values."""
        return self.score.head

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        return self.score.unit

    @property
    def has_partition(self) -> bool:
        """True: the density is normalised, so its partition is 1 for every sample."""
        return True

    def check(self, output: Tensor, table: Tensor | None) -> None:
        """Refuse outputs that are no numbers; targets, settings and values that do not fit them."""
        columns, values = _parts(table)
        check_head_output(output, self.head)
        sizes = tuple(output.shape[1:])
        if columns is not None and set(sizes) <= {1} and bool(columns.any()):
            raise ArgumentError(
                f"Expected `target` 0 or None for the one value per example of the output of shape "
                f"{tuple(output.shape)}; got {int(columns.max())}. The value that bits are about "
                f"is `value`."
            )
        check_range(columns, tuple(output.shape))
        found = output.shape[1] if output.dim() > 1 else 1
        head, prior = self._densities
        for name, wanted in (("head", head.columns), ("prior", prior.columns)):
            if wanted is not None and wanted != found:
                raise ArgumentError(
                    f"Expected `{name}` for {found} columns, those of the output of shape "
                    f"{tuple(output.shape)}; got {getattr(self.score, name)}."
                )
        self._check_values(values, columns, widen(output[:0]).dtype)

    def _check_values(self, values: Tensor, places: Tensor | None, dtype: torch.dtype) -> None:
        """Refuse values so far from the prior that their densities are no numbers of the type."""
        columns = None if places is None else places[:, 0]
        head, prior = self._densities
        densities = (
            prior.log_density(values, columns),
            head.log_density(values, prior.means(columns), columns),
        )
        for nats in densities:
            wrong = values.isfinite() & ~nats.to(dtype).isfinite()
            if bool(wrong.any()):
                raise ArgumentError(
                    f"Expected `value`, or what the network predicts, in the range of {prior}; got "
                    f"{float(values[wrong][0]):g}, whose log density {dtype} cannot hold."
                )

    def __call__(self, output: Tensor, table: Tensor | None) -> Tensor:
        """The information of each example, (B,), in the unit."""
        return self._nats(widen(output), table) / NATS_PER_UNIT[self.unit]

    def terms(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Only the information: the mean over draws is that of densities."""
        return (self(output, table),)

    def check_places(self, places: Tensor | None) -> None:
        """Refuse targets, long (n, k), that head or prior already show to be out of range."""
        head, prior = self._densities
        for name, count in (("head", head.columns or 0), ("prior", prior.columns or 0)):
            wrong = count > 1 if places is None else bool((places[:, 0] >= count).any())
            if count and wrong:
                got = None if places is None else int(places[:, 0].max())
                raise ArgumentError(
                    f"Expected `target` between 0 and {count - 1}, as `{name}` has {count} "
                    f"columns; got {got}."
                )

    def at_mode(self, places: Tensor | None) -> Tensor:
        """The information of a prediction without error of the prior's mean, in the unit.

        For :class:`Gaussian` it is log(std/σ). Below 0, the network's error is larger than the
        spread of the values.

        Args:
            places: The place of each example's target in the output, long (n, k), or None.
        """
        columns = None if places is None else places[:, 0]
        head, prior = self._densities
        mean = prior.means(columns)
        nats = head.log_density(mean, mean, columns) - prior.log_density(mean, columns)
        return nats / NATS_PER_UNIT[self.unit]

    def critic(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """The information, float64 (B,), in nats, and the logarithm of its partition, 0."""
        nats = self._nats(output.double(), table)
        return nats, torch.zeros_like(nats)

    @property
    def _densities(self) -> tuple[ValueHead, Normal]:
        head, prior = self.score.head, self.score.prior
        assert isinstance(head, ValueHead), "a head of values"
        assert isinstance(prior, Normal), "as the score checked"
        return head, prior

    def _nats(self, output: Tensor, table: Tensor | None) -> Tensor:
        places, values = _parts(table)
        columns = None if places is None else places[:, 0]
        head, prior = self._densities
        own = values.to(output.dtype).to(output.device)
        density = head.log_density(own, select(output, places), columns)
        return density - prior.log_density(values, columns).to(output.dtype).to(output.device)


@dataclass(frozen=True)
class Prediction(ValueScore):
    """Reads the outputs themselves: the value that the network predicts, in its own unit."""

    @property
    def unit(self) -> str:
        """``nats``, so nothing is divided."""
        return "nats"

    @property
    def has_partition(self) -> bool:
        """False: outputs are no information."""
        return False

    def _nats(self, output: Tensor, table: Tensor | None) -> Tensor:
        return select(output, _parts(table)[0])


def information_of_values(
    score: Score, output: Tensor, places: Tensor | None, value: Values
) -> Tensor:
    """The information of each output about its value, (B,), or about itself if there is none."""
    values = checked_values(value, len(output))
    reader = ValueScore(score)
    if values is None:
        unknown = torch.full((len(output),), torch.nan, device="cpu")
        Prediction(score).check(output, value_table(places, unknown))
        values = select(output, places)
    table = value_table(places, values)
    reader.check(output, table)
    return reader(output, table)


def value_table(places: Tensor | None, values: Tensor) -> Tensor:
    """The reader's table, (n, k + 1), of targets (n, k) and values (n,); k = 0 without targets."""
    own = values.detach().double().cpu()[:, None]
    return own if places is None else torch.cat([places.double(), own], dim=1)


def _parts(table: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """The places of the targets, long (B, k), or None; and the values, (B,)."""
    assert table is not None, "a value is asked for"
    places = table[:, :-1].long()
    return places if places.shape[1] else None, table[:, -1]


def check_no_value(value: Values, score: Score) -> None:
    """Refuse a value for a head of classes."""
    if value is not None:
        raise ArgumentError(
            f"Expected no `value` for head={score.head!r}, whose bits are about a class; got "
            f"{describe(value)}. For a regression network pass head=Gaussian(sigma) and "
            f"prior=Normal(mean, std)."
        )


def checked_values(value: Values, n: int) -> Tensor | None:
    """Return the value of each of n examples, float64 (n,), on the CPU; None for predictions.

    Raises:
        ArgumentError: It is no finite number, nor one per example.
    """
    if value is None:
        return None
    is_other = isinstance(value, str | bool) or (
        isinstance(value, np.ndarray | Tensor)
        and any(kind in str(value.dtype) for kind in ("bool", "complex"))
    )
    found = torch.empty(0, device="cpu")
    if not is_other:
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            found = torch.as_tensor(plain(value), dtype=torch.float64, device="cpu").detach()
    found = found.flatten() if found.numel() in (1, n) else found
    if found.dim() != 1 or len(found) not in (1, n):
        raise ArgumentError(
            f"Expected `value` to be a number, or one per example, {n} in all; got "
            f"{describe(value)}."
        )
    if not bool(found.isfinite().all()):
        raise ArgumentError(f"Expected `value` to be finite; got {describe(value)}.")
    return found.expand(n)
