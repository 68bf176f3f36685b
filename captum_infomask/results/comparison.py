# Comparison holds the measured maps of several methods on the same pictures, and shows them.
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typing_extensions import Unpack

from captum_infomask._checks import named_like
from captum_infomask._keywords import told
from captum_infomask._messages import printable
from captum_infomask.masks import MaxFraction, Rule
from captum_infomask.report.figure import comparison_figure
from captum_infomask.report.figure_layout import Layout, Masks, Scale
from captum_infomask.report.page_content import (
    Agreement,
    BoolArray,
    Column,
    PageContent,
    PhotoArray,
    PictureContent,
)
from captum_infomask.report.payload import json_number
from captum_infomask.results import map_pictures
from captum_infomask.results.comparison_figures import (
    FigureSettings,
    check_settings,
    checked_places,
    chosen_outcomes,
    rule_words,
    write_figure,
)
from captum_infomask.results.comparison_files import (
    agreement_facts,
    load_comparison,
    method_facts,
    outcome_columns,
    reliability_facts,
    save_comparison,
    write_arrays,
    write_csv,
    write_json,
)
from captum_infomask.results.method_outcome import MethodOutcome, Numbers
from captum_infomask.results.outcome_tables import (
    costs_text,
    map_content,
    metrics_text,
    notes_on,
    remarks,
    slider_start,
    table_columns,
    table_rows,
)
from captum_infomask.results.region_table import frame
from captum_infomask.results.reliability_of_bits import BitsReliability, bits_check

_SHOWN = 8  # most pictures whose targets are listed in a terminal
_NAMED = 3  # most files that a heading names


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The maps of M methods on N pictures, as :func:`compare` made them.

    ``print`` shows tables. A notebook shows the report that ``to_html`` writes.

    Attributes:
        pictures: (N, H, W, 3), uint8, the pictures to show.
        targets: (N,), the classes asked about.
        labels: The names of the targets.
        predictions: (N,), the network's own answers. For independent labels (head ``sigmoid``), the
            target if it is likelier than not, else the likeliest such label; −1 if there is none.
        log_probabilities: (N,), log p(y | x) of the targets, in nats.
        classes: The number of the network's classes.
        log_priors: (N,), log p(y) of the targets, in nats; None if all classes are equally likely.
        outcomes: The outcome of each method.
        rule: The rule that cut the masks.
        metrics: Each metric's name, which end is better, and a description.
        reference: The method that all others are compared with; empty if there is none.
        truth: (N, H, W), boolean, the pixels that are known to be right; None if they are not
            known.
        agreement: How alike the methods' maps are, and their masks.
        troubles: Metrics that failed, and why, in sentences.
        settings: Pairs of a setting and its value, in words.
        seed: The seed of all random draws.
        versions: The versions of Python and the packages.
        call: Python code that makes the comparison again.
        date: The day on which it was made, as in 2026-11-28; empty if it is not known.
        sources: The names of the pictures' files, as many as pictures; none if they are not known.
        reliability: Whether the bits are true, by the pictures' labels: a result per InfoMask whose
            values count from the prior; none if no labels were given.

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
    date: str = ""
    sources: tuple[str, ...] = ()
    reliability: tuple[BitsReliability, ...] = ()

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
        """(N,), i(y; x) = log2 p(y | x) − log2 p(y), in bits: the whole pictures' information."""
        return self.log_probabilities / math.log(2) + self.bounds

    def __getitem__(self, name: str) -> MethodOutcome:
        """Return the outcome of the method of that name, whatever its case, hyphens and spaces.

        Raises:
            ArgumentError: There is none of that name; the error names the nearest.
        """
        return self.outcomes[self.names.index(named_like("name", name, self.names))]

    def __repr__(self) -> str:
        """Show the size, for prompts."""
        n = len(self.pictures)
        return f"Comparison({n} picture{'s' * (n != 1)} × {len(self.outcomes)} methods)"

    def __str__(self) -> str:
        """The tables."""
        return self.text()

    def text(self) -> str:
        """Targets, costs and metrics in plain text."""
        facts = [*self._targets(), *(f"{name}: {value}" for name, value in self.settings)]
        lines = [*map(printable, facts), "", costs_text(self.outcomes)]
        if self.metrics:
            lines += ["", metrics_text(self.outcomes, self.metrics, self.reference)]
        checked = [f"{one.name}: {one.verdict()}" for one in self.reliability]
        lines += ["", "Are the bits true?", *map(printable, checked)] if checked else []
        return "\n".join([*lines, *remarks(self.outcomes, self.troubles)])

    def _targets(self) -> list[str]:
        """Return a line per picture: its target, and the whole picture's information about it."""
        bound = f"log2 {self.classes}" if self.log_priors is None else "-log2 p(y)"
        lines = []
        for k, label in enumerate(self.labels[:_SHOWN]):
            predicted = self.targets[k] == self.predictions[k]
            kind = "its prediction" if predicted else "not its prediction"
            which = "Target" if len(self.labels) == 1 else f"Picture {k}"
            lines.append(
                f"{which}: {label} (class {self.targets[k]}, {kind}), "
                f"p(y | x) = {self.probabilities[k]:.3f}, "
                f"i(y; x) = {self.information[k]:.2f} bits of at most "
                f"{bound} = {self.bounds[k]:.2f} bits"
            )
        left = len(self.labels) - _SHOWN
        return [*lines, f"and {left} more pictures"] if left > 0 else lines

    def figure(
        self,
        k: int | Sequence[int] = 0,
        *,
        layout: Layout = "row",
        methods: str | Sequence[str] | None = None,
        masks: Masks | None = "contour",
        controls: bool = False,
        scale: Scale = "own",
        width: float | None = None,
    ) -> tuple[Figure, list[Axes]]:
        """Draw a picture, and beside it the map of each method over it, with its colour bar.

        Maps and masks are smoothed for the eye, as in :func:`show`. The masks are the comparison's
        own, cut by its rule.

        Args:
            k: The number of the picture, or several numbers: a row for each.
            layout: ``row`` fits a paper's page or a slide; more than six panels wrap. ``grid`` has
                two to four columns, so panels are larger.
            methods: The names of the methods to show, in this order. None shows all, and
                ``controls`` says whether those that see no network are among them.
            masks: ``contour`` outlines each mask and dims the rest. ``panel`` shows what each mask
                keeps in a second row. None shows no masks.
            controls: Whether controls are shown too.
            scale: ``own``: every map has the scale of its own values, and its colour bar says the
                limits. ``unit``: the maps of one unit share a scale. A map whose peak is below a
                fifth of it has stronger colours, and says so: "× 20".
            width: The figure's width in inches. None is 7, a page's text, or less if there are few
                panels. A paper's column is 3.3, and a slide 13. The height follows.

        Returns:
            The figure, on an Agg canvas (no window, no pyplot state), and its panels: per picture
            the photograph and the methods' maps, and then with ``panel`` what each mask keeps.

        Raises:
            ArgumentError: There is no picture k, no such method, or no such setting.
        """
        check_settings(layout, masks, controls, scale, width)
        shown = chosen_outcomes(self.outcomes, methods, controls=controls)
        return comparison_figure(
            [
                replace(self._picture(place), maps=tuple(map_content(one, place) for one in shown))
                for place in checked_places(k, len(self.pictures))
            ],
            layout=layout,
            masks=masks,
            scale=scale,
            width=width,
            rule=rule_words(self.rule),
        )

    def content(self) -> PageContent:
        """Return all that the report and the widget show, in plain arrays and words."""
        labels = list(dict.fromkeys(self.labels))
        threshold, note = slider_start(self.rule, [outcome.unit for outcome in self.outcomes])
        return PageContent(
            title=", ".join(labels[:3]) + (", …" if len(labels) > 3 else ""),
            pictures=tuple(self._picture(k) for k in range(len(self.pictures))),
            threshold=threshold,
            columns=table_columns(self.metrics, self.rule),
            rows=table_rows(self.outcomes, self.metrics, self.reference),
            reference=self.reference,
            agreement=self.agreement,
            notes=(*[note] * bool(note), *notes_on(self.names), *self.troubles),
            call=self.call,
            provenance=(
                *((name.lower(), value) for name, value in self.settings),
                ("masks", str(self.rule)),
                ("seed", str(self.seed)),
                *[("date", self.date)] * bool(self.date),
                *self.versions.items(),
            ),
            origin=self._origin(),
            reliability=bits_check(self.reliability, self.names),
        )

    def _origin(self) -> tuple[str, ...]:
        """Return the model's name, the pictures' files and the date, where they are known."""
        model = dict(self.settings).get("Model", "")
        files = [map_pictures.short_name(source) for source in self.sources]
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        named = ", ".join(files[:_NAMED])
        return tuple(filter(None, (model, f"{named}{more}", self.date)))

    def _picture(self, k: int) -> PictureContent:
        """Return picture k: the facts that hold for all methods, and every method's map."""
        predicted = self.targets[k] == self.predictions[k]
        whose = "the network's answer" if predicted else "not the network's answer"
        bound = f"log₂ {self.classes}" if self.log_priors is None else "−log₂ p(y)"
        return PictureContent(
            pixels=self.pictures[k],
            title=self.labels[k],
            facts=(
                (f"{self.probabilities[k]:.1%}", f"p(y | x), {whose}"),
                (f"{self.information[k]:.2f} bits", "i(y; x), what the whole picture says"),
                (f"{self.bounds[k]:.2f} bits", f"{bound}, the most it could say"),
            ),
            maps=tuple(map_content(outcome, k) for outcome in self.outcomes),
            truth=None if self.truth is None else self.truth[k],
            source=map_pictures.short_name(self.sources[k]) if self.sources else "",
        )

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report: one self-contained file, which opens offline.

        Raises:
            ArgumentError: ``path`` is not a file in a folder that exists, or cannot be written.
        """
        map_pictures.write_html(self.content(), path)

    @told(options_of=figure)
    def to_png(
        self,
        path: str | PathLike[str],
        k: int | Sequence[int] = 0,
        **settings: Unpack[FigureSettings],
    ) -> None:
        """Write the figure as a picture of 300 dots per inch; ``settings`` are :meth:`figure`'s.

        The same comparison gives the same bytes.

        Raises:
            ArgumentError: As ``to_html`` and ``figure``.
        """
        write_figure(self.figure(k, **settings)[0], path, "png")

    @told(options_of=figure)
    def to_pdf(
        self,
        path: str | PathLike[str],
        k: int | Sequence[int] = 0,
        **settings: Unpack[FigureSettings],
    ) -> None:
        """Write the figure for a paper: words stay words. See :meth:`to_png`."""
        write_figure(self.figure(k, **settings)[0], path, "pdf")

    @told(options_of=figure)
    def to_svg(
        self,
        path: str | PathLike[str],
        k: int | Sequence[int] = 0,
        **settings: Unpack[FigureSettings],
    ) -> None:
        """Write the figure for a page or a slide: words stay words. See :meth:`to_png`."""
        write_figure(self.figure(k, **settings)[0], path, "svg")

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write a line per method and picture: errors, costs, metrics.

        Raises:
            ArgumentError: As ``to_html``.
        """
        write_csv(self.targets.tolist(), self.labels, self.outcomes, self.metrics, path)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per picture and method: the columns of ``to_csv``.

        Raises:
            ModuleNotFoundError: pandas is not installed; the message has the command.
        """
        targets = self.targets.tolist()
        return frame(outcome_columns(targets, self.labels, self.outcomes, self.metrics))

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one safetensors file, exact to the bit.

        Raises:
            ArgumentError: As ``to_html``; or the rule is one of the user's own.
        """
        save_comparison(vars(self), path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Comparison:
        """Read a file that ``save`` wrote; its report is the same to the byte.

        Raises:
            ArgumentError: ``path`` is not a file that ``save`` wrote, or the file has changed
                since.
        """
        return cls(**load_comparison(path))

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write all numbers but the maps, with settings and versions; null stands for no number.

        Raises:
            ArgumentError: As ``to_html``.
        """
        facts = {
            "format": "captum_infomask.Comparison 1",
            "call": self.call,
            "seed": self.seed,
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "rule": str(self.rule),
            "classes": self.classes,
            "pictures": [
                {
                    "target": int(self.targets[k]),
                    "label": label,
                    "prediction": int(self.predictions[k]),
                    "probability": json_number(self.probabilities[k]),
                    "information_bits": json_number(self.information[k]),
                }
                for k, label in enumerate(self.labels)
            ],
            "metrics": [
                {"name": column.name, "better": column.better, "note": column.note}
                for column in self.metrics
            ],
            "reference": self.reference,
            "methods": [method_facts(outcome) for outcome in self.outcomes],
            "agreement": [agreement_facts(square) for square in self.agreement],
            "troubles": list(self.troubles),
        }
        if self.reliability:
            facts["reliability"] = [reliability_facts(one) for one in self.reliability]
        write_json(facts, path)

    def save_arrays(self, path: str | PathLike[str]) -> None:
        """Write pictures, maps and masks as plain NumPy arrays (``.npz``), which need no pickle.

        Raises:
            ArgumentError: As ``to_html``.
        """
        arrays = {
            "pictures": self.pictures,
            "targets": self.targets,
            "labels": np.array(self.labels),
            "information_bits": self.information,
        }
        if self.truth is not None:
            arrays["truth"] = self.truth
        write_arrays(arrays, self.outcomes, path)

    def widget(self) -> Any:
        """Return the report's viewer as a notebook widget; the extra ``notebook`` installs it.

        Raises:
            ArgumentError: The package anywidget is not installed.
        """
        return map_pictures.widget(self.content())

    def _repr_html_(self) -> str:
        """Return static pictures, for a notebook without widgets."""
        return map_pictures.static(self.content())

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, if the notebook has widgets."""
        return map_pictures.mimebundle(self.content, self._repr_html_, str(self))
