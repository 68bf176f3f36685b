# Find the feature maps among a network's values, their places, and the map that tells most.
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask.engines.map_axes import MOVES, axes_of
from captum_infomask.engines.reached import modules_reached
from captum_infomask.engines.recording import Recording, Step
from captum_infomask.engines.replay import Again
from captum_infomask.engines.traced_network import StandsAside

# These steps hide the scale of their input, so a path from zero tells nothing.
_NORMS = (
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "local_response_norm",
    "normalize",
    "norm",
    "linalg_vector_norm",
    "var",
    "var_mean",
    "std",
    "std_mean",
    "rsqrt",
)
_LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
CUTS = ("getitem", "narrow", "center_crop")
_MOST_CELLS = 1024  # cells of the maps that evidence is passed back to: finer maps gained nothing
_MOST_PREFIX = 16  # tokens before those of places: the class, registers


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A value of a network with places: (N, C, ...), (N, ..., C), or tokens (N, L, C).

    Attributes:
        value: The value.
        after: The place of the first step that may read it.
        axes: The dimensions that are places; for tokens, their dimension alone.
        grid: The number of places along each dimension of the picture.
        prefix: The number of tokens before those of places.
    """

    value: Tensor
    after: int
    axes: tuple[int, ...]
    grid: tuple[int, ...]
    prefix: int = 0

    @property
    def words(self) -> str:
        """Return its size in words, for a message or a result."""
        return " × ".join(map(str, self.grid))

    def of_places(self, values: Tensor) -> Tensor:
        """Sum values shaped like the map over channels: (N, ...) to (N, *grid)."""
        first = (0, *self.axes)
        summed = values.sum([dim for dim in range(values.dim()) if dim not in first])
        return summed[:, self.prefix :].reshape(len(values), *self.grid)

    def between(self, start: Tensor, end: Tensor) -> Tensor:
        """Return the start of the path; tokens that have no place stay as they are at the end."""
        if not self.prefix:
            return start.expand_as(end)
        (dim,) = self.axes
        own, rest = end.narrow(dim, 0, self.prefix), end.shape[dim] - self.prefix
        return torch.cat([own, start.expand_as(end).narrow(dim, self.prefix, rest)], dim)


def default_map(recording: Recording, inputs: Tensor, output: Tensor) -> list[FeatureMap]:
    """Return the map that evidence is read at if no layer is named.

    It is the last map that everything after it is made from. In a transformer the last tokens know
    of all others, so the map is the input of the second block (docs/evidence.md). Maps of only a
    part of the pictures or features do not count. A network without any map gives its pictures' own
    pixels.
    """
    last = next(_maps_backwards(recording, inputs, output), None)
    if last is None:
        return [_pixels(inputs)]
    if _are_tokens(recording, last, inputs):
        last = _second_block(recording, _maps(recording, inputs, output))
    return [feature_map(recording, last.value, last.made + 1, inputs)]


def relay_maps(recording: Recording, inputs: Tensor, output: Tensor) -> list[FeatureMap]:
    """Return the maps that evidence is passed back to if no layer is named.

    Only maps that everything after them is made from count. Two are taken: the last map, and the
    first one of the most cells among maps that a layer made, with at most 1,024 cells. A
    transformer takes only the latter, if convolutions below it make more cells than it has tokens.
    If not, it takes the tokens that its first block reads. A network without any map gives its
    pictures' own pixels.
    """
    found = _maps(recording, inputs, output)
    if not found:
        return [_pixels(inputs)]
    last = found[-1]
    fit = [one for one in _after_layers(recording, found) if one.cells <= _MOST_CELLS]
    finest = max(fit, key=lambda one: one.cells, default=last)
    if _are_tokens(recording, last, inputs):
        tokens = next(one for one in found if one.value.shape == last.value.shape)
        chosen = [finest if finest.cells > tokens.cells else tokens]
    else:
        chosen = [last, finest] if finest.cells > last.cells else [last]
    return [feature_map(recording, one.value, one.made + 1, inputs) for one in chosen]


def about_a_place(forward_func: object) -> bool:
    """Whether a network's answer is about a place of the picture, as the class of a module says.

    Modules that wrap such a module, and functions that visibly use one, are about its place too.
    """
    used = modules_reached(forward_func)
    return any(getattr(type(module), "is_about_a_place", False) is True for module in used)


def early_map(recording: Recording, inputs: Tensor, output: Tensor) -> list[FeatureMap]:
    """Return the map that ``relay`` reads for an answer about a place, if no layer is named.

    The last maps of such a network hold the answers of all places, and what they add says only
    which place was asked about. So this is the first map of at most 1,024 cells that a layer made,
    before the last layer; if there is none, the first of more cells. Tokens may be anything there,
    such as a detector's queries, and do not count. A network without any map gives its pictures'
    own pixels.
    """
    found = _of_places(recording, inputs, output)
    return [
        next((one for one in found if one.cells <= _MOST_CELLS), found[0]).of(recording, inputs)
    ]


def coarse_map(recording: Recording, inputs: Tensor, output: Tensor) -> list[FeatureMap]:
    """Return the same for ``evidence``: the first of the fewest cells, so that less follows it."""
    found = _of_places(recording, inputs, output)
    return [min(found, key=lambda one: one.cells).of(recording, inputs)]


def _of_places(recording: Recording, inputs: Tensor, output: Tensor) -> list[_Found]:
    layers = [place for place, step in enumerate(recording.steps) if step.name in _LAYERS]
    found = [
        one
        for one in _after_layers(recording, _maps(recording, inputs, output))
        if one.made < layers[-1] and one.value.dim() == inputs.dim()
    ]
    return found or [_Found(inputs, -1, math.prod(inputs.shape[2:]))]


@dataclass(frozen=True, eq=False)
class _Found:
    """A value that everything after it is made from, the place of its step, and its cells."""

    value: Tensor
    made: int
    cells: int

    def of(self, recording: Recording, inputs: Tensor) -> FeatureMap:
        """Return it as a feature map; the pictures themselves were made by no step."""
        if self.made < 0:
            return _pixels(inputs)
        return feature_map(recording, self.value, self.made + 1, inputs)


def _maps(recording: Recording, inputs: Tensor, output: Tensor) -> list[_Found]:
    """Return the maps that everything that follows is made from, in order."""
    return list(_maps_backwards(recording, inputs, output))[::-1]


def _maps_backwards(recording: Recording, inputs: Tensor, output: Tensor) -> Iterator[_Found]:
    """Yield the same maps, the last one first: it takes time to find a value's places."""
    places = inputs.dim() - 2
    cut = first_cut(recording, len(recording.steps), places)
    for step, one in reversed(list(_by_picture(recording, inputs, output))):
        if one is output or step >= cut or one.dim() not in (3, 2 + places):
            continue
        axes = axes_of(recording, one, step, places)
        cells = 0 if axes is None else math.prod(one.shape[dim] for dim in axes)
        if cells > 1:
            yield _Found(one, step, cells)


def _by_picture(
    recording: Recording, inputs: Tensor, output: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Yield those bottlenecks that have the pictures in their first dimension.

    Attention may work on (L, N, C), where the places are in the first one.
    """
    is_moved = False
    for place, one in _bottlenecks(recording, inputs, output):
        is_moved ^= _moves_pictures(recording.steps[place])
        if not is_moved and len(one) == len(inputs):
            yield place, one


def _moves_pictures(step: Step) -> bool:
    """Whether a step puts another dimension in the place of the pictures, or puts them back."""
    if step.name not in MOVES or not step.given:
        return False
    sizes = tuple(range(2, 2 + step.given[0].dim()))  # sizes that identify the dimensions
    moved = step.function(torch.empty(sizes, device="meta"), *step.args[1:], **step.kwargs)
    return int(moved.shape[0]) != sizes[0]


def _pixels(inputs: Tensor) -> FeatureMap:
    return FeatureMap(inputs, 0, tuple(range(2, inputs.dim())), tuple(inputs.shape[2:]))


def _after_layers(recording: Recording, found: Sequence[_Found]) -> list[_Found]:
    """Keep those maps that a convolution or a linear layer led to, without borders around."""
    steps = recording.steps
    layers = [place for place, step in enumerate(steps) if step.name in _LAYERS]
    first = layers[0] if layers else len(steps)
    return [one for one in found if one.made >= first and steps[one.made].name != "pad"]


def feature_map(recording: Recording, value: Tensor, after: int, inputs: Tensor) -> FeatureMap:
    """Return a value as a feature map of the inputs (N, C, ...).

    Args:
        recording: The steps of the network.
        value: The value.
        after: The place of the first step that may read it.
        inputs: The pictures that the network was shown.

    Raises:
        StandsAside: The value is not a map, or nothing tells where its channels stand.
    """
    places = inputs.dim() - 2
    if first_cut(recording, after, places) < after:
        raise StandsAside(
            "it takes a part of its pictures or features before the layer that is named"
        )
    if value.dim() not in (3, 2 + places) or not value.is_floating_point():
        raise StandsAside(f"a value of shape {tuple(value.shape)} is no feature map")
    axes = axes_of(recording, value, after - 1, places)
    if axes is None:
        raise StandsAside(
            f"nothing tells which dimension of {tuple(value.shape)} holds the channels"
        )
    if len(axes) == places:
        return FeatureMap(value, after, axes, tuple(value.shape[dim] for dim in axes))
    prefix, grid = _grid(recording, value.shape[axes[0]], after, inputs)
    return FeatureMap(value, after, axes, grid, prefix)


def first_cut(recording: Recording, before: int, places: int) -> int:
    """Return the place of the first step that takes a part of a map's places; else ``before``.

    The cells of that step's result lie elsewhere in the picture than their numbers say.

    Args:
        recording: The steps of the network.
        before: The number of steps that are looked at.
        places: The dimensions of places that the inputs have.
    """
    for place, step in enumerate(recording.steps[:before]):
        if step.name in CUTS and step.made and step.given[0].dim() == 2 + places > 2:
            axes = axes_of(recording, step.given[0], place - 1, places)
            if axes and _leaves_out(step, axes):
                return place
    return before


def _leaves_out(step: Step, axes: Sequence[int]) -> bool:
    """Whether a step leaves out more of a map than its border and what a stride skips."""
    given, made = step.given[0], step.made[0]
    if made.dim() != given.dim():
        return False
    for dim in axes:
        if made.shape[dim] < given.shape[dim]:
            at = tuple(slice(None) if k == dim else 0 for k in range(given.dim()))
            numbers = torch.arange(given.shape[dim], device=given.device)
            along = numbers.view([-1 if k == dim else 1 for k in range(given.dim())])
            shown = along.expand(given.shape)
            args, kwargs = (shown, *step.args[1:]), dict(step.kwargs)
            if not step.args:
                args, kwargs = (), {**kwargs, "input": shown}
            taken = step.function(*args, **kwargs)[at]
            apart = int(taken.diff().max()) if len(taken) > 1 else 1
            if len(numbers) - 1 - int(taken[-1] - taken[0]) > apart:
                return True
    return False


def hides_scale(steps: Sequence[Again]) -> bool:
    """Whether some step divides by the size of its features."""
    return any(step.name in _NORMS for step in steps)


def _bottlenecks(
    recording: Recording, inputs: Tensor, output: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Yield, in order, the values that lie on every way from the inputs to the output.

    Each comes with the place of the step that made it, or wrote to it last.
    """
    places = recording.following(inputs)
    steps = recording.steps
    needed = {id(output)}
    kept: list[int] = []
    for place in reversed(places):
        step = steps[place]
        if step.written is not None or any(id(each) in needed for each in step.made):
            kept.append(place)
            needed.update(map(id, step.given))
    kept.reverse()
    last = {id(each): place for place in kept for each in steps[place].given}
    alive: set[int] = {id(inputs)}
    for place in kept:
        step = steps[place]
        made = {id(each): each for each in step.made}
        alive = {each for each in alive | set(made) if last.get(each, -1) > place}
        if len(alive) == 1 and alive <= set(made):
            yield place, made[next(iter(alive))]


def _are_tokens(recording: Recording, last: _Found, inputs: Tensor) -> bool:
    """Whether the last map holds the tokens of a transformer.

    Maps of signals have as many dimensions as tokens. Tokens have their channels last, and blocks
    that add to them.
    """
    if inputs.dim() > 3 or last.value.dim() != 3:
        return last.value.dim() == 3
    is_last = axes_of(recording, last.value, last.made, 1) == (1,)
    return is_last and sum(_is_sum(step) for step in recording.steps) > 1


def _second_block(recording: Recording, found: Sequence[_Found]) -> _Found:
    """Return the input of a transformer's second block: the sum that the first block ends in.

    Each block adds to its tokens twice: the output of attention, and that of its MLP. After the
    last block each token may be read alone, such as the one of the class, and those of places then
    tell nothing. So if only one block has such tokens, this is the map that it reads. If there are
    no such sums, the last of the maps is returned.
    """
    tokens = [one for one in found if one.value.shape == found[-1].value.shape]
    ends = [step for step in recording.steps if _is_sum(step) and step.made[0].dim() == 3]
    sums = [one for one in tokens if any(each is one.value for step in ends for each in step.made)]
    if len(sums) > 2:
        return sums[1]
    before = [one for one in found if sums and one.made < sums[0].made]
    return before[-1] if before else found[-1]


def _is_sum(step: Step) -> bool:
    """Whether a step adds two values of one shape that were both made, not learned."""
    return (
        step.name in ("add", "iadd", "radd")
        and len(step.given) == 2
        and step.given[0].shape == step.given[1].shape
        and not any(isinstance(each, torch.nn.Parameter) for each in step.given)
    )


def _grid(
    recording: Recording, tokens: int, after: int, inputs: Tensor
) -> tuple[int, tuple[int, ...]]:
    """Return the number of tokens before those of places, and the places along each dimension."""
    sizes = inputs.shape[2:]
    for step in reversed(recording.steps[:after]):
        for made in step.made:
            if "conv" in step.name and made.dim() == inputs.dim():
                grid = tuple(made.shape[2:])
                if 0 <= tokens - math.prod(grid) <= _MOST_PREFIX:
                    return tokens - math.prod(grid), grid
    for prefix in range(_MOST_PREFIX + 1):
        cell = (math.prod(sizes) / max(tokens - prefix, 1)) ** (1 / len(sizes))
        grid = tuple(round(size / cell) for size in sizes)
        is_even = all(
            size * grid[0] == sizes[0] * own for size, own in zip(sizes, grid, strict=True)
        )
        if is_even and math.prod(grid) == tokens - prefix:
            return prefix, grid
    raise StandsAside(f"nothing tells which places its {tokens} tokens have")
