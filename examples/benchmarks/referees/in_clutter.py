# The clutter's cases for the three small networks.
from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .cases import Case, Subject
from .clutter import SIDE, Clutter, clutter, normalised
from .small_networks import SMALL, Lab, trained, transformer

_DRAWN, _TRAINED_ON = 16_000, 1  # pictures, seed
_ASKED = 2


def in_clutter(name: str, count: int, lab: Lab) -> Subject:
    """A small network, and pictures that it gets right.

    Args:
        name: One of :data:`SMALL`.
        count: Number of cases.
        lab: Where networks come from.
    """
    network = small(name, lab)
    return Subject("clutter", name, network, _cases(network, count, lab), *_layers(network))


def small(name: str, lab: Lab) -> nn.Module:
    """One of :data:`SMALL`, trained or from the cache."""
    build, steps, rate = SMALL[name]
    if build is transformer:
        build = partial(transformer, small("residual", lab))

    def pictures() -> tuple[Tensor, Tensor]:
        made = clutter(*lab.read_digits(train=True), lab.count(_DRAWN), _TRAINED_ON)
        return made.pictures, made.labels

    file = lab.cache / f"clutter-{lab.origin}-{name}"
    return trained(build, pictures, lab.count(steps), file, normalised, rate)


def drawn(lab: Lab, count: int, seed: int) -> Clutter:
    """Pictures with digits that no network was trained on."""
    return clutter(*lab.read_digits(train=False), count, seed)


def _cases(network: nn.Module, count: int, lab: Lab) -> list[Case]:
    enough = (60 if lab.hurry else 4) * count + 20
    made = drawn(lab, enough, _ASKED)
    shown = normalised(made.pictures)
    with torch.no_grad():
        right = network(shown).argmax(1) == made.labels
    kept = right.nonzero()[:count, 0].tolist()
    if len(kept) < count:
        raise RuntimeError(f"Expected {count} pictures that the network gets right; {len(kept)}.")
    return [Case(str(k), shown[k : k + 1], int(made.labels[k]), made.truth[k]) for k in kept]


def _layers(network: nn.Module) -> tuple[dict[str, nn.Module], str, tuple[int, ...]]:
    """What Grad-CAM looks at, what is best there, and the sizes that the network takes."""
    if hasattr(network, "encoder"):
        first, *_, last = network.get_submodule("encoder.layers").children()
        names = {
            "last block's first norm (its authors' layer)": last.get_submodule("ln_1"),
            "first block": first,
        }
        return names, next(iter(names)), (SIDE,)
    names = {
        "last block (its authors' layer)": network.get_submodule("block4"),
        "one block earlier": network.get_submodule("block3"),
    }
    sizes = (SIDE, 96, 128) if isinstance(network.pool, nn.AdaptiveAvgPool2d) else (SIDE,)
    return names, next(iter(names)), sizes


def subjects(count: int, lab: Lab) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {name: partial(in_clutter, name, count, lab) for name in SMALL}
