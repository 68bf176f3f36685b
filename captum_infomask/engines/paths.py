# Integrals along a straight path of features: the amount that each feature adds to a value.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.replay import WHILE_TRAINING, Again, Replay
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import check_agreement

_NODES = 8  # Gauss–Legendre nodes on each piece of a path
_NODES_OF_ROOTS = 32
_MOST_NODES = 128
_MOST_NUMBERS = 2**21  # numbers of the features at points that are run together

_MOVES = ("permute", "transpose")
_RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze")
_REDUCTIONS = ("mean", "sum")
_LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
_AFFINE = (*_MOVES, *_RESHAPES, *_REDUCTIONS, *_LAYERS, "contiguous", "clone")
_AFFINE_POOLS = ("adaptive_avg_pool", "avg_pool")


# The function that is integrated: from outputs (n, M, ...) to a number for each of K classes, (n,
# K).
Value: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Shares:
    """The amount that every feature adds to a value along a path.

    Attributes:
        shares: (K, n, ...), like the features.
        explained: The value at the path's end minus the value at its start, (n, K).
    """

    shares: Tensor
    explained: Tensor


def shares_along(
    replay: Replay, start: Tensor, end: Tensor, output: Tensor, value: Value, tolerance: float
) -> Shares:
    r"""Share out the rise of a value from some features to others.

    .. math::

        \varphi_j = (f_j - f_{0,j}) \int_0^1
            \frac{\partial v}{\partial f_j}\bigl(f_0 + t (f - f_0)\bigr)\, dt

    Gauss–Legendre's rule takes the integral on pieces of the path. The fundamental theorem of
    calculus gives the sum of each piece. The piece with the largest error is halved until all
    errors together are below the tolerance, or 128 points are reached. While the network's steps
    are affine, the path stays straight, and only the steps after them run at each point. For a
    linear head after a global mean this is the softmax alone.

    Args:
        replay: The steps from the features to the output.
        start: f₀, of the features' shape.
        end: f, the features (n, ...).
        output: The network's output for them.
        value: The function whose rise is shared out.
        tolerance: The amount that may be missing.

    Raises:
        StandsAside: The steps do not repeat the network's output.
    """
    prefix = _affine_steps(replay)
    with torch.inference_mode(False), torch.enable_grad():
        features = end.detach().clone().requires_grad_()
        through, begin = features, start
        if prefix:
            through = replay(features.clone(), stop=prefix)
            begin = replay(start.clone(), stop=prefix).detach()
        path = Path(replay, prefix, begin, through.detach(), output, value)
        covectors, explained = path.integrate(tolerance)
        if prefix:
            pulled = [
                torch.autograd.grad(through, features, one.to(through), retain_graph=True)[0]
                for one in covectors
            ]
            covectors = torch.stack(pulled)
    shares = covectors.to(torch.float64) * (end - start).double()
    return Shares(shares, explained)


def _affine_steps(replay: Replay) -> int:
    """Count the steps after the features that are affine and lead to one value, a row a picture."""
    for place, step in enumerate(replay.steps):
        if not (is_affine(step) and _keeps_rows(step) and replay.is_chain(place)):
            return place
    return len(replay.steps)


def is_affine(step: Again) -> bool:
    """Whether a step is affine in the one value that it reads."""
    if step.name in WHILE_TRAINING:
        return step.is_at_rest
    return step.name in _AFFINE or step.name.startswith(_AFFINE_POOLS)


def _keeps_rows(step: Again) -> bool:
    """Whether the first dimension still holds the pictures, each by itself."""
    before, after = step.shapes
    if step.name in _MOVES or step.name in _REDUCTIONS:
        sizes = tuple(range(2, 2 + len(before)))  # sizes that identify the dimensions
        moved = step.function(torch.empty(sizes, device="meta"), *step.args[1:], **step.kwargs)
        return tuple(moved.shape[:1]) == sizes[:1]
    return before[:1] == after[:1]


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of one picture's path.

    Attributes:
        ends: Its beginning and end, in [0, 1].
        risen: The value at its end minus the value at its beginning, (K,).
        slope: The integral of the gradient over it, (K, ...).
        off: The largest difference between ``risen`` and the rise that the slope gives.
    """

    ends: tuple[float, float]
    risen: Tensor
    slope: Tensor
    off: float


class Path:
    """The straight line between two states of n pictures, as the steps that follow see it.

    Args:
        replay: The steps from the features to the output.
        done: The number of its steps that lead to the states.
        start: The beginning of the line, (n or 1, ...).
        end: The end of the line, (n, ...).
        output: The network's output for the end.
        value: The function whose rise is shared out.
    """

    def __init__(
        self,
        replay: Replay,
        done: int,
        start: Tensor,
        end: Tensor,
        output: Tensor,
        value: Value,
    ) -> None:
        self._replay, self._done, self._value = replay, done, value
        self._is_empty = done == len(replay.steps)
        exact = torch.float64 if self._is_empty else end.dtype
        self._start, self._way = start.to(exact).expand_as(end), end.to(exact) - start.to(exact)
        self._output = output
        self._together = max(1, _MOST_NUMBERS // max(end.numel(), 1))  # points of every path

    def integrate(self, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return the integral of the gradient (K, n, ...), and the value's rise (n, K)."""
        whole = [(0.0, 1.0)]
        pieces = self._pieces([whole] * len(self._way))
        nodes = _NODES
        while nodes < _MOST_NODES:
            left = [sum(piece.off for piece in own) > tolerance for own in pieces]
            if not any(left):
                break
            worst = [max(own, key=lambda piece: piece.off) for own in pieces]
            halves = self._pieces([_halves(*piece.ends) for piece in worst])
            for own, piece, new, is_left in zip(pieces, worst, halves, left, strict=True):
                if is_left:
                    own.remove(piece)
                    own.extend(new)
            nodes += 2 * _NODES
        slopes = [torch.stack([piece.slope for piece in own]).sum(0) for own in pieces]
        risen = [torch.stack([piece.risen for piece in own]).sum(0) for own in pieces]
        return torch.stack(slopes, dim=1), torch.stack(risen)

    def _pieces(self, parts: Sequence[Sequence[tuple[float, float]]]) -> list[list[_Piece]]:
        """Integrate each picture's path over adjoining parts, the same number for each."""
        count = len(parts[0])
        ends = torch.tensor([[own[0][0], *(end for _, end in own)] for own in parts]).double()
        begin, length = ends[:, :-1].T[:, None], ends.diff().T[:, None]
        points, weights = (
            torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(_NODES)
        )
        inner = begin + length * (points[:, None] + 1) / 2
        values, gradients = self._look(torch.cat([ends.T, inner.flatten(0, 1)]))
        risen = values[: count + 1].diff(dim=0)
        of_parts = gradients[:, count + 1 :].unflatten(1, (count, _NODES))
        scales = (length * weights[:, None] / 2).to(gradients)
        shape = (1, *scales.shape, *[1] * (gradients.dim() - 3))
        slopes = (of_parts * scales.reshape(shape)).sum(2)
        added = (slopes * self._way).reshape(*slopes.shape[:3], -1).sum(3).double()
        off = (risen.movedim(-1, 0) - added).abs().amax(0)
        return [
            [
                _Piece(own[part], risen[part, i], slopes[:, part, i], float(off[part, i]))
                for part in range(count)
            ]
            for i, own in enumerate(parts)
        ]

    def _look(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (T, n, K) and gradients (K, T, n, ...) at points of the paths, (T, n)."""
        while True:
            try:
                return self._in_turn(times)
            except (RuntimeError, IndexError, ValueError, StandsAside) as error:
                if is_out_of_memory(error):
                    if self._together == 1:
                        raise
                    self._together //= 2
                elif not self._is_eased():
                    first = str(error).strip().splitlines()[:1]
                    raise StandsAside(f"its steps cannot be run again: {''.join(first)}") from error

    def _is_eased(self) -> bool:
        """Whether the steps can run in another way: one point after another, or on copies."""
        if self._together > 1:
            self._together = 1  # its steps may depend on the number of pictures
        elif not self._replay.is_careful:
            self._replay.is_careful = True
        else:
            return False
        return not self._is_empty

    def _in_turn(self, times: Tensor) -> tuple[Tensor, Tensor]:
        found = [self._at(some) for some in times.split(self._together)]
        values, gradients = zip(*found, strict=True)
        return torch.cat(values), torch.cat(gradients, dim=1)

    def _at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        count, n = times.shape
        shape = (count, n, *[1] * (self._way.dim() - 1))
        states = self._start + times.to(self._way).reshape(shape) * self._way
        states = states.flatten(0, 1).requires_grad_()
        output = states if self._is_empty else self._replay(states.clone(), self._done)
        self._check(times, output)
        values = self._value(output.double())
        gradients = [
            torch.autograd.grad(column.sum(), states, retain_graph=True)[0].unflatten(0, (count, n))
            for column in values.unbind(1)
        ]
        return values.detach().unflatten(0, (count, n)), torch.stack(gradients)

    def _check(self, times: Tensor, output: Tensor) -> None:
        """Refuse steps that do not repeat the network's output for the features."""
        if len(output) != times.numel():
            raise StandsAside("its steps hold how many pictures there are")
        for place in (times == 1).all(1).nonzero()[:, 0].tolist():
            own = output.detach().unflatten(0, times.shape)[place]
            check_agreement(own.to(self._output.dtype), self._output)


def _halves(begin: float, end: float) -> list[tuple[float, float]]:
    middle = (begin + end) / 2
    return [(begin, middle), (middle, end)]


def spread(values: Tensor, factors: Tensor, dim: int) -> Tensor:
    """Multiply values by each factor, one after another in a dimension."""
    column = factors.to(values).reshape(-1, *[1] * values.dim())
    spread: Tensor = (column * values).movedim(0, dim).flatten(dim, dim + 1)
    return spread


def over_roots(start: Tensor, rise: Tensor, turn: Tensor, least: Tensor) -> tuple[Tensor, ...]:
    r"""Return the integrals over [0, 1] of :math:`q^{-1/2}, q^{-3/2}, t q^{-3/2}, t^2 q^{-3/2}`.

    Args:
        start: q(0), of :math:`q(t) = \text{least} + \text{rise}\, (t - \text{turn})^2 > 0`.
        rise: The coefficient of the square.
        turn: The place of the minimum, if ``rise`` is not 0.
        least: The value of q there.
    """
    points, weights = (
        torch.from_numpy(part).reshape(-1, *[1] * start.dim()).to(start) / 2
        for part in np.polynomial.legendre.leggauss(_NODES_OF_ROOTS)
    )
    times = points + 0.5
    root = weights * (start + rise * times * (times - 2 * turn)).rsqrt()
    cube = root**3 / weights**2
    near = [each.sum(0) for each in (root, cube, times * cube, times**2 * cube)]
    # If q turns far from this interval, these points are exact, and the closed form is not.
    turns = (turn > -0.1) & (turn < 1.1) & (least < 0.25 * rise)
    rise, least, turn = (torch.where(turns, each, 1) for each in (rise, least, turn))
    width, scale = (least / rise).sqrt(), 1 / (least * rise.sqrt())
    # t = turn + width sinh(s)
    sines = torch.stack([-turn, 1 - turn]) / width
    inverse = (1 + sines**2).rsqrt()
    s, tanh, sech = (end - begin for begin, end in (sines.asinh(), sines * inverse, inverse))
    zeroth = tanh * scale
    moved = -width * sech * scale
    far = (
        s / rise.sqrt(),
        zeroth,
        turn * zeroth + moved,
        turn**2 * zeroth + 2 * turn * moved + width**2 * (s - tanh) * scale,
    )
    return tuple(torch.where(turns, a, b) for a, b in zip(far, near, strict=True))


def meeting_of(lines: tuple[Tensor, Tensor], one: Tensor, other: Tensor) -> Tensor:
    """Return when two of some straight lines meet, by their starts and rises."""
    start, rise = (line.expand(len(one), *line.shape) for line in lines)
    gap = start.gather(-1, one) - start.gather(-1, other)
    closing = rise.gather(-1, other) - rise.gather(-1, one)
    return torch.where(closing == 0, 1, gap / torch.where(closing == 0, 1, closing))


def chosen_of(is_first: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return, for each row (K, rows), the first or the second of two values (K, ...)."""
    shape = *is_first.shape, -1
    chosen = torch.where(is_first[:, :, None], first.reshape(shape), second.reshape(shape))
    return chosen.reshape(first.shape)
