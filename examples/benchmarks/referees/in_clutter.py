# The clutter's cases for the three small networks.
from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_infomask.datasets import mnist, sklearn_digits

from .cases import Case, Subject
from .clutter import SIDE, Clutter, clutter, normalised
from .small_networks import SMALL, trained

_DRAWN, _TRAINED_ON = 16_000, 1  # pictures, seed
_ASKED = 2


def in_clutter(name: str, count: int, cache: Path, digits: Path | None) -> Subject:
    """A small network, and pictures that it gets right.

    Args:
        name: One of :data:`SMALL`.
        count: Number of cases.
        cache: Where trained networks are kept.
        digits: MNIST's folder; scikit-learn's digits if None.
    """
    network = small(name, cache, digits)
    return Subject("clutter", name, network, _cases(network, count, digits), *_layers(network))


def small(name: str, cache: Path, digits: Path | None) -> nn.Module:
    """One of :data:`SMALL`, trained or from the cache."""
    build, steps = SMALL[name]

    def pictures() -> tuple[Tensor, Tensor]:
        made = clutter(*read_digits(digits, train=True), _DRAWN, _TRAINED_ON)
        return made.pictures, made.labels

    origin = "sklearn" if digits is None else "mnist"
    return trained(build, pictures, steps, cache / f"clutter-{origin}-{name}", normalised)


def drawn(digits: Path | None, count: int, seed: int) -> Clutter:
    """Pictures with digits that no network was trained on."""
    return clutter(*read_digits(digits, train=False), count, seed)


def read_digits(folder: Path | None, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST's digits or scikit-learn's, and their labels."""
    return sklearn_digits(train) if folder is None else mnist(folder, train)


def _cases(network: nn.Module, count: int, digits: Path | None) -> list[Case]:
    made = drawn(digits, 2 * count + 20, _ASKED)
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


def subjects(count: int, cache: Path, digits: Path | None) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {name: partial(in_clutter, name, count, cache, digits) for name in SMALL}
