# Comparison: what several methods say about the same pictures, measured, and how it shows itself.
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_infomask._checks import one_of
from captum_infomask.masks import MaxFraction, Rule
from captum_infomask.report.figure import methods_figure
from captum_infomask.report.page_content import (
    Agreement,
    BoolArray,
    Column,
    PageContent,
    PhotoArray,
)
from captum_infomask.results import map_pictures
from captum_infomask.results.comparison_files import (
    write_arrays,
    write_csv,
    write_html,
    write_json,
)
from captum_infomask.results.comparison_page import (
    comparison_text,
    mask_head,
    notes,
    page_content,
    picture_content,
)
from captum_infomask.results.map_pictures import checked_place
from captum_infomask.results.method_outcome import MethodOutcome, Numbers


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What M methods said about N pictures, as :func:`compare` made it.

    ``print`` shows it as tables; a notebook shows it as the report that ``to_html`` writes.

    Attributes:
        pictures: (N, H, W, 3), uint8, what is shown as the pictures.
        targets: (N,), the classes asked about.
        labels: Their names.
        predictions: (N,), the network's own answers; for independent labels (head ``sigmoid``) the
            target where it is likelier than not, else the likeliest, −1 where none is.
        log_probabilities: (N,), log p(y | x) of the targets, in nats.
        classes: The number of the network's classes.
        log_priors: (N,), log p(y) of the targets, in nats; None where all classes are equally
            likely.
        outcomes: What each method gave.
        rule: Where masks were cut.
        metrics: Each metric's name, which end is better, and what it is.
        reference: The method that differences are taken to; empty where there is none.
        truth: (N, H, W), boolean, the pixels that are known to be right, if they are.
        agreement: How alike the methods' maps, and masks, are.
        troubles: Metrics that failed, and why, in sentences.
        settings: Pairs of a setting and its value, in words.
        seed: The seed of all that was drawn.
        versions: The versions of Python and the packages.
        call: Python code that makes the comparison again.

    Example:
        >>> import torch
        >>> from captum_infomask import compare
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        >>> found = compare(net, torch.rand(2, 3, 16, 16), target=[0, 1])
        >>> found["InfoMask"].planes.shape, found.information.shape
        ((2, 16, 16), (2,))
    """

    pictures: PhotoArray
    targets: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    predictions: npt.NDArray[np.int64]
    log_probabilities: Numbers
    classes: int
    outcomes: tuple[MethodOutcome, ...]
    log_priors: Numbers | None = None
    rule: Rule = field(default_factory=lambda: MaxFraction(0.2))
    metrics: tuple[Column, ...] = ()
    reference: str = ""
    truth: BoolArray | None = None
    agreement: tuple[Agreement, ...] = ()
    troubles: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    call: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The methods' names."""
        return tuple(outcome.name for outcome in self.outcomes)

    @property
    def probabilities(self) -> Numbers:
        """(N,), p(y | x) of the targets."""
        return np.exp(self.log_probabilities)

    @property
    def most_bits(self) -> float:
        """The most that a picture can say about one of M equally likely classes: log2 M."""
        return math.log2(self.classes)

    @property
    def bounds(self) -> Numbers:
        """(N,), the most that a picture can say about its target: −log2 p(y)."""
        if self.log_priors is None:
            return np.full(len(self.targets), self.most_bits)
        return -self.log_priors / math.log(2)

    @property
    def information(self) -> Numbers:
        """(N,), i(y; x) = log2 p(y | x) − log2 p(y), in bits: what the whole pictures say."""
        return self.log_probabilities / math.log(2) + self.bounds

    def __getitem__(self, name: str) -> MethodOutcome:
        """What the method of that name gave.

        Raises:
            ArgumentError: There is none of that name; the nearest is named.
        """
        return self.outcomes[self.names.index(one_of("name", name, self.names))]

    def __repr__(self) -> str:
        """What a prompt shows."""
        n = len(self.pictures)
        return f"Comparison({n} picture{'s' * (n != 1)} × {len(self.outcomes)} methods)"

    def __str__(self) -> str:
        """The tables."""
        return self.text()

    def text(self) -> str:
        """Targets, costs and metrics in plain text."""
        return comparison_text(self)

    def figure(self, k: int = 0) -> tuple[Figure, list[Axes]]:
        """Draw picture k, and for each method its overlay, its mask, and what the mask keeps.

        Args:
            k: Which picture.

        Returns:
            The figure, on an Agg canvas (no window, no pyplot state), and its panels.

        Raises:
            ArgumentError: There is no picture k.
        """
        place = checked_place(k, len(self.pictures))
        return methods_figure(picture_content(self, place), notes(self), mask_head(self.rule))

    def content(self) -> PageContent:
        """All that the report and the widget show, in plain arrays and words."""
        return page_content(self)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report: one self-contained file, which opens without a network.

        Raises:
            ArgumentError: ``path`` is no file in a folder that exists, or cannot be written.
        """
        write_html(self.content(), path)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write a line per method and picture: errors, costs, metrics.

        Raises:
            ArgumentError: As ``to_html``.
        """
        write_csv(self, path)

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write all numbers but the maps, with settings and versions; null is no number.

        Raises:
            ArgumentError: As ``to_html``.
        """
        write_json(self, path)

    def save_arrays(self, path: str | PathLike[str]) -> None:
        """Write pictures, maps and masks as plain NumPy arrays (``.npz``), which need no pickle.

        Raises:
            ArgumentError: As ``to_html``.
        """
        write_arrays(self, path)

    def widget(self) -> Any:
        """The report's viewer as a notebook widget, which the extra ``notebook`` brings.

        Raises:
            ArgumentError: The package anywidget is not installed.
        """
        return map_pictures.widget(self.content())

    def _repr_html_(self) -> str:
        """Static pictures, for a notebook without widgets."""
        return map_pictures.static(self.content())

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, where there are widgets."""
        return map_pictures.mimebundle(self.content, str(self))
