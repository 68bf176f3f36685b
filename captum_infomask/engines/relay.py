# Pass evidence back through a network: each step receives the shares of its outputs, and shares
# them
# out among its inputs.
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.paths import Path, Shares, Value
from captum_infomask.engines.relay_steps import Stride
from captum_infomask.engines.replay import Replay
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import check_agreement

_READ = ("softmax", "log_softmax", "sigmoid", "logsigmoid")  # the forms of outputs that heads name


def relayed(
    replay: Replay, start: Tensor, end: Tensor, output: Tensor, value: Value, tolerance: float
) -> list[Shares]:
    r"""Share out the rise of a value, from one input to another, among values on the way.

    Each step of the network, :math:`u = s(z)`, goes along its own straight path, from its input at
    the start to its input at the end. It passes back

    .. math::

        m_j = \sum_i m_i \int_0^1
            \frac{\partial s_i}{\partial z_j}\bigl(z_0 + t (z - z_0)\bigr)\, dt,

    so no step loses or adds anything: :math:`\sum_j m_j (z_j - z_{0,j})` stays
    :math:`v(x) - v(x_0)` all the way. Affine steps take one backward pass. Elementwise steps take
    the quotient of differences, products the gradient halfway, and layer norms the integral in
    closed form. All other steps use Gauss–Legendre's points. Max-pooling passes back to each input
    for the share of the way on which it is the largest.

    Args:
        replay: The steps from the inputs to the output; its marks are the values on the way.
        start: x₀, of the inputs' shape.
        end: x, the inputs (n, ...).
        output: The network's output for them.
        value: The function whose rise is shared out.
        tolerance: The amount that each step may miss.

    Returns:
        The shares of every mark, in their order.

    Raises:
        StandsAside: The steps do not repeat the network's output, or cannot be run at both inputs.

    Source: the multipliers of DeepLIFT's rescale rule (Shrikumar et al., arXiv 1704.02685), here of
    every differentiable step; they are composed Aumann–Shapley values.
    """
    with torch.inference_mode(False):
        try:
            strides, marks, ends = _run(replay, start, end)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise StandsAside(f"its steps cannot be run again: {_line(error)}") from error
        check_agreement(ends[0].detach(), output)
        if not bool(ends[1].isfinite().all()):
            raise StandsAside("it gives no finite numbers for the reference, which baselines= sets")
        done, slot = _before_end(replay), replay.last
        if done < len(strides):
            (slot,) = strides[done].at
            ends = strides[done].at[slot], strides[done].origin[slot]
        path = Path(replay, done, ends[1], ends[0].detach(), output, value)
        slope, explained = path.integrate(tolerance)
        try:
            multipliers = _passed_back(replay, strides[:done], {slot: slope.to(ends[0])}, tolerance)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise StandsAside(
                f"its steps cannot be run between the inputs: {_line(error)}"
            ) from error
    found = []
    for (at, origin), own in zip(marks, multipliers, strict=True):
        found.append(Shares(own.double() * (at - origin).double(), explained))
    return found


def _line(error: Exception) -> str:
    """Return the first line of an error."""
    return "".join(str(error).strip().splitlines()[:1])


def _run(
    replay: Replay, start: Tensor, end: Tensor
) -> tuple[list[Stride], list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Run all steps at both inputs; return the marks' values there, and the outputs."""
    ends, starts = {replay.first: end.detach()}, {replay.first: start.detach()}
    strides: list[Stride] = []
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
        strides.append(Stride(step, at, origin, made, begun, len(end)))
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
    """Count the steps to the value that is shared out: a last softmax is read as a part of it.

    So a network that ends in a softmax has the same map as its logits.
    """
    *before, last = replay.steps
    is_read = last.name in _READ and last.makes == (replay.last,) and len(last.reads) == 1
    is_marked = any(steps > len(before) for _, steps in replay.marks)
    return len(before) if before and is_read and not is_marked else len(replay.steps)


def _passed_back(
    replay: Replay, strides: Sequence[Stride], given: dict[int, Tensor], tolerance: float
) -> list[Tensor]:
    """Return the multipliers (K, n, ...) of every mark, given those of the last step's slots."""
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
