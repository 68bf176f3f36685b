# What compare() asks of a method, what a method answers, and what is found of the answer.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from captum_infomask.comparison.costs import Cost, Read, as_it_is
from captum_infomask.engines.isolation import Isolation
from captum_infomask.evaluation.metric_protocol import Measured
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Question:
    """What a method is asked: one picture, one class.

    Attributes:
        model: The network, or the comparison's copy of it.
        users: The network itself.
        inputs: (1, C, H, W), of the method's own.
        target: Index of the class; None where an output is one number per picture, (N,).
        place: Which of the comparison's pictures this is.
        pictures: How many there are.
        seed: The seed of what the method draws.
        show_progress: Whether it shows a bar of its own, if it has one.
        read: What methods that know of no groups are given of the network's outputs.
    """

    model: Callable[..., Any]
    users: Callable[..., Any]
    inputs: Tensor
    target: int | None
    place: int = 0
    pictures: int = 1
    seed: int = 0
    show_progress: bool = False
    read: Read = as_it_is


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method said about a picture and, from ``mask`` on, what was found of it.

    Attributes:
        attributions: (1, C', H, W); once they are measured their mean over channels, (1, 1, H, W),
            float32, on the CPU. NaN where the method failed.
        passes: Pictures sent through the network; None where nobody could count.
        infomap: The regions' scores, of an InfoMask.
        mask: (H, W), boolean, on the CPU; None where the method failed.
        cost: Seconds and memory.
        measured: What each metric found.
        troubles: Why a metric found nothing, by its name.
        error: Why the method failed; empty where it did not.
    """

    attributions: Tensor
    passes: int | None = None
    infomap: InfoMap | None = None
    mask: Tensor | None = None
    cost: Cost = field(default_factory=Cost)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


class Method(Protocol):
    """An attribution method under the name, and with the arguments, that it was given."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""

    @property
    def unit(self) -> str:
        """What its values are counted in, as far as that is known before it runs."""

    @property
    def meaning(self) -> str:
        """What its values say, in a few words; likewise."""

    @property
    def score(self) -> Score | None:
        """How it reads the network's outputs, where it is an InfoMask."""

    @property
    def takes_users(self) -> bool:
        """Whether it may do anything to the network itself: a function, or a user's own class."""

    def is_density(self, inputs: Tensor) -> bool:
        """Whether it spreads bits over the cells of feature maps, as an InfoMask may."""

    def isolated(self, isolation: Isolation) -> Method:
        """The method on a copy of the network; a function is given the network itself.

        It may hold layers of it, which would see nothing of what a copy does.
        """

    def attribute(self, question: Question) -> Answer:
        """Run the method on one picture.

        Raises:
            ArgumentError: What comes back is no map of the picture.
        """
