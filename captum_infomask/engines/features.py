# The features engine: one pass of the network, whose last feature map is averaged over each region.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask.engines.after_pooling import after_pooling
from captum_infomask.engines.base import Call
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.pooling import LastPooling, pools_part
from captum_infomask.engines.recording import Recording
from captum_infomask.engines.traced import StandsAside
from captum_infomask.engines.traced_network import TracedNetwork
from captum_infomask.regions.map_cells import cell_weights
from captum_infomask.scores.heads import widen
from captum_infomask.views.view_plan import ViewPlan, whole_images

_ROWS = 1024  # regions whose features go on together


@dataclass(frozen=True)
class PooledFeatures:
    """The engine of view='features', which no other one can show.

    The network runs once on each picture; what follows its pooling, on every region.
    """

    def start(self, call: Call) -> RunningFeatures:
        """Begin a call.

        Raises:
            ArgumentError: The network is none that ends in a global average pooling.
        """
        if call.additional_forward_args:
            raise _unfit("got `additional_forward_args` too")
        try:
            with OwnGenerators(0) as generators:  # a network may draw before it pools
                draws = LibraryDraws(0, generators)
                tail = draws.run(lambda: after_pooling(call.forward_func))
        except StandsAside as reason:
            raise _unfit(reason) from None
        return RunningFeatures(call, tail)


@dataclass(eq=False)
class RunningFeatures:
    """The features engine at work on one call.

    Attributes:
        call: What is asked for.
        tail: What the network makes of its pooled features.
    """

    call: Call
    tail: TracedNetwork
    name = "features"
    _maps: dict[int, Tensor] = field(default_factory=dict)
    _seen: LastPooling = field(default_factory=LastPooling)

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs; whole images are run by the user's function."""
        if plan.hidden != "features":
            yield from self._run_whole(plan)
            return
        if not self._maps:
            for _ in self._run_whole(whole_images(plan.scene)):
                pass
        for image, features in self._maps.items():
            for rows in (plan.images == image).nonzero()[:, 0].split(_ROWS):
                yield rows, self._answer(plan, rows, features)

    def _run_whole(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """The network as it is, on whole images, and its last feature map."""
        own = Batched().start(replace(self.call, forward_func=self._watched))
        for rows, output in own.run(plan):
            features = self._seen.features
            if features is None or len(features) != len(rows):
                raise _unfit("it pooled nothing when it ran")
            self._check_tail(features, output)
            if self._seen.may_cut:
                self._check_uncut(plan, rows[:1])
            self._maps.update(zip(plan.images[rows].tolist(), features, strict=True))
            yield rows, output

    def _watched(self, *inputs: Tensor) -> Any:
        with explained(self.call.forward_func, inputs), LastPooling() as self._seen:
            return self.call.forward_func(*inputs)

    def _check_uncut(self, plan: ViewPlan, row: Tensor) -> None:
        """Refuse a network that pools a part of its features: its cells lie elsewhere."""
        with Recording(self.call.generators) as recording:
            self.call.forward_func(*draw(plan, row))
        if pools_part(recording):
            raise _unfit("it pools a part of its features")

    def _answer(self, plan: ViewPlan, rows: Tensor, features: Tensor) -> Tensor:
        """The outputs for regions of one image, of which the features are given."""
        assert plan.regions is not None, "as planned"
        wide = widen(features)
        weights = cell_weights(plan.scene.regions, plan.images[rows], plan.regions[rows], wide)
        return self._output(weights.flatten(1) @ wide.flatten(1).T)

    def _output(self, pooled: Tensor) -> Tensor:
        """The outputs for pooled features (V, C)."""
        like = self._seen.pooled
        assert like is not None, "the whole images came first"
        with self.call.generators:
            output: Tensor = self.tail(pooled.to(like.dtype).reshape(-1, *like.shape[1:]))
        return output

    def _check_tail(self, features: Tensor, output: Tensor) -> None:
        """Refuse a network that does not make its own output of its feature map's mean."""
        if not bool(output.isfinite().all()):
            return
        try:
            answer = self._output(widen(features).mean((2, 3)))
        except (RuntimeError, IndexError) as error:
            raise _unfit(f"what follows its pooling cannot run by itself: {error}") from error
        tolerance = torch.finfo(features.dtype).eps ** 0.5 * float(output.abs().max())
        if answer.shape != output.shape or float((answer - output).abs().max()) > tolerance:
            raise _unfit("its output is not what its graph makes of the pooled features")


def _unfit(reason: object) -> ArgumentError:
    """The error for a network that has no features to show, or not for this call."""
    return ArgumentError(
        f"Expected `forward_func` to be a torch.nn.Module in evaluation mode that takes images "
        f"alone and ends in a global average pooling for view='features'; {reason}. "
        f"Pass view='crop' or view='keep'."
    )
