# The batched engine runs plain forward passes over chunks of views, for any network.
from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask._random import OwnGenerators
from captum_infomask._types import Tensors
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import (
    WORTH_A_COPY,
    default_views,
    elements_shown,
    free_cached,
    is_out_of_memory,
    keep_freed_blocks,
    no_memory,
    of_one_size,
)
from captum_infomask.engines.outputs import changed_classes, check_output, explain, short_words
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import FastCopy, check_agreement, fast_copy
from captum_infomask.views.view_plan import Blank, ViewPlan

_log = logging.getLogger("captum_infomask")

_COMPARED = 2  # views, at least, that a copy is compared on
_BETWEEN = 16  # later: views, at least, from one compared view to the next


# Words in the errors of runtimes that take batches of one size.
_OF_SIZE = re.compile("batch|dimension|expected|guard|shape|size", re.IGNORECASE)


@dataclass(frozen=True)
class Batched:
    """Plain forward passes over chunks of views; the images of a batch share chunks.

    On a CPU, if there is enough to do, all chunks but the first run on a copy of the network. In
    the copy, batch normalisations are folded into convolutions and tensors are in channels-last
    order. The copy is used if ``torch.fx`` can trace the network and the copy repeats the network's
    output for a view of every image (for one view in 16 if images have fewer). On these views log p
    is off by at most 1e-4 nats in float32, 1e-10 in float64, and what roundings explain. Other
    views are not compared. The network itself is not changed. If memory is too small for a chunk,
    the chunk is halved until it fits.

    Args:
        folded: Whether such a copy may be used; None allows it on a CPU alone. On a GPU it costs
            more to make and compare the copy: a copy was slower for 729 windows.
        autocast: Run the network under ``torch.autocast`` in this dtype, ``torch.bfloat16`` or
            ``torch.float16``. The output is read in float32. No copy is used then.

    Raises:
        ArgumentError: A setting is of another type.

    Example:
        >>> import torch
        >>> from captum_infomask import Batched, InfoMask
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)).eval()
        >>> x = torch.rand(1, 3, 8, 8)
        >>> InfoMask(model).attribute(x, target=2, engine=Batched(folded=False)).shape
        torch.Size([1, 3, 8, 8])

    Source: Jacob et al., arXiv 1712.05877, Section 3.2 (folding batch normalisation).
    """

    folded: bool | None = None
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.folded is not None and not isinstance(plain(self.folded), bool):
            raise ArgumentError(
                f"Expected `folded` to be True, False or None; got {describe(self.folded)}."
            )
        if self.autocast not in (None, torch.bfloat16, torch.float16):
            raise ArgumentError(
                f"Expected `autocast` to be torch.bfloat16, torch.float16 or None; got "
                f"{describe(self.autocast)}."
            )

    def start(self, call: Call) -> RunningBatched:
        """Begin a call."""
        return RunningBatched(self, call)


class RunningBatched:
    """The batched engine at work on one call."""

    name = "batched"

    def __init__(self, settings: Batched, call: Call) -> None:
        self._call = call
        self._autocast = settings.autocast
        self._folded = settings.folded
        self._may_copy = settings.folded is not False and settings.autocast is None
        self._copy: FastCopy | None = None
        self._compared = set[int]()  # the images that were compared
        self._since = 0  # views since the last one that was compared
        self._checked = False
        self._fitting: int | None = None  # the most views, once memory was too small for more

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Accept any views."""

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs."""
        on_cpu = plan.scene.inputs[0].device.type == "cpu"
        if on_cpu:
            keep_freed_blocks()
        may_copy = on_cpu or bool(self._folded)
        groups = of_one_size(plan)
        elements = sum(len(rows) * elements_shown(plan, int(rows[0])) for rows in groups)
        self._compared, self._since = set(), 0
        for group in groups:
            left = group
            while len(left):
                rows = left[: self._views(plan, int(left[0]))]
                output = self._attempt(plan, rows)
                if output is None:
                    self.at_most(len(rows) // 2)
                    free_cached()
                    continue
                if not self._agrees(plan, rows, output):
                    continue
                # The network itself runs whole images: they are few, and all else is counted from
                # them.
                is_worth_it = elements >= WORTH_A_COPY and plan.regions is not None
                if may_copy and self._may_copy and is_worth_it and len(rows) < len(plan):
                    self._make_copy(plan, rows, output)
                left = left[len(rows) :]
                yield rows, output

    def at_most(self, views: int) -> None:
        """Take no larger chunks from now on: memory was too small."""
        self._fitting = views if self._fitting is None else min(views, self._fitting)

    def _views(self, plan: ViewPlan, row: int) -> int:
        """Return the number of views in the next chunk, of which this is the first."""
        first, elements = plan.scene.inputs[0], elements_shown(plan, row)
        if self._call.perturbations_per_eval is not None:
            views = self._call.perturbations_per_eval * len(first)
        elif self._copy is not None and first.device.type == "cpu":
            views = self._copy.views_on_cpu(elements)
        else:
            views = default_views(elements, first.device)
        return views if self._fitting is None else min(views, self._fitting)

    def _attempt(self, plan: ViewPlan, rows: Tensor) -> Tensor | None:
        """Return the network's output for a chunk; None if memory was too small for it."""
        try:
            output = self._call.libraries.run(
                lambda: self._forward(draw(plan, rows), self._arguments(plan, rows))
            )
        except Exception as error:
            if not is_out_of_memory(error):
                self._check_any_size(plan, rows, error)
                if plan.hidden == "nothing":
                    explain(
                        self._call.forward_func,
                        plan.scene.inputs,
                        error,
                        further=len(self._call.additional_forward_args),
                        crop=None if plan.sizes is None else tuple(plan.sizes[rows[0]].tolist()),
                    )
                raise
            if len(rows) == 1:
                raise no_memory(
                    error, plan.scene.inputs, elements_shown(plan, int(rows))
                ) from error
            _log.debug("Out of memory with %d views; half of them are tried.", len(rows))
            return None
        checked = check_output(output, len(rows), plan.scene.inputs, self._call.forward_func)
        self._check_guess(plan, rows, checked)
        return checked

    def _check_any_size(self, plan: ViewPlan, rows: Tensor, error: Exception) -> None:
        """Explain the error of a network that takes batches of one size alone.

        Exported programs and sessions of other runtimes may be such. A smaller batch shows it. It
        is tried if the error is about sizes; all other errors are the user's own.
        """
        inputs = len(plan.scene.inputs[0])
        some = rows[: inputs if len(rows) > inputs else 1]
        is_own = isinstance(error, ArgumentError) or not _OF_SIZE.search(str(error))
        if is_own or len(rows) == 1:
            return
        try:
            shown, arguments = draw(plan, some), self._arguments(plan, some)
            self._call.libraries.run(lambda: self._call.run(*shown, *arguments))
        except Exception:  # the size is not the cause, or not alone
            return
        one = "" if len(some) == inputs else "one input and "
        raise ArgumentError(
            f"Expected `forward_func` to take batches of any size; it takes {len(some)} views, and "
            f"for {len(rows)} it raised {type(error).__name__}: {short_words(error)}. Pass {one}"
            f"perturbations_per_eval=1, which shows as many views at a time as there are inputs."
        ) from error

    def _forward(self, shown: Tensors, arguments: tuple[Any, ...]) -> Tensor:
        if self._copy is not None:
            try:
                made: Tensor = self._copy(*shown, *arguments)
                return made
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                # If the network itself raises an error, that error is the one to show.
                self._copy = None
                _log.debug("The folded copy is given up: it raised %s.", error)
        autocast: AbstractContextManager[Any] = nullcontext()
        if self._autocast is not None:
            autocast = torch.autocast(shown[0].device.type, dtype=self._autocast)
        with autocast:
            return self._call.run(*shown, *arguments)

    def _make_copy(self, plan: ViewPlan, rows: Tensor, output: Tensor) -> None:
        """Try once whether a copy repeats the network's output for a view of each image."""
        self._may_copy = False
        images = plan.images[rows].tolist()
        self._compared.update(images)
        first = sorted({*range(min(_COMPARED, len(rows))), *map(images.index, self._compared)})
        rows, output = rows[first], output[first]
        shown, arguments = draw(plan, rows), self._arguments(plan, rows)
        try:
            self._copy = fast_copy(self._call, shown, arguments, output)
        except StandsAside as reason:
            _log.debug("The network runs as it is, with no folded copy: %s.", reason)

    def _agrees(self, plan: ViewPlan, rows: Tensor, output: Tensor) -> bool:
        """Compare the copy with the network on a drawn view of each image that is new to the copy.

        If images have few views, not every image is compared: one view in so many is run twice.
        """
        if self._copy is None:
            return True
        self._since += len(rows)
        images = plan.images[rows]
        new = [image for image in images.unique().tolist() if image not in self._compared]
        if len(plan) < _BETWEEN * len(plan.scene.inputs[0]):
            new = new[: self._since // _BETWEEN]
        if not new:
            return True
        self._compared.update(new)
        self._since = 0
        draws = np.random.default_rng([self._call.seed, *new])
        places = torch.tensor([draws.choice((images == image).nonzero()[:, 0]) for image in new])
        try:
            with self._call.drawing_nothing():
                own = self._call.forward(
                    *draw(plan, rows[places]), *self._arguments(plan, rows[places])
                )
            check_agreement(output[places.to(output.device)], own)
        except StandsAside as reason:
            self._copy = None
            _log.debug("The folded copy is given up: %s, for image %d.", reason, new[0])
        return self._copy is not None

    def _arguments(self, plan: ViewPlan, rows: Tensor) -> tuple[Any, ...]:
        images = plan.images[rows]
        return tuple(
            arg.index_select(0, images.to(arg.device)) if follows else arg
            for arg, follows in zip(
                self._call.additional_forward_args, self._call.per_example, strict=True
            )
        )

    def _check_guess(self, plan: ViewPlan, rows: Tensor, output: Tensor) -> None:
        """Refuse arguments that seemed to follow the examples but are followed by the classes.

        A single view shows this: with one entry of such an argument, there is one class.
        """
        guessed = self._call.is_guess and any(self._call.per_example)
        if not guessed or self._checked or output.shape[1:2] != (len(rows),) or len(rows) == 1:
            return
        self._checked = True
        shown, arguments = draw(plan, rows[:1]), self._arguments(plan, rows[:1])
        with OwnGenerators(0):
            alone = self._call.libraries.run(lambda: self._call.forward(*shown, *arguments))
        if alone.shape[1:] != output.shape[1:]:
            raise changed_classes(alone.shape[1:], output.shape[1:], self._call)
