# Record the passes of a network, and read its features and the steps that follow them.
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import read_logits
from captum_infomask._process import users_default
from captum_infomask._random import OwnGenerators
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.feature_maps import FeatureMap, feature_map
from captum_infomask.engines.isolation import Isolation, alias, network_within
from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.reached import modules_reached, named_layer
from captum_infomask.engines.recording import HALF, Recording
from captum_infomask.engines.traced_network import StandsAside


class UnfitError(ArgumentError):
    """The reason why a network's features cannot be had."""

    def __init__(self, reason: object) -> None:
        self.reason = reason
        super().__init__(
            f"Expected `forward_func` to have a feature map for view='evidence' and 'relay'; "
            f"{reason}. Pass layer= to name one, or view='drop'."
        )

    def __reduce__(self) -> tuple[type[UnfitError], tuple[str]]:
        """Make the same error in another process too."""
        return UnfitError, (str(self.reason),)


class Watched:
    """A network, as a function, whose passes are recorded.

    Inputs in half precision become float32: the steps of a path are too small for less. The
    function is a copy in float32 then.

    Args:
        call: The call to run.
        function: The function that is run.
        layers: The layers whose outputs are noted.
    """

    def __init__(
        self, call: Call, function: Callable[..., Any], layers: Sequence[nn.Module]
    ) -> None:
        self._call, self._function, self._layers = call, function, layers
        self._passes: list[Pass] = []

    def __call__(self, *inputs: Any) -> Tensor:
        """Run the network."""
        current = Pass(self._layers, self._call.generators)
        wide = tuple(map(_widened, inputs))
        try:
            with explained(self._call.forward_func, inputs[:1]), self._call.generators.paused():
                output = current.run(self._function, wide)
        except RuntimeError as error:
            if inputs[0].dtype not in HALF or is_out_of_memory(error):
                raise
            words = " ".join(str(error).split())[:120]
            raise UnfitError(f"its copy in float32 raised {words}") from error
        self._passes.append(current)  # a failed pass, for example for lack of memory, is released
        return output

    def last(self, count: int) -> Pass:
        """Return the last pass of ``count`` pictures: another pass may have had only one."""
        found = next(one for one in reversed(self._passes) if len(one.shown) == count)
        self._passes.clear()
        return found


class Pass:
    """One pass of a network, recorded.

    Args:
        layers: The layers whose outputs are noted. If there are none, the last feature map is
            searched.
        generators: The generators that the network draws from.

    Attributes:
        recording: The steps of the network.
        output: The network's output.
    """

    def __init__(self, layers: Sequence[nn.Module], generators: OwnGenerators) -> None:
        self._layers, self._generators = layers, generators
        self._noted: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def run(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> Tensor:
        """Run the network with gradients: without them it may take other ways, which have none.

        Some networks cannot run with gradients, and run without.
        """
        try:
            self._run(function, inputs, with_gradients=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._run(function, inputs, with_gradients=False)
        return self.output.detach()

    def _run(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], *, with_gradients: bool
    ) -> None:
        self.recording = Recording(self._generators, inputs[0].device.type)
        self._noted = {one: [] for one in self._layers}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(with_gradients))
            for layer in self._layers:
                stack.callback(layer.register_forward_hook(self._note).remove)
            self.shown: Tensor = inputs[0].detach().clone()  # an inference tensor has no gradients
            self.inputs = self.shown.clone().requires_grad_(with_gradients).clone()
            with users_default(), self.recording:
                self.output = read_logits(function(self.inputs, *inputs[1:]))

    def maps(
        self, by_default: Callable[[Recording, Tensor, Tensor], list[FeatureMap]]
    ) -> list[FeatureMap]:
        """Return the feature maps that are asked for, or the default ones."""
        if not self._layers:
            return by_default(self.recording, self.inputs, self.output)
        return [
            feature_map(self.recording, value, after, self.inputs)
            for value, after in map(self._of_layer, self._layers)
        ]

    def at(self, place: FeatureMap) -> Tensor:
        """Return the value at the place of another pass's feature map."""
        for value, after in map(self._of_layer, self._layers):
            if after == place.after:
                return value
        if not place.after:
            return self.shown
        steps = self.recording.steps
        made = steps[place.after - 1].made if 0 < place.after <= len(steps) else ()
        if not made or made[0].shape[1:] != place.value.shape[1:]:
            raise StandsAside("it does other things with the all-imputed picture")
        return made[0]

    def _of_layer(self, layer: nn.Module) -> tuple[Tensor, int]:
        """Return a layer's output, and the place of the step that copies it."""
        noted = self._noted[layer]
        if len(noted) != 1:
            raise StandsAside(f"the {type(layer).__name__} that is named ran {len(noted)} times")
        ((value, handed_on),) = noted
        return value, self.recording.made(handed_on)[0]

    def _note(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Note a layer's output, and return a copy, since the output may be written to."""
        if not isinstance(output, Tensor):
            raise UnfitError(f"the layer that is named returns {describe(output)}")
        handed_on = output.clone()
        self._noted[module].append((output, handed_on))
        return handed_on


def to_run(
    forward_func: Callable[..., Any], layers: Sequence[nn.Module | str], inputs: Tensor
) -> tuple[Callable[..., Any], list[nn.Module]]:
    """Return the function to run, and its layers.

    If there are layers, both are copies where copies can be made, so that nobody else meets their
    hooks. A network that is compiled or in parallel runs alone. Inference tensors, which have no
    gradients, are copied. For inputs in half precision, the copy is in float32.

    Args:
        forward_func: The network.
        layers: Its layers, or their names.
        inputs: The inputs.
    """
    named = [_named(forward_func, one) if isinstance(one, str) else one for one in layers]
    if isinstance(forward_func, nn.Module):
        networks = list(forward_func.modules())
    else:
        networks = modules_reached(forward_func)
    if any(isinstance(module, torch.jit.ScriptModule) for module in networks):
        raise UnfitError("it is TorchScript, whose steps cannot be seen")
    for one in named:
        if not any(one is module for module in networks):
            raise ArgumentError(
                f"Expected `layer` to be a part of `forward_func`; got {type(one).__name__}, which "
                f"it cannot be seen to use."
            )
    is_half = inputs.dtype in HALF
    if not named and not is_half and not any(map(_is_odd, networks)):
        return forward_func, []
    isolation = Isolation(alias)
    own = isolation.copy(forward_func)
    copies = [isolation.copy(one) for one in named]
    reached = {id(module) for module in modules_reached(own)}
    is_own = isolation.is_whole and all(id(one) in reached for one in copies)
    if is_half and not (is_own and reached.isdisjoint(map(id, networks))):
        raise UnfitError(
            "its inputs are in half precision, and no copy of it in float32 can be made. Pass the "
            "network itself, a torch.nn.Module"
        )
    if is_own:
        for module in modules_reached(own) if is_half else ():
            module._apply(_widened)
        return own, copies
    return forward_func, named


def _widened(value: Any) -> Any:
    """Return a tensor in half precision as float32, and all else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def _is_odd(module: nn.Module) -> bool:
    """Whether a module wraps a network, or has inference tensors."""
    if network_within(module) is not None or getattr(module, "_compiled_call_impl", None):
        return True
    own = (*module._parameters.values(), *module._buffers.values())
    return any(each is not None and each.is_inference() for each in own)


def _named(forward_func: object, name: str) -> nn.Module:
    if not isinstance(forward_func, nn.Module):
        raise ArgumentError(
            f"Expected `layer` to be a module, or `forward_func` one that has names; got {name!r}."
        )
    return named_layer(forward_func, name)
