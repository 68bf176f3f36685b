# Evidence passed back through a network: every step shares out among what it reads what came back
# to what it made.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.paths import Path, Shares, Value, is_affine
from captum_infomask.engines.recording import Again, Replay
from captum_infomask.engines.traced import StandsAside
from captum_infomask.engines.verified_copy import check_agreement

_NODES = (1, 8, 32)  # Gauss–Legendre's on a step's own path; one is enough where it is bilinear
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
# Where a step's outputs are the largest of some of its inputs: the same with the places of these.
_LARGEST = {
    f"{kind}max_pool{places}d": (places, getattr(F, f"{kind}max_pool{places}d_with_indices"))
    for kind in ("", "adaptive_")
    for places in (1, 2, 3)
}
_READ = ("softmax", "log_softmax", "sigmoid", "logsigmoid")  # as heads say that outputs are
_PIECES = 32  # of a path on which it is looked up which input is the largest
_MOST_NUMBERS = 2**23  # of what a step reads at points that are looked at together
# The dimension of pictures, each by itself, in steps that may run at many points at once.
_PICTURES_OF = {"scaled_dot_product_attention": 0, "multi_head_attention_forward": 1}
_NEAR = 1e-4  # relative: below it a quotient of differences is rounding


def relayed(
    replay: Replay, start: Tensor, end: Tensor, output: Tensor, value: Value, tolerance: float
) -> list[Shares]:
    r"""Share out a value's rise from one input to another among values on the way.

    Each step of the network, :math:`u = s(z)`, goes along its own straight path from what it read
    at the start to what it read at the end, and passes back

    .. math::

        m_j = \sum_i m_i \int_0^1
            \frac{\partial s_i}{\partial z_j}\bigl(z_0 + t (z - z_0)\bigr)\, dt,

    so that no step loses or adds anything: :math:`\sum_j m_j (z_j - z_{0,j})` stays
    :math:`v(x) - v(x_0)` all the way. Affine steps take one backward pass, elementwise ones the
    quotient of differences, products the gradient halfway, layer norms the integral in closed form,
    and all others Gauss–Legendre's points.
    Max-pooling passes back to each input for as much of the way as it is the largest.

    Args:
        replay: What the network makes of its inputs; its marks are the values on the way.
        start: x₀, of the inputs' shape.
        end: x, the inputs (n, ...).
        output: What the network made of them.
        value: What is shared out.
        tolerance: What each step may miss.

    Returns:
        The shares of every mark, in their order.

    Raises:
        StandsAside: The steps do not repeat the network's output, or cannot be run at both inputs.

    Source: the multipliers of DeepLIFT's rescale rule (Shrikumar et al., arXiv 1704.02685), here
    of every differentiable step; Aumann–Shapley values, composed.
    """
    with torch.inference_mode(False):
        try:
            strides, marks, ends = _run(replay, start, end)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            first = str(error).strip().splitlines()[:1]
            raise StandsAside(f"its steps cannot be run again: {''.join(first)}") from error
        check_agreement(ends[0].detach(), output)
        if not bool(ends[1].isfinite().all()):
            raise StandsAside("it gives no finite numbers for the reference, which baselines= sets")
        done, slot = _before_end(replay), replay.last
        if done < len(strides):
            (slot,) = strides[done].at
            ends = strides[done].at[slot], strides[done].origin[slot]
        path = Path(replay, done, ends[1], ends[0].detach(), output, value)
        slope, explained = path.integrate(tolerance)
        multipliers = _passed_back(replay, strides[:done], {slot: slope.to(ends[0])}, tolerance)
    found = []
    for (at, origin), own in zip(marks, multipliers, strict=True):
        found.append(Shares(own.double() * (at - origin).double(), explained))
    return found


@dataclass(frozen=True, eq=False)
class _Stride:
    """One step at both inputs.

    Attributes:
        step: The step.
        at: What it read at the end, by slot: leaves.
        origin: The same at the start.
        made: What it made at the end, with its history.
        begun: The same at the start.
        pictures: How many there are.
    """

    step: Again
    at: Mapping[int, Tensor]
    origin: Mapping[int, Tensor]
    made: tuple[Tensor, ...]
    begun: tuple[Tensor, ...]
    pictures: int

    def back(self, given: Mapping[int, Tensor], tolerance: float) -> dict[int, Tensor]:
        """The multipliers (K, n, ...) of what it read, from those of what it made, by slot."""
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
        """What an elementwise step rises by, for each that its input does."""
        way = at.detach() - origin
        (slope,) = torch.autograd.grad(self.made[0].sum(), at)
        is_far = way.abs() > _NEAR * at.detach().abs()
        risen = self.made[0].detach() - self.begun[0]
        return torch.where(is_far, risen / torch.where(is_far, way, 1), slope)

    def _to_largest(self, came: Tensor, slot: int) -> Tensor:
        """What goes to each input, for the share of the way on which it is the largest.

        It is looked up at 33 times; between two of them the largest changes where both meet, so
        that nothing is lost.
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
            meeting = _meeting(lines, before, after).clamp(sinces, untils)
            index = _in_a_row(before, after)
            spans = _in_a_row(meeting - sinces, untils - meeting)
            for own, multipliers in zip(found, given, strict=True):
                times = spans.shape[-1] // multipliers.shape[-1]
                own.scatter_add_(-1, index, multipliers.tile(times) * spans)
        return found.reshape(len(given), *origin.shape)

    def _normed(self, came: Tensor, slot: int) -> Tensor:
        r"""The mean gradient of a layer norm, whose variance is quadratic along the path.

        With :math:`c + t w` what is read less its mean, :math:`q(t)` its variance and ε,
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
        whole, zeroth, first, second = _of_roots(mean(begin * begin) + eps, rise, turn, least)
        found = (
            (slopes - mean(slopes)) * whole
            - begin * (of_begin * zeroth + of_way * first)
            - way * (of_begin * first + of_way * second)
        )
        return found.to(came.dtype)

    def _along(
        self, places: Sequence[int], came: Sequence[Tensor], moving: Sequence[int], tolerance: float
    ) -> dict[int, Tensor]:
        """The mean gradient on the straight path of what it read.

        More points are taken until the sums fit; each class and picture keeps the first that do.
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
            found = {slot: _chosen(fits, found[slot], own) for slot, own in more.items()}
        return found

    def _mean_gradients(
        self,
        nodes: int,
        places: Sequence[int],
        came: Sequence[Tensor],
        ways: Mapping[int, Tensor],
    ) -> dict[int, Tensor]:
        """By Gauss–Legendre's rule."""
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
        """By that rule, with many points in the place of many pictures, of an attention."""
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
                slot: _spread(self.origin[slot], times**0, dim)
                .add(_spread(way, times, dim))
                .requires_grad_()
                for slot, way in ways.items()
            }
            with torch.enable_grad():
                made = self.step.run(leaves, is_careful=True)[:1]
            own = _pulled(made, [*leaves.values()], [_spread(came, shares, dim + 1)], [*leaves])
            for slot, each in own.items():
                added = each.unflatten(dim + 1, (len(times), -1)).sum(dim + 1)
                found[slot] = found.get(slot, 0) + added
        return found

    def _pictures_of(self, places: Sequence[int], ways: Mapping[int, Tensor]) -> int | None:
        """The dimension of pictures where the step may run at many points at once."""
        dim, step = _PICTURES_OF.get(self.step.name), self.step
        given = [*step.args[13 if dim else 3 :], *step.kwargs.values()]
        if dim is None or places != [0] or len(ways) != len(self.at):
            return None
        if any(isinstance(each, Tensor) for each in given):  # masks, which are of one point
            return None
        shapes = [way.shape for way in ways.values()]
        fits = all(len(shape) == len(shapes[0]) >= 3 for shape in shapes)
        return dim if fits and len({shape[dim] for shape in shapes}) == 1 else None

    def _rows(self, values: Sequence[Tensor]) -> int:
        """How many pictures' sums can be told apart: all, or none where values mix them."""
        first = [each.shape[0] if each.dim() else 1 for each in values]
        return self.pictures if all(size % self.pictures == 0 for size in first) else 1


def _run(
    replay: Replay, start: Tensor, end: Tensor
) -> tuple[list[_Stride], list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """All steps at both inputs, the marks' values there, and the outputs."""
    ends, starts = {replay.first: end.detach()}, {replay.first: start.detach()}
    strides: list[_Stride] = []
    marks: dict[int, tuple[Tensor, Tensor]] = {}

    def mark(done: int) -> None:
        for number, (slot, steps) in enumerate(replay.marks):
            if steps == done:
                marks[number] = ends[slot].detach(), starts[slot]

    for done, step in enumerate(replay.steps):
        mark(done)
        at = {slot: ends[slot].detach() for slot in step.reads}
        origin = {slot: starts[slot] for slot in step.reads}
        for each in at.values():
            each.requires_grad_(each.is_floating_point())
        with torch.enable_grad():
            made = step.run(at, is_careful=True)
        with torch.no_grad():
            begun = step.run(origin, is_careful=True)
        ends.update(zip(step.makes, made, strict=True))
        starts.update(zip(step.makes, begun, strict=True))
        strides.append(_Stride(step, at, origin, made, begun, len(end)))
        for slot in step.ends:
            ends.pop(slot, None)
            starts.pop(slot, None)
    mark(len(replay.steps))
    return (
        strides,
        [marks[number] for number in range(len(replay.marks))],
        (ends[replay.last], starts[replay.last]),
    )


def _before_end(replay: Replay) -> int:
    """How many steps lead to what is shared out: a last softmax is read as a part of it.

    So a network that ends in one has the map that its logits have.
    """
    *before, last = replay.steps
    is_read = last.name in _READ and last.makes == (replay.last,) and len(last.reads) == 1
    is_marked = any(steps > len(before) for _, steps in replay.marks)
    return len(before) if before and is_read and not is_marked else len(replay.steps)


def _passed_back(
    replay: Replay, strides: Sequence[_Stride], given: dict[int, Tensor], tolerance: float
) -> list[Tensor]:
    """The multipliers (K, n, ...) of every mark, from those of what the last step made, by slot."""
    found: dict[int, Tensor] = {}
    for done in range(len(strides), -1, -1):
        for number, (slot, steps) in enumerate(replay.marks):
            if steps == done:
                if slot not in given:
                    raise StandsAside("its output does not hang on the layer that is named")
                found[number] = given[slot]
        if done == 0 or len(found) == len(replay.marks):
            break
        stride = strides[done - 1]
        back = stride.back(given, tolerance)
        for slot in stride.step.makes:
            given.pop(slot, None)
        for slot, each in back.items():
            given[slot] = given[slot] + each if slot in given else each
    return [found[number] for number in range(len(replay.marks))]


def _pulled(
    made: Sequence[Tensor], read: Sequence[Tensor], came: Sequence[Tensor], slots: Sequence[int]
) -> dict[int, Tensor]:
    """The gradients (K, n, ...) of what was read, by slot, for each class's multipliers."""
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


def _spread(values: Tensor, factors: Tensor, dim: int) -> Tensor:
    """Values times each factor, one after another in a dimension."""
    column = factors.to(values).reshape(-1, *[1] * values.dim())
    spread: Tensor = (column * values).movedim(0, dim).flatten(dim, dim + 1)
    return spread


def _in_a_row(first: Tensor, second: Tensor) -> Tensor:
    """Of each piece (T, ..., L) the first and then the second, (..., T 2 L)."""
    both: Tensor = torch.stack([first, second], -2).movedim(0, -3).flatten(-3)
    return both


def _of_roots(start: Tensor, rise: Tensor, turn: Tensor, least: Tensor) -> tuple[Tensor, ...]:
    r"""Integrals over [0, 1] of :math:`q^{-1/2}, q^{-3/2}, t q^{-3/2}, t^2 q^{-3/2}`.

    Args:
        start: q(0), of :math:`q(t) = \text{least} + \text{rise}\, (t - \text{turn})^2 > 0`.
        rise: What q grows by.
        turn: Where it is smallest, wherever ``rise`` is not 0.
        least: Its value there.
    """
    points, weights = (
        torch.from_numpy(part).reshape(-1, *[1] * start.dim()).to(start) / 2
        for part in np.polynomial.legendre.leggauss(_NODES[-1])
    )
    times = points + 0.5
    root = weights * (start + rise * times * (times - 2 * turn)).rsqrt()
    cube = root**3 / weights**2
    near = [each.sum(0) for each in (root, cube, times * cube, times**2 * cube)]
    # Where q turns far away from here these points are exact, and the closed form is not.
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


def _meeting(lines: tuple[Tensor, Tensor], one: Tensor, other: Tensor) -> Tensor:
    """When two of some straight lines meet, given where they start and how they rise."""
    start, rise = (line.expand(len(one), *line.shape) for line in lines)
    gap = start.gather(-1, one) - start.gather(-1, other)
    closing = rise.gather(-1, other) - rise.gather(-1, one)
    return torch.where(closing == 0, 1, gap / torch.where(closing == 0, 1, closing))


def _total(multipliers: Tensor, way: Tensor, rows: int) -> Tensor:
    """What multipliers (K, ...) make of a way (...), (K, rows)."""
    made = multipliers.double() * way.double()
    return made.reshape(len(made), rows, -1).sum(2)


def _chosen(is_first: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The rows (K, rows) of one or the other of two values (K, ...)."""
    shape = *is_first.shape, -1
    chosen = torch.where(is_first[:, :, None], first.reshape(shape), second.reshape(shape))
    return chosen.reshape(first.shape)
