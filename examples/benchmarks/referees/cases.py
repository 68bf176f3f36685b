# What a referee asks: pictures, targets, the pixels that are right, and a network that answers.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor, nn

Attribute: TypeAlias = Callable[[nn.Module, Tensor, int], Tensor]


@dataclass(frozen=True)
class Method:
    """A method behind one signature.

    Attributes:
        name: What tables call it.
        attribute: ``(network, picture (1, C, H, W), target)`` → map (H, W).
        dear: Whether it takes hundreds of forward passes, and so sees the first cases only.
        control: Whether it sees no network.
    """

    name: str
    attribute: Attribute
    dear: bool = False
    control: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """One question.

    Attributes:
        key: Names the case, whatever else is asked.
        picture: (1, C, H, W), as the network sees it.
        target: Index of the class.
        truth: (H, W), bool: the pixels that are right.
        network: What answers, where it is not the subject's.
    """

    key: str
    picture: Tensor
    target: int
    truth: Tensor
    network: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the cases it is asked about.

    Attributes:
        referee: Which referee asks.
        name: The network's name.
        network: Pictures → logits.
        cases: In an order in which any first few are a fair sample.
        layers: What Grad-CAM may look at, by words of ours; one is its authors' choice.
        best: The words of the layer that was best on the cases that settings are chosen on.
        sizes: Sides of the pictures for methods of several sizes, the pictures' own first.
        window: Side of windows that, side by side, lie on what is right or off it; 0 for none.
    """

    referee: str
    name: str
    network: nn.Module
    cases: Sequence[Case]
    layers: Mapping[str, nn.Module] = field(default_factory=dict)
    best: str = ""
    sizes: tuple[int, ...] = ()
    window: int = 0
