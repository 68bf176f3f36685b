# The parameter-randomisation check: do maps change when the network forgets?
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_infomask._checks import (
    check_callable,
    check_initialised,
    check_inputs,
    describe,
    plain,
    random_seed,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import progress_bar
from captum_infomask._outputs import logits_of, read_logits
from captum_infomask.engines.isolation import Isolation, check_no_script, own_weight
from captum_infomask.engines.reached import named_layer
from captum_infomask.evaluation.method_calls import (
    Attribute,
    chosen_windows,
    info_mask,
    occlusion,
    target_log_probabilities,
)
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.evaluation.redrawn_layers import (
    RedrawnLayers,
    drawing,
    estimate_statistics,
    even_stages,
    is_weighted,
    layers_in_order,
    modules_from,
    redraw,
)
from captum_infomask.evaluation.statistics import Ranks, centred_ranks, correlation
from captum_infomask.report.evaluation_figures import randomisation_figure
from captum_infomask.scores.targets import Named, network_of

MOST_STAGES = 12
Explain: TypeAlias = Callable[[nn.Module, Tensor, int], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class RandomisationCheck:
    """The similarity of each method's maps before and after layers are re-drawn.

    Args:
        names: The M methods.
        stages: The S stages, each named by its first layer. This layer and all layers after it are
            re-drawn.
        spearman: (M, S), Spearman's rank correlation with the map of the original network; NaN if a
            map is constant.
        magnitudes: (M, S), the same for the maps' absolute values.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.evaluation.randomisation import RandomisationCheck
        >>> square = np.array([[0.5, 0.25]])
        >>> print(RandomisationCheck(("crop",), ("fc", "conv"), square, square))
        re-drawn from  crop
        -------------  -----------
        fc             0.50 (0.50)
        conv           0.25 (0.25)
        In brackets: of the maps' absolute values.
    """

    names: tuple[str, ...]
    stages: tuple[str, ...]
    spearman: npt.NDArray[np.float64]
    magnitudes: npt.NDArray[np.float64]

    def __repr__(self) -> str:
        """The text that a notebook or a prompt shows."""
        return self.text()

    def text(self) -> str:
        """Return a table with a line per stage and a column per method."""
        numbers = zip(self.spearman.T, self.magnitudes.T, strict=True)
        rows = [["re-drawn from", *self.names]]
        for stage, (signed, absolute) in zip(self.stages, numbers, strict=True):
            pairs = zip(signed, absolute, strict=True)
            rows.append([stage, *(f"{one:.2f} ({other:.2f})" for one, other in pairs)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "In brackets: of the maps' absolute values."])

    def figure(self) -> tuple[Figure, Axes]:
        """Draw the correlations over the stages."""
        return randomisation_figure(self.names, self.stages, self.spearman)


def randomisation_check(
    model: nn.Module | Named,
    inputs: Tensor,
    target: int,
    methods: Mapping[str, Explain] | None = None,
    *,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> RandomisationCheck:
    """Re-draw a network's layers from the last to the first, and see whether maps change.

    A map that shows what the network has learned must change. A map that stays the same shows only
    the picture, like an edge detector. Re-drawn layers stay re-drawn at the next stages
    (cascading). Everything runs on a deep copy in eval mode; the model itself does not run.

    A layer is re-drawn by its own ``reset_parameters()``, or else from a normal distribution with
    its parameters' mean and standard deviation. The running statistics of batch norms after the
    first re-drawn layer belong to old signals. So after each stage they are computed again, from
    the picture and its three mirror images. With old or reset statistics, the picture's signal
    vanishes within a few layers, and there is no map to compare.

    Args:
        model: The network, images (N, C, H, W) → logits (N, M); or a ``Classifier``.
        inputs: One picture, (1, C, H, W).
        target: Index of the class.
        methods: By name, functions ``(model, inputs, target)`` → attributions (1, C, H, W), with C
            = 1 allowed. They get the copy and must not keep any part of it. None takes InfoMask's
            ``crop`` and ``drop`` with default windows, and Captum's Occlusion of log p(y | x) with
            the same windows, which gives the order of ``drop``.
        layers: Names of layers, in the order of re-drawing, each with all its sub-modules. None
            takes all layers, the last first, in at most 12 stages.
        seed: The seed of the new weights and of the methods' draws.
        show_progress: Show a progress bar on stderr.

    Returns:
        The correlations, per method and stage.

    Raises:
        ArgumentError: The model is not a module, cannot be copied or has no parameters; inputs are
            not one picture; the target is not a class; methods are not functions by name, or give
            another shape; or a layer is unknown or has no parameters.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.randomisation import randomisation_check
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        ...     torch.nn.Linear(4, 2)).eval()
        >>> randomisation_check(model, torch.rand(1, 3, 16, 16), target=1).stages
        ('3', '0')

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", arXiv 1810.03292, Sec. 3.
    """
    seed = random_seed(seed)
    network = _copied(network_of(model))
    _check_picture(inputs)
    explain = _default_methods(inputs) if methods is None else _checked_methods(methods)
    pictures = inputs.detach()
    with as_it_was(network, seed=seed), torch.no_grad():
        output = network(pictures)
        target = _checked_target(target, read_logits(output, "model"))
        order = layers_in_order(network, pictures)
    if logits_of(output) is not output:  # let the copy return what methods of Captum take
        network.register_forward_hook(lambda module, given, output: logits_of(output))
    stages = even_stages(order, MOST_STAGES) if layers is None else _named(network, layers)
    if not stages:
        raise ArgumentError("Expected `model` with parameters; got one without.")
    mirrored = torch.cat([pictures.flip(dims) for dims in ((), (2,), (3,), (2, 3))])
    total = len(explain) * (len(stages) + 1)
    bar = progress_bar(total=total, desc="Randomisation check", show=show_progress)
    with bar:
        before = _ranks(network, explain, pictures, target, seed, bar)
        redrawn: set[nn.Module] = set()
        found = []
        for number, (_, modules) in enumerate(stages, start=1):
            redrawn |= set(modules)
            with drawing((seed + number) % 2**63):
                redraw(modules)
                estimate_statistics(network, modules_from(order, redrawn), mirrored)
            after = _ranks(network, explain, pictures, target, seed, bar)
            found.append(
                [
                    [correlation(was, now) for was, now in zip(*pair, strict=True)]
                    for pair in zip(before, after, strict=True)
                ]
            )
    both = np.array(found).transpose(2, 1, 0)
    names = tuple(name or type(network).__name__ for name, _ in stages)
    return RandomisationCheck(tuple(explain), names, both[0], both[1])


def _ranks(
    network: nn.Module,
    methods: Mapping[str, Explain],
    inputs: Tensor,
    target: int,
    seed: int,
    bar: Any,
) -> list[tuple[Ranks, Ranks]]:
    """Every method's ranks of the pixels: by value, and by magnitude."""
    ranks = []
    for name, method in methods.items():
        with as_it_was(network, seed=seed, writes=True):
            found: object = method(network, inputs.clone(), target)
        found = found[0] if isinstance(found, tuple) and len(found) == 1 else found
        size = (1, *inputs.shape[2:])
        if not isinstance(found, Tensor) or found.ndim != 4 or (1, *found.shape[2:]) != size:
            raise ArgumentError(
                f"Expected `methods` {name!r} to give attributions of shape {tuple(inputs.shape)}; "
                f"got {describe(found)}."
            )
        plane = found.detach().double().mean((0, 1))
        ranks.append((centred_ranks(plane), centred_ranks(plane.abs())))
        bar.update()
    return ranks


def _default_methods(inputs: Tensor) -> dict[str, Explain]:
    """InfoMask's two views that differ most, and Captum's Occlusion."""
    shapes, strides = chosen_windows(inputs, None, None)
    return {
        "InfoMask": _bound(info_mask()),
        "InfoMask drop": _bound(info_mask(view="drop")),
        "Occlusion": _bound(occlusion(shapes, strides, target_log_probabilities)),
    }


def _bound(attribute: Attribute) -> Explain:
    """A method of a comparison, as a function of any network."""
    return lambda model, inputs, target: attribute(model, inputs, target, False)


def _copied(model: object) -> nn.Module:
    """A copy in eval mode, with its own weights."""
    check_callable("model", model)
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"Expected `model` to be a torch.nn.Module; got {describe(model)}.")
    check_initialised("model", model)
    check_no_script("model", model)
    copied: nn.Module = Isolation(own_weight).copy(model)
    return copied.eval()


def _check_picture(inputs: object) -> None:
    """Refuse anything but one picture."""
    tensors = check_inputs(inputs)
    if (
        len(tensors) != 1
        or isinstance(inputs, tuple)
        or tensors[0].ndim != 4
        or len(tensors[0]) != 1
    ):
        raise ArgumentError(
            f"Expected `inputs` to be one picture, (1, C, H, W); got {describe(inputs)}."
        )


def _checked_target(target: object, logits: object) -> int:
    """Return the target if it is a class of the network."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ArgumentError(f"Expected `model` to give logits (N, M); got {describe(logits)}.")
    label = plain(target)
    whole = isinstance(label, int) and not isinstance(label, bool)
    if not whole or not 0 <= label < logits.shape[1]:
        raise ArgumentError(
            f"Expected `target` to be a class from 0 to {logits.shape[1] - 1}; got "
            f"{describe(target)}."
        )
    return int(label)


def _checked_methods(methods: object) -> dict[str, Explain]:
    """Return functions by name."""
    if not isinstance(methods, Mapping) or not methods:
        raise ArgumentError(
            "Expected `methods` to be functions (model, inputs, target) by name, at least one; got "
            f"{describe(methods)}."
        )
    for name, method in methods.items():
        if not isinstance(name, str) or not callable(method):
            raise ArgumentError(
                "Expected `methods` to be functions (model, inputs, target) by name; got "
                f"{describe(method)} for {name!r}."
            )
    return dict(methods)


def _named(network: nn.Module, layers: object) -> RedrawnLayers:
    """The layers that the user names, with all their sub-modules."""
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise ArgumentError(
            f"Expected `layers` to be a list of names of layers; got {describe(layers)}."
        )
    stages = []
    for name in layers:
        modules = [part for part in named_layer(network, name).modules() if is_weighted(part)]
        if not modules:
            raise ArgumentError(f"Expected `layers` with parameters; {name!r} has none.")
        stages.append((name, modules))
    return stages
