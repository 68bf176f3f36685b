# The features engine runs one pass of the network, and averages the last map over each region.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask._errors import ArgumentError
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.feature_maps import CUTS, first_cut
from captum_infomask.engines.map_axes import channels_beside
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.recording import Recording, Watching
from captum_infomask.engines.traced import CONVOLUTIONS, traced
from captum_infomask.engines.traced_network import Node, StandsAside, TracedNetwork
from captum_infomask.regions.map_cells import cell_weights
from captum_infomask.scores.heads import widen
from captum_infomask.views.view_plan import Blank, ViewPlan, whole_images

_ROWS = 1024  # regions whose features run together


class LastPooling:
    """The last global average pooling of a network as it runs.

    Attributes:
        dims: The dimensions of a map: those of the inputs.
        features: The features that were pooled, (n, C, h, w); None if nothing was pooled. They have
            as many places as the inputs.
        pooled: The result of the pooling, (n, C) or (n, C, 1, 1).
        may_cut: Whether a step took a part of a value, which may have been some of its places.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.features: Tensor | None = None
        self.pooled: Tensor | None = None
        self.may_cut = False

    def see(self, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        """Note one of PyTorch's functions if it is a pooling."""
        if getattr(func, "__name__", "").strip("_") in CUTS:
            self.may_cut = True
        if _pools(func, args, kwargs, self.dims) and args[0].dim() == self.dims:
            self.features, self.pooled = args[0], result


# The poolings of maps of so many dimensions, by modules and by functions.
_MODULES = {
    3: nn.AdaptiveAvgPool1d,
    4: nn.AdaptiveAvgPool2d,
    5: nn.AdaptiveAvgPool3d,
}
_FUNCTIONS: dict[int, object] = {
    3: F.adaptive_avg_pool1d,
    4: F.adaptive_avg_pool2d,
    5: F.adaptive_avg_pool3d,
}


def pools_part(recording: Recording, dims: int) -> bool:
    """Whether the last global average pooling pools only a part of the network's features."""
    places = [
        place
        for place, step in enumerate(recording.steps)
        if _pools(step.function, step.args, step.kwargs, dims) and step.given[0].dim() == dims
    ]
    return bool(places) and first_cut(recording, places[-1], dims - 2) < places[-1]


def is_pooling(node: Node, modules: Mapping[str, nn.Module], dims: int = 4) -> bool:
    """Whether an operation of a traced network is a global average pooling of maps."""
    if node.op == "call_module":
        module = modules[node.target]
        kinds: Any = _MODULES.get(dims, ())
        return isinstance(module, kinds) and _is_one(module.output_size)
    function = Tensor.mean if (node.op, node.target) == ("call_method", "mean") else node.target
    return _pools(function, node.args, node.kwargs, dims)


def _pools(function: object, args: Sequence[Any], kwargs: Mapping[str, Any], dims: int) -> bool:
    """Whether a call of one of PyTorch's functions is a mean over places."""
    second = args[1] if len(args) > 1 else None
    if function is _FUNCTIONS.get(dims):
        return _is_one(kwargs.get("output_size", second))
    if function in (torch.mean, Tensor.mean):
        return channels_beside(kwargs.get("dim", second), dims) == "first"
    return False


def _is_one(size: object) -> bool:
    return size == 1 or (isinstance(size, tuple | list) and set(size) == {1})


def after_pooling(forward_func: Callable[..., object], inputs: Tensor) -> TracedNetwork:
    """Return the steps from pooled features, (V, C) or (V, C, 1, 1), to the output of V examples.

    The pooling usually comes after all parts with convolutions. These parts are searched only if it
    is not found outside of them, so most of a network is not traced at all.

    Args:
        forward_func: The network.
        inputs: Some of its inputs, of which only the shape counts.

    Raises:
        StandsAside: The function cannot be traced, or its output depends on more than its pooled
            features.
    """
    try:
        return _cut(traced(forward_func, (inputs,), closed=_has_convolutions), inputs.dim())
    except StandsAside:
        return _cut(traced(forward_func, (inputs,)), inputs.dim())


def _has_convolutions(module: nn.Module) -> bool:
    """Whether a part has convolutions and is passed over; a list of parts is not a part."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return False
    return any(isinstance(part, CONVOLUTIONS) for part in module.modules())


def _cut(network: TracedNetwork, dims: int) -> TracedNetwork:
    """Keep the steps made from pooled features, parameters and sizes; the output must be one."""
    poolings = [node for node in network.nodes if is_pooling(node, network.modules, dims)]
    if not poolings:
        raise StandsAside("it has no global average pooling")
    pooled = Node("placeholder", 0)
    made = {poolings[-1]: pooled}
    for node in network.nodes:
        if node in made or node.op == "placeholder":
            continue
        if all(part in made for part in node.inputs):
            made[node] = node.on(made.__getitem__)
        elif _reads_size(node):
            # Views share pictures, so the number of examples is that of the pooled features.
            made[node] = node.on(lambda _: pooled)
    nodes = tuple(made.values())
    if nodes[-1].op != "output":
        raise StandsAside("its output is not made of its pooled features alone")
    return TracedNetwork(nodes, network.modules, network.attributes)


def _reads_size(node: Node) -> bool:
    if node.op == "call_method":
        return bool(node.target == "size")
    return node.target is getattr and node.args[1:] == ("shape",)


@dataclass(frozen=True)
class PooledFeatures:
    """The engine of view='features', which no other one can show.

    The network runs once on each picture. The steps after its pooling run on every region.
    """

    def start(self, call: Call) -> RunningFeatures:
        """Begin a call."""
        return RunningFeatures(call)


@dataclass(eq=False)
class RunningFeatures:
    """The features engine at work on one call.

    Attributes:
        call: The call to run.
    """

    call: Call
    name = "features"
    _maps: dict[int, Tensor] = field(default_factory=dict)

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Find the steps that follow the pooling; the view has checked the plan.

        Raises:
            ArgumentError: The network does not end in a global average pooling.
        """
        if self.call.additional_forward_args:
            raise _unfit("got `additional_forward_args` too")
        inputs = plan.scene.inputs[0]
        self._seen = LastPooling(inputs.dim())
        try:
            with OwnGenerators(0) as generators:  # a network may draw before it pools
                draws = LibraryDraws(0, generators)
                self._tail = draws.run(lambda: after_pooling(self.call.forward_func, inputs))
        except StandsAside as reason:
            raise _unfit(reason) from None

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs; the user's function runs whole images."""
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
        """Run the network as it is on whole images, and note its last feature map."""
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
        self._seen = LastPooling(self._seen.dims)
        with explained(self.call.forward_func, inputs), Watching(self._seen.see):
            return self.call.forward(*inputs)

    def _check_uncut(self, plan: ViewPlan, row: Tensor) -> None:
        """Refuse a network that pools a part of its features: the part's cells lie elsewhere."""
        device = plan.scene.inputs[0].device.type
        with Recording(self.call.generators, device) as recording:
            self.call.forward(*draw(plan, row))
        if pools_part(recording, self._seen.dims):
            raise _unfit("it pools a part of its features")

    def _answer(self, plan: ViewPlan, rows: Tensor, features: Tensor) -> Tensor:
        """Return the outputs for regions of one image, given its features."""
        assert plan.regions is not None, "as planned"
        wide = widen(features)
        weights = cell_weights(plan.scene.regions, plan.images[rows], plan.regions[rows], wide)
        return self._output(weights.flatten(1) @ wide.flatten(1).T)

    def _output(self, pooled: Tensor) -> Tensor:
        """Return the outputs for pooled features (V, C)."""
        like = self._seen.pooled
        assert like is not None, "the whole images came first"
        with self.call.generators:
            output: Tensor = self._tail(pooled.to(like.dtype).reshape(-1, *like.shape[1:]))
        return output

    def _check_tail(self, features: Tensor, output: Tensor) -> None:
        """Refuse a network whose output is not made from its feature map's mean."""
        if not bool(output.isfinite().all()):
            return
        try:
            answer = self._output(widen(features).flatten(2).mean(2))
        except (RuntimeError, IndexError) as error:
            raise _unfit(f"what follows its pooling cannot run by itself: {error}") from error
        tolerance = torch.finfo(features.dtype).eps ** 0.5 * float(output.abs().max())
        if answer.shape != output.shape or float((answer - output).abs().max()) > tolerance:
            raise _unfit("its output is not what its graph makes of the pooled features")


def _unfit(reason: object) -> ArgumentError:
    """Return the error for a network without features to show, or without any for this call."""
    return ArgumentError(
        f"Expected `forward_func` to be a torch.nn.Module in evaluation mode that takes images "
        f"alone and ends in a global average pooling for view='features'; {reason}. "
        f"Pass view='crop' or view='keep'."
    )
