# Find the layer for Grad-CAM: the last feature map, or the layer that is named.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import logits_of
from captum_infomask._process import users_default
from captum_infomask._random import OwnGenerators
from captum_infomask.engines.isolation import Isolation, alias
from captum_infomask.engines.map_axes import REDUCTIONS, channels_beside
from captum_infomask.engines.recording import Watching

_ACTIVATIONS = nn.ReLU.__module__


@dataclass(frozen=True, eq=False)
class LayerMap:
    """A layer whose output is a feature map.

    Attributes:
        module: The layer.
        channels_last: Whether the output is (N, h, w, C), as in Swin, rather than (N, C, h, w).
    """

    module: nn.Module
    channels_last: bool


def layer_map(model: nn.Module, inputs: Tensor, layer: nn.Module | None = None) -> LayerMap:
    """Return the layer whose output is the last feature map before the global pooling.

    The output of this layer is (N, C, h, w) or (N, h, w, C) with h × w > 1, and no other such
    layer's output is computed from it. Layers that are only an activation, such as ReLU, do not
    count, because Grad-CAM is better before them (docs/results/defaults.md). One forward pass with
    gradients finds the layer, on a copy in eval mode. The operations that make or read the map tell
    which dimension holds the channels. A convolution, a batch norm or a pooling has them first. A
    linear layer or a norm over the last dimension has them last.

    Args:
        model: The network.
        inputs: (N, C, H, W).
        layer: The layer to look at instead, one of the network's.

    Returns:
        The layer, for Captum's ``LayerGradCam``.

    Raises:
        ArgumentError: There is no such layer, or several stand side by side (the error names them).
            Or tokens (N, L, D) come after it, as in a vision transformer (:class:`OnTokensError`).
            Or nothing tells where the channels stand.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.comparison.gradcam_layers import layer_map
        >>> layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        >>> layer_map(nn.Sequential(*layers), torch.rand(1, 1, 8, 8)).module
        Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))

    Source:
        Selvaraju et al. 2017, "Grad-CAM": the last convolutional layer keeps the place of things
        and has the highest meaning.
    """
    isolation = Isolation(alias)
    own = isolation.copy(model)
    if isolation.is_whole:
        finished, axes = _finished_layers(own, inputs)
        users = {isolation.copy(module): module for module in model.modules()}
        finished = [replace(one, module=users[one.module]) for one in finished]
    else:
        finished, axes = _finished_layers(model, inputs)
    if layer is not None:
        found = [one for one in finished if one.module is layer]
        if not found or found[-1].output.ndim != 4:
            given = describe(found[-1].output) if found else "nothing, in a pass of one picture"
            raise ArgumentError(_needs(model, f"the layer that is named returns {given}"))
        return _with_axes(model, found[-1], axes)
    finished = [one for one in finished if _is_map(one.output, axes) or one.is_tokens]
    finished = [one for one in finished if type(one.module).__module__ != _ACTIVATIONS]
    if not finished:
        raise ArgumentError(_needs(model, "no layer's output is one"))
    if finished[-1].is_tokens:
        raise OnTokensError(_needs(model, "its last layers work on tokens"))
    last = _last_of(finished)
    if len(last) > 1:
        names = {module: name for name, module in model.named_modules()}
        listed = ", ".join(repr(names[one.module]) for one in last)
        raise ArgumentError(_needs(model, f"several lie side by side: {listed}"))
    return _with_axes(model, last[0], axes)


class OnTokensError(ArgumentError):
    """The network's last layers work on tokens, which have no feature map."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer that has finished, and its output, which keeps its graph of gradients."""

    module: nn.Module
    output: Tensor
    node: Any

    @property
    def is_tokens(self) -> bool:
        return self.output.ndim == 3 and self.output.shape[1] > 1


def _is_map(output: Tensor, axes: _ChannelAxes) -> bool:
    """Whether an output has more than one place."""
    if output.ndim != 4:
        return False
    height, width = output.shape[1:3] if axes.are_last(output) else output.shape[2:]
    return height * width > 1


def _with_axes(model: nn.Module, layer: _Layer, axes: _ChannelAxes) -> LayerMap:
    are_last = axes.are_last(layer.output)
    if are_last is None:
        shape = tuple(layer.output.shape)
        raise ArgumentError(
            _needs(model, f"nothing tells which dimension of the output {shape} holds the channels")
        )
    return LayerMap(layer.module, are_last)


def _finished_layers(model: nn.Module, inputs: Tensor) -> tuple[list[_Layer], _ChannelAxes]:
    """Return the layers that the output is made from, as they finish, and the channels' place."""
    finished: list[_Layer] = []
    axes = _ChannelAxes()

    def note(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if isinstance(output, Tensor):
            finished.append(_Layer(module, output, output.grad_fn))

    training = [(module, module.training) for module in model.modules()]
    hooks = [
        module.register_forward_hook(note) for module in model.modules() if module is not model
    ]
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            OwnGenerators(0),
            users_default(),
            Watching(axes.see),
        ):
            output = logits_of(model.eval()(inputs.detach().clone().requires_grad_()))
    finally:
        for hook in hooks:  # the hooks and the records that they make refer to each other
            hook.remove()
        for module, mode in training:
            if module.training != mode:
                module.training = mode
    used: set[Any] = set()
    if isinstance(output, Tensor):
        _reach(output.grad_fn, used)
    return [layer for layer in finished if layer.node in used], axes


_SWAP = {(0, 2, 3, 1), (0, 3, 1, 2)}  # moves the channels from one end to the other
_IN_PLACE = {(0, 2, 1, 3), (0, 1, 3, 2)}  # swaps rows and columns, in one of the two layouts
_MARKS = (2, 3, 5, 7)  # sizes that identify the dimensions
_FIRST = ("conv2d", "conv_transpose2d", "pool2d", "batch_norm", "group_norm", "instance_norm")
_NO_MAPS = ("matmul", "bmm", "einsum", "scaled_dot_product_attention", "view", "reshape")


class _ChannelAxes:
    """Follow tensors of four dimensions through a pass, and find where their channels stand.

    If a tensor is made from another without a change of layout, both are in one group. A
    permutation between the layouts links two groups as opposites. What is found for one tensor
    holds for all.
    """

    def __init__(self) -> None:
        self._tied: dict[int, tuple[int, bool]] = {}
        self._told: dict[int, set[bool]] = {}
        self._alive: list[Tensor] = []  # kept, so that no other tensor gets the same id

    def are_last(self, tensor: Tensor) -> bool | None:
        """Whether channels are a tensor's last dimension; None if nothing tells, or both."""
        root, is_opposite = self._root(tensor)
        told = self._told.get(root, set())
        return (next(iter(told)) != is_opposite) if len(told) == 1 else None

    def see(self, func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        """Read the result of one of PyTorch's functions."""
        name = getattr(func, "__name__", "")
        made = [leaf for leaf in tree_leaves(result) if _has_four(leaf)]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if _has_four(leaf)]
        x = args[0] if args else kwargs.get("input")
        if not _has_four(x):
            if name == "linear" or not given:
                return
            x = given[0]
        if any(word in name for word in _FIRST):
            self._tell([x, *made], are_last=False)
        elif name == "linear" or (name == "layer_norm" and _is_vector(args, kwargs)):
            self._tell([x, *made], are_last=True)
        elif name in ("permute", "transpose", "swapaxes", "movedim", "moveaxis"):
            order = _order(func, args, kwargs)
            if order in _SWAP or order in _IN_PLACE:
                self._tie(x, made[0], is_opposite=order in _SWAP)
        elif name in REDUCTIONS or name == "flatten":
            self._reduced(name, x, args, kwargs)
        elif name not in _NO_MAPS or [x.shape] == [one.shape for one in made]:
            for other in [*given, *made]:
                self._tie(x, other, is_opposite=False)
            if made:
                self._weighted(made[0], args)

    def _tell(self, tensors: Sequence[Tensor], *, are_last: bool) -> None:
        for tensor in tensors:
            root, is_opposite = self._root(tensor)
            self._told.setdefault(root, set()).add(are_last != is_opposite)

    def _reduced(self, name: str, x: Tensor, args: Any, kwargs: Any) -> None:
        """Conclude that a reduction over two dimensions is one over places."""
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if name == "flatten":
            first = kwargs.get("start_dim", args[1] if len(args) > 1 else 0) % 4
            last = kwargs.get("end_dim", args[2] if len(args) > 2 else -1) % 4
            dims = tuple(range(first, last + 1))
        told = channels_beside(dims, 4)
        if told is not None:
            self._tell([x], are_last=told == "last")

    def _weighted(self, made: Tensor, args: Any) -> None:
        """Find channels by a weight per channel, (C,) or (C, 1, 1), which broadcasts to them."""
        for weight in args:
            if not isinstance(weight, nn.Parameter) or weight.numel() < 2:
                continue
            sizes = (*[1] * (4 - weight.ndim), *weight.shape)
            if sizes == (1, 1, 1, made.shape[3]) or sizes == (1, made.shape[1], 1, 1):
                self._tell([made], are_last=sizes[3] > 1)

    def _root(self, tensor: Tensor) -> tuple[int, bool]:
        """Return the tensor that represents a group, and whether its layout is the opposite one."""
        number, is_opposite = id(tensor), False
        if number not in self._tied:
            self._tied[number] = (number, False)
            self._alive.append(tensor)
        while self._tied[number][0] != number:
            number, turned = self._tied[number]
            is_opposite ^= turned
        return number, is_opposite

    def _tie(self, one: Tensor, other: Tensor, *, is_opposite: bool) -> None:
        (first, turned), (second, again) = self._root(one), self._root(other)
        if first == second:
            return
        is_opposite ^= turned ^ again
        self._tied[second] = (first, is_opposite)
        told = {are_last != is_opposite for are_last in self._told.pop(second, set())}
        self._told.setdefault(first, set()).update(told)


def _has_four(value: object) -> bool:
    """Whether this can be a map of features, rather than weights."""
    return isinstance(value, Tensor) and value.ndim == 4 and not isinstance(value, nn.Parameter)


def _is_vector(args: Any, kwargs: Any) -> bool:
    """Whether a layer norm is one over the last dimension."""
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
    return len(shape) == 1


def _order(permute: Callable[..., Any], args: Any, kwargs: Any) -> tuple[int, ...]:
    """Return the dimensions in the order of a permutation, whatever the form of its arguments."""
    marked = torch.empty(_MARKS, device="meta")
    return tuple(map(_MARKS.index, permute(marked, *args[1:], **kwargs).shape))


def _last_of(finished: Sequence[_Layer]) -> list[_Layer]:
    """Return the layers from whose outputs no other is computed; the outermost of each output."""
    last: list[_Layer] = []
    reached: set[Any] = set()
    for layer in reversed(finished):
        if layer.node not in reached:
            last.append(layer)
            _reach(layer.node, reached)
    return last[::-1]


def _reach(node: Any, reached: set[Any]) -> None:
    """Add a node of the graph of gradients, and all that it is computed from."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting.extend(before for before, _ in node.next_functions)


def _needs(model: nn.Module, why: str) -> str:
    return (
        "Grad-CAM needs a feature map of shape (N, C, h, w) or (N, h, w, C) before the global "
        f"pooling; in {type(model).__name__} {why}. Name a layer (`layer=`, or `--layer NAME`) "
        "whose output has such a shape."
    )
