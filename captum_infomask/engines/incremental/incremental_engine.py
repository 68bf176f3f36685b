# The incremental engine computes only the part of each view that its region changes.
from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import boolean, finite_number
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call, Running
from captum_infomask.engines.incremental.incremental_network import BoxNetwork
from captum_infomask.engines.incremental.operations import Base
from captum_infomask.engines.incremental.view_boxes import Contents
from captum_infomask.engines.incremental.views_in_chunks import Work
from captum_infomask.engines.memory import PICTURE, keep_freed_blocks
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.traced import folded
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.verified_copy import TOLERANCE, check_agreement
from captum_infomask.views.view_plan import Blank, ViewPlan

_log = logging.getLogger("captum_infomask")

# One view of each image is compared with the network, and one more for each such number of views.
_MANY, _MOST_COMPARED = 64, 4
# If views show fewer numbers than this, a gain does not pay for tracing the network.
_LEAST_NUMBERS = 8 * PICTURE
# Signals (N, C, T), pictures (N, C, H, W) and volumes (N, C, D, H, W).
_DIMS = (3, 4, 5)


@dataclass(frozen=True)
class Incremental:
    r"""Exact inference that computes only the part of each view that its region changes.

    ``torch.fx`` traces the network. It runs once on the picture that views differ from: the image
    for ``drop``, the all-imputed picture for ``keep`` and ``chain``. For each view, only the box of
    every map is computed that the region reaches. Behind a window of k elements, d apart, moved by
    s over a map padded by p,

    .. math::

        [a, b) \to [\lceil (a + p - (k - 1) d) / s \rceil,\; \lfloor (b - 1 + p) / s \rfloor + 1)

    changes, and everything else is as in the base. Operations that are unknown, or that read the
    whole map, get the whole map. Each step of an order of ``chain`` starts from the step before it.

    If this engine cannot run, the batched engine does, and ``InfoMap.engine`` says why. This is so
    for ``crop``, for networks that cannot be traced, have hooks, are in training mode or take
    further arguments, and for imputers whose values depend on the hidden part (in ``keep`` and
    ``chain``).

    Args:
        winograd: Whether 3 × 3 convolutions of many channels run by Winograd's algorithm. They do
            so only in float32 and if that is faster; docs/results/speed.md has the errors.
        least_gain: Stand aside if operations are predicted to become fewer by less than this
            factor. Unless it is 0, also stand aside on all devices but a CPU, because operation
            counts do not predict their time: on a GPU whole views took a quarter of the time
            (docs/results/gpu.md).

    Raises:
        ArgumentError: A setting is of another type, or ``least_gain`` is below 0.

    Example:
        >>> import torch
        >>> from captum_infomask import Incremental, InfoMask
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        ...     torch.nn.Flatten(), torch.nn.Linear(8, 5)).eval()
        >>> infomap = InfoMask(model).score_regions(torch.rand(1, 3, 32, 32), target=1,
        ...                                         view="drop", engine=Incremental())
        >>> infomap.engine
        'incremental'

    Source: Nakandala, Kumar & Papakonstantinou, "Incremental and Approximate Inference for Faster
    Occlusion-based Deep CNN Explanations", SIGMOD 2019; Lavin & Gray, arXiv 1509.09308 (Winograd).
    """

    winograd: bool = True
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        boolean("winograd", self.winograd)
        finite_number("least_gain", self.least_gain, least=0)

    def start(self, call: Call) -> RunningIncremental:
        """Begin a call."""
        return RunningIncremental(self, call, Batched().start(call))


class RunningIncremental:
    """The incremental engine at work on one call."""

    def __init__(self, settings: Incremental, call: Call, batched: Running) -> None:
        self._settings = settings
        self._call = call
        self._batched = batched
        self._network: BoxNetwork | None = None
        self._reason: str | None = None
        self._disagrees = ""
        self._ran = False

    @property
    def name(self) -> str:
        """``incremental``, or ``batched`` and why; both if the reason came with a later picture."""
        if self._reason is None:
            return "incremental"
        return f"{'incremental, then ' if self._ran else ''}batched ({self._reason})"

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Accept any views: the engine stands aside for those that have no boxes."""

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs; pictures without a region run as they are."""
        if plan.regions is None:
            yield from self._batched.run(plan)
            return
        left = torch.ones(len(plan), dtype=torch.bool)
        try:
            for rows, outputs in self._run(plan):
                left[rows] = False
                yield rows, outputs
        except StandsAside as reason:
            self._reason = str(reason)
            _log.debug("The incremental engine stands aside: %s.", reason)
            yield from _run_rest(self._batched, plan, left)

    def _run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        work = self._work(plan)
        if plan.scene.inputs[0].device.type == "cpu":
            keep_freed_blocks()
        for chunk in work.run(partial(self._check, work)):
            self._ran = True
            yield chunk

    def _work(self, plan: ViewPlan) -> Work:
        _check(plan, self._call)
        if self._disagrees:
            raise StandsAside(self._disagrees)
        least_gain, device = self._settings.least_gain, plan.scene.inputs[0].device.type
        if least_gain > 0 and device != "cpu":
            raise StandsAside(f"operation counts do not tell the time that {device} takes")
        if least_gain > 0 and len(plan) * plan.scene.inputs[0][0].numel() < _LEAST_NUMBERS:
            raise StandsAside("there is too little to do")
        contents = Contents.of(plan)
        if self._network is None:
            self._network = self._traced(plan.scene.inputs[0][:1])
        work = Work(self._network, contents, self._call.perturbations_per_eval)
        if work.gain < least_gain:
            raise StandsAside(f"its predicted gain is {work.gain:.2f}")
        return work

    def _check(self, work: Work, image: int, base: Base) -> None:
        """Compare some views of an image, drawn by the call's seed, with the user's network."""
        plan = work.contents.plan
        rows = (plan.images == image).nonzero()[:, 0]
        count = min(1 + len(rows) // _MANY, _MOST_COMPARED)
        drawn = np.random.default_rng([self._call.seed, image]).choice(rows, count, replace=False)
        try:
            for row in torch.from_numpy(drawn).split(1):
                with self._call.drawing_nothing():
                    own = self._call.forward(*draw(plan, row))
                check_agreement(work.answer(row, base), own)
        except StandsAside as reason:
            self._disagrees = f"{reason}, for image {image}"
            raise StandsAside(self._disagrees) from None

    def _traced(self, picture: Tensor) -> BoxNetwork:
        """Return the network that runs on boxes."""
        try:
            with self._call.drawing_nothing():
                network = folded(self._call.traced((picture,)))
                return BoxNetwork(network, picture, winograd=self._settings.winograd)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise StandsAside(f"the traced network raises {type(error).__name__}") from error


def _run_rest(batched: Running, plan: ViewPlan, left: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Run the remaining views of a plan, boolean (V,): yield the plan's rows and outputs."""
    if bool(left.all()):
        yield from batched.run(plan)
        return
    rest = left.nonzero()[:, 0]
    for rows, outputs in batched.run(plan.part(rest)):
        yield rest[rows], outputs


def _check(plan: ViewPlan, call: Call) -> None:
    """Stand aside if views have no base in common, or if the network must not be traced."""
    inputs = plan.scene.inputs
    if plan.cuts is not None:
        raise StandsAside("view='crop' shows regions by themselves")
    if len(inputs) != 1 or inputs[0].dim() not in _DIMS:
        raise StandsAside("the inputs are not signals, images or volumes alone")
    if call.additional_forward_args:
        raise StandsAside("there are additional_forward_args")
    if inputs[0].dtype not in TOLERANCE:
        raise StandsAside(f"the images are {inputs[0].dtype}")
    if torch.is_autocast_enabled(inputs[0].device.type):
        raise StandsAside("autocast is on")
