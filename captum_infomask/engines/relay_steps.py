# The rules by which each kind of step shares out among its inputs the shares of its outputs.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.paths import chosen_of, is_affine, meeting_of, over_roots, spread
from captum_infomask.engines.replay import Again

_NODES = (1, 8, 32)  # Gauss–Legendre nodes on a step's path; one is enough if it is bilinear
_SUMS = ("add", "iadd", "radd", "sub", "isub", "rsub", "neg", "cat", "concat", "stack")
_PARTS = ("getitem", "chunk", "split", "narrow", "select", "unbind", "expand", "pad")
_ELEMENTWISE = frozenset(
    {
        "abs",
        "celu",
        "clamp",
        "clamp_max",
        "clamp_min",
        "elu",
        "erf",
        "exp",
        "expm1",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log",
        "log1p",
        "logsigmoid",
        "mish",
        "pow",
        "prelu",
        "reciprocal",
        "relu",
        "relu6",
        "rsqrt",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softshrink",
        "softsign",
        "sqrt",
        "square",
        "tanh",
        "threshold",
    }
)
# Steps whose outputs are the largest of some inputs, and their forms that return places too.
_LARGEST = {
    f"{kind}max_pool{places}d": (places, getattr(F, f"{kind}max_pool{places}d_with_indices"))
    for kind in ("", "adaptive_")
    for places in (1, 2, 3)
}
_PIECES = 32  # pieces of a path on which the largest input is looked up
_MOST_NUMBERS = 2**23  # numbers that a step reads at points that run together
# The dimension of pictures, each by itself, in steps that may run at many points at once.
_PICTURES_OF = {"scaled_dot_product_attention": 0, "multi_head_attention_forward": 1}
_NEAR = 1e-4  # relative; a quotient of smaller differences is only rounding


@dataclass(frozen=True, eq=False)
class Stride:
    """One step at both inputs.

    Attributes:
        step: The step.
        at: Its inputs at the end, by slot: leaves.
        origin: Its inputs at the start.
        made: Its outputs at the end, with their history.
        begun: Its outputs at the start.
        pictures: The number of pictures.
    """

    step: Again
    at: Mapping[int, Tensor]
    origin: Mapping[int, Tensor]
    made: tuple[Tensor, ...]
    begun: tuple[Tensor, ...]
    pictures: int

    def back(self, given: Mapping[int, Tensor], tolerance: float) -> dict[int, Tensor]:
        """Return the multipliers (K, n, ...) of its inputs, by slot, given those of its outputs."""
        places = [
            place
            for place, slot in enumerate(self.step.makes)
            if slot in given and self.made[place].requires_grad
        ]
        came = [given[self.step.makes[place]] for place in places]
        moving = [slot for slot, read in self.at.items() if read.requires_grad]
        if not places or not moving:
            return {}
        if self._is_elementwise(moving):
            (slot,) = moving
            return {slot: came[0] * self._quotient(self.at[slot], self.origin[slot])}
        if self.step.name in _LARGEST and len(moving) == 1:
            return {moving[0]: self._to_largest(came[0], moving[0])}
        if self.step.name == "layer_norm" and self.step.reads == (moving[0],):
            return {moving[0]: self._normed(came[0], moving[0])}
        if self._is_affine(moving):
            made = [self.made[place] for place in places]
            return _pulled(made, [self.at[slot] for slot in moving], came, moving)
        return self._along(places, came, moving, tolerance)

    def _is_elementwise(self, moving: Sequence[int]) -> bool:
        return (
            self.step.name in _ELEMENTWISE
            and len(self.at) == len(moving) == 1
            and self.made[0].shape == self.at[moving[0]].shape
        )

    def _is_affine(self, moving: Sequence[int]) -> bool:
        name = self.step.name
        return name in _SUMS or name in _PARTS or (len(moving) == 1 and is_affine(self.step))

    def _quotient(self, at: Tensor, origin: Tensor) -> Tensor:
        """Return the rise of an elementwise step, divided by the rise of its input."""
        way = at.detach() - origin
        (slope,) = torch.autograd.grad(self.made[0].sum(), at)
        is_far = way.abs() > _NEAR * at.detach().abs()
        risen = self.made[0].detach() - self.begun[0]
        return torch.where(is_far, risen / torch.where(is_far, way, 1), slope)

    def _to_largest(self, came: Tensor, slot: int) -> Tensor:
        """Share out to each input for the part of the way on which it is the largest.

        The largest input is looked up at 33 times. Between two of them it changes where both inputs
        meet, so nothing is lost.
        """
        places, function = _LARGEST[self.step.name]
        step = replace(self.step, function=function)
        origin, way = self.origin[slot], self.at[slot].detach() - self.origin[slot]
        lines = origin.flatten(-places), way.flatten(-places)
        given = came.flatten(-places)
        found = given.new_zeros(len(given), *lines[0].shape)
        last = step.run({slot: origin})[1].flatten(-places)[None]
        together = max(1, _MOST_NUMBERS // max(way.numel(), 1))
        for piece in range(0, _PIECES, together):
            untils = torch.arange(piece + 1, min(piece + together, _PIECES) + 1).to(origin)
            untils = (untils / _PIECES).reshape(-1, *[1] * origin.dim())
            states = (origin + untils * way).flatten(0, 1)
            after = step.run({slot: states})[1].flatten(-places).unflatten(0, (len(untils), -1))
            before, last = torch.cat([last, after[:-1]]), after[-1:]
            untils = untils.flatten(-places)
            sinces = untils - 1 / _PIECES
            meeting = meeting_of(lines, before, after).clamp(sinces, untils)
            index = _in_a_row(before, after)
            spans = _in_a_row(meeting - sinces, untils - meeting)
            for own, multipliers in zip(found, given, strict=True):
                times = spans.shape[-1] // multipliers.shape[-1]
                own.scatter_add_(-1, index, multipliers.tile(times) * spans)
        return found.reshape(len(given), *origin.shape)

    def _normed(self, came: Tensor, slot: int) -> Tensor:
        r"""Return the mean gradient of a layer norm, whose variance is quadratic along the path.

        With :math:`c + t w` the input minus its mean, :math:`q(t)` its variance and ε,
        :math:`g = m \gamma`, and bars for means,

        .. math::

            (g - \bar g) \int q^{-1/2}
            - c\, \Bigl(\overline{gc} \int q^{-3/2} + \overline{gw} \int t q^{-3/2}\Bigr)
            - w\, \Bigl(\overline{gc} \int t q^{-3/2} + \overline{gw} \int t^2 q^{-3/2}\Bigr).
        """
        named = dict(zip(("shape", "weight", "bias", "eps"), self.step.args[1:], strict=False))
        named |= self.step.kwargs
        weight, eps = named.get("weight"), float(named.get("eps", 1e-5))
        shape = named["shape"] if "shape" in named else named["normalized_shape"]
        dims = tuple(range(-len(shape), 0))

        def mean(values: Tensor) -> Tensor:
            return values.mean(dims, keepdim=True)

        origin, end = self.origin[slot].double(), self.at[slot].detach().double()
        begin, way = origin - mean(origin), end - origin
        way = way - mean(way)
        slopes = came.double() if weight is None else came.double() * weight.double()
        of_begin, of_way = mean(slopes * begin), mean(slopes * way)
        rise = mean(way * way)
        turn = torch.where(rise > 0, -mean(begin * way) / torch.where(rise > 0, rise, 1), 0)
        least = mean((begin + turn * way) ** 2) + eps
        whole, zeroth, first, second = over_roots(mean(begin * begin) + eps, rise, turn, least)
        found = (
            (slopes - mean(slopes)) * whole
            - begin * (of_begin * zeroth + of_way * first)
            - way * (of_begin * first + of_way * second)
        )
        return found.to(came.dtype)

    def _along(
        self, places: Sequence[int], came: Sequence[Tensor], moving: Sequence[int], tolerance: float
    ) -> dict[int, Tensor]:
        """Return the mean gradient on the straight path of the step's inputs.

        More points are taken until the sums fit. Each class and picture keeps the first that do.
        """
        ways = {slot: self.at[slot].detach() - self.origin[slot] for slot in moving}
        rises = [self.made[place].detach() - self.begun[place] for place in places]
        rows = self._rows([*ways.values(), *rises])
        risen = sum(
            (_total(each, own, rows) for each, own in zip(came, rises, strict=True)),
            start=torch.zeros(1, dtype=torch.float64, device=came[0].device),
        )
        found = self._mean_gradients(_NODES[0], places, came, ways)
        for nodes in (*_NODES[1:], None):
            added = sum(
                (_total(each, ways[slot], rows) for slot, each in found.items()),
                start=torch.zeros_like(risen),
            )
            fits = (added - risen).abs() <= tolerance
            if nodes is None or bool(fits.all()):
                break
            more = self._mean_gradients(nodes, places, came, ways)
            found = {slot: chosen_of(fits, found[slot], own) for slot, own in more.items()}
        return found

    def _mean_gradients(
        self,
        nodes: int,
        places: Sequence[int],
        came: Sequence[Tensor],
        ways: Mapping[int, Tensor],
    ) -> dict[int, Tensor]:
        """Return the mean gradients by Gauss–Legendre's rule."""
        dim = self._pictures_of(places, ways)
        if dim is not None:
            return self._at_once(nodes, came[0], ways, dim)
        found: dict[int, Tensor] = {}
        points, weights = np.polynomial.legendre.leggauss(nodes)
        for time, weight in zip((points + 1) / 2, weights / 2, strict=True):
            leaves = dict(self.at)
            for slot, way in ways.items():
                leaves[slot] = (self.origin[slot] + float(time) * way).requires_grad_()
            with torch.enable_grad():
                made = self.step.run(leaves, is_careful=True)
            own = _pulled(
                [made[place] for place in places], [leaves[slot] for slot in ways], came, [*ways]
            )
            for slot, each in own.items():
                found[slot] = found.get(slot, 0) + float(weight) * each
        return found

    def _at_once(
        self, nodes: int, came: Tensor, ways: Mapping[int, Tensor], dim: int
    ) -> dict[int, Tensor]:
        """Apply that rule to an attention, with many points in the place of many pictures."""
        found: dict[int, Tensor] = {}
        points, weights = (
            torch.from_numpy(part).to(came) / 2 for part in np.polynomial.legendre.leggauss(nodes)
        )
        numbers = max(
            way.numel() // way.shape[-1] * max(way.shape[-1], way.shape[0 if dim else -2])
            for way in ways.values()
        )
        heads = self.step.args[4] if dim else 1
        together = max(1, _MOST_NUMBERS // max(numbers * heads, 1))
        groups = zip((points + 0.5).split(together), weights.split(together), strict=True)
        for times, shares in groups:
            leaves = {
                slot: spread(self.origin[slot], times**0, dim)
                .add(spread(way, times, dim))
                .requires_grad_()
                for slot, way in ways.items()
            }
            with torch.enable_grad():
                made = self.step.run(leaves, is_careful=True)[:1]
            own = _pulled(made, [*leaves.values()], [spread(came, shares, dim + 1)], [*leaves])
            for slot, each in own.items():
                added = each.unflatten(dim + 1, (len(times), -1)).sum(dim + 1)
                found[slot] = found.get(slot, 0) + added
        return found

    def _pictures_of(self, places: Sequence[int], ways: Mapping[int, Tensor]) -> int | None:
        """Return the dimension of pictures if the step may run at many points at once."""
        dim, step = _PICTURES_OF.get(self.step.name), self.step
        given = [*step.args[:3], *step.args[13 if dim else 3 :], *step.kwargs.values()]
        if dim is None or places != [0] or len(ways) != len(self.at):
            return None
        # Masks, and queries that are learned, belong to one point.
        if any(isinstance(each, Tensor) for each in given):
            return None
        shapes = [way.shape for way in ways.values()]
        fits = all(len(shape) == len(shapes[0]) >= 3 for shape in shapes)
        return dim if fits and len({shape[dim] for shape in shapes}) == 1 else None

    def _rows(self, values: Sequence[Tensor]) -> int:
        """Return the number of pictures with sums of their own: all, or none if values mix them."""
        first = [each.shape[0] if each.dim() else 1 for each in values]
        return self.pictures if all(size % self.pictures == 0 for size in first) else 1


def _in_a_row(first: Tensor, second: Tensor) -> Tensor:
    """Join each piece's first part, (T, ..., L), and then its second, (..., T 2 L)."""
    both: Tensor = torch.stack([first, second], -2).movedim(0, -3).flatten(-3)
    return both


def _total(multipliers: Tensor, way: Tensor, rows: int) -> Tensor:
    """Return the products of multipliers (K, ...) and a way (...), summed: (K, rows)."""
    made = multipliers.double() * way.double()
    return made.reshape(len(made), rows, -1).sum(2)


def _pulled(
    made: Sequence[Tensor], read: Sequence[Tensor], came: Sequence[Tensor], slots: Sequence[int]
) -> dict[int, Tensor]:
    """Return the gradients (K, n, ...) of the inputs, by slot, for each class's multipliers."""
    of_classes = [
        torch.autograd.grad(
            made,
            read,
            [each[k].to(own.dtype) for each, own in zip(came, made, strict=True)],
            retain_graph=True,
            allow_unused=True,
        )
        for k in range(len(came[0]))
    ]
    return {
        slot: torch.stack([own for own in of_slot if own is not None])
        for slot, of_slot in zip(slots, zip(*of_classes, strict=True), strict=True)
        if of_slot[0] is not None
    }
