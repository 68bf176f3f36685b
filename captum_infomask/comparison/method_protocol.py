# The protocol of methods: the question that compare() asks, the answer, and what is measured.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.comparison.costs import Cost, Read, as_it_is
from captum_infomask.engines.isolation import Isolation
from captum_infomask.evaluation.metric_protocol import Measured
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Question:
    """The question that a method is asked: one picture, one class.

    Attributes:
        model: The network, or the comparison's copy of it.
        users: The network itself.
        inputs: (1, C, H, W), the method's own copy.
        target: Index of the class; None if an output is one number per picture, (N,).
        place: The number of this picture among the comparison's pictures.
        pictures: The number of the comparison's pictures.
        seed: The seed of the method's random draws.
        show_progress: Whether the method shows its own progress bar, if it has one.
        read: A function of the network's outputs, for methods that know of no groups.
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
    """A method's answer about a picture. The fields from ``mask`` on are found from it afterwards.

    Attributes:
        attributions: (1, C', H, W). Once they are measured, their mean over channels, (1, 1, H, W),
            float32, on the CPU. NaN if the method failed.
        passes: Pictures sent through the network; None if they could not be counted.
        infomap: The regions' scores, of an InfoMask.
        mask: (H, W), boolean, on the CPU; None if the method failed.
        cost: Seconds and memory.
        measured: The result of each metric.
        troubles: For each metric without a result, the reason, by the metric's name.
        error: The reason why the method failed; empty if it did not.
    """

    attributions: Tensor
    passes: int | None = None
    infomap: InfoMap | None = None
    mask: Tensor | None = None
    cost: Cost = field(default_factory=Cost)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, eq=False)
class Counted:
    """An InfoMask whose values count from the prior, so that labels can check them.

    Attributes:
        infomask: The InfoMask.
        view: The view.
        options: Its further arguments.
    """

    infomask: InfoMask
    view: str
    options: Mapping[str, Any]


class Method(Protocol):
    """An attribution method with the name and the arguments that it was given."""

    @property
    def name(self) -> str:
        """Its name in tables and figures."""

    @property
    def unit(self) -> str:
        """The unit of its values, if it is known before the method runs."""

    @property
    def meaning(self) -> str:
        """The meaning of its values in a few words, if it is known before the method runs."""

    @property
    def score(self) -> Score | None:
        """The score that reads the network's outputs, if this is an InfoMask."""

    @property
    def counted(self) -> Counted | None:
        """What labels can check: an InfoMask whose values count from the prior, if this is one."""

    @property
    def takes_users(self) -> bool:
        """Whether it may change the network itself: a function, or a user's own class."""

    def is_density(self, inputs: Tensor) -> bool:
        """Whether it spreads bits over the cells of feature maps, as an InfoMask may."""

    def isolated(self, isolation: Isolation) -> Method:
        """Return the method on a copy of the network; a function gets the network itself.

        A function may hold layers of the network, and these would see nothing of a copy.
        """

    def attribute(self, question: Question) -> Answer:
        """Run the method on one picture.

        Raises:
            ArgumentError: The method returns no map of the picture.
        """
