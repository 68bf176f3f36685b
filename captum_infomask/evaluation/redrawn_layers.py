# Finds a network's layers from the last to the first, and draws new weights for them.
from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_infomask._random import OwnGenerators

RedrawnLayers = list[tuple[str, list[nn.Module]]]


def layers_in_order(model: nn.Module, inputs: Tensor) -> RedrawnLayers:
    """Return the layers that have weights, in the order of their calls.

    A layer is a name and its modules. Some modules are never called themselves, such as the
    projection in PyTorch's attention; they belong to the called module around them. One forward
    pass finds the order. Layers that the pass does not reach do not influence the output and come
    first.

    Args:
        model: A network in eval mode; hooks may be set on it.
        inputs: (N, C, H, W).
    """
    called: dict[str, None] = {}

    def hook(name: str) -> Any:
        return lambda module, args: called.setdefault(name)

    names = dict(model.named_modules())
    hooks = [module.register_forward_pre_hook(hook(name)) for name, module in names.items()]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for one in hooks:
            one.remove()
    layers: dict[str, list[nn.Module]] = {name: [] for name in called}
    for name, module in names.items():
        if is_weighted(module):
            owner = name
            while owner and owner not in called:
                owner = owner.rpartition(".")[0]
            layers[owner].append(module)
    return [(name, modules) for name, modules in layers.items() if modules]


def is_weighted(module: nn.Module) -> bool:
    """Whether a module itself has parameters or running statistics."""
    own = next(module.parameters(recurse=False), None)
    return own is not None or getattr(module, "running_mean", None) is not None


def even_stages(layers: RedrawnLayers, most: int) -> RedrawnLayers:
    """Join neighbouring layers into at most ``most`` stages, the last layers first.

    A stage has the name of its first layer. All layers from there to the output are re-drawn.
    """
    backwards = layers[::-1]
    parts = np.array_split(np.arange(len(backwards)), min(most, len(backwards)) or 1)
    return [
        (backwards[part[-1]][0], [module for place in part for module in backwards[place][1]])
        for part in parts
        if len(part)
    ]


def modules_from(layers: RedrawnLayers, redrawn: Collection[nn.Module]) -> list[nn.Module]:
    """All modules from the first re-drawn layer on; their signals are new."""
    changed = [any(module in redrawn for module in modules) for _, modules in layers]
    return [module for _, modules in layers[changed.index(True) :] for module in modules]


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw from a seed, without gradients, and restore the random states."""
    with OwnGenerators(seed), torch.no_grad():
        yield


def redraw(modules: Sequence[nn.Module]) -> None:
    """Draw new weights: ``reset_parameters()``, or else normal with the same mean and spread."""
    for module in modules:
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            spread, mean = torch.std_mean(parameter, correction=0)
            parameter.copy_(torch.randn_like(parameter) * spread + mean)


def estimate_statistics(model: nn.Module, modules: Sequence[nn.Module], pictures: Tensor) -> None:
    """Compute batch norms' running means and variances again, from pictures.

    Args:
        model: The network with the modules, in eval mode before and after.
        modules: Modules whose batch norms are estimated.
        pictures: (N, C, H, W).
    """
    norms = [
        module
        for module in modules
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches; there is one batch
        norm.train()
    model(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
