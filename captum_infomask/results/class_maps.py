# ClassMaps holds every region's information about several classes.
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from captum_infomask._captum import format_output
from captum_infomask._categories import numbered
from captum_infomask._checks import plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import methods_on_cpu
from captum_infomask.regions.sharpening import averaged
from captum_infomask.report.page_content import (
    ClassContent,
    MapContent,
    PageContent,
    PictureContent,
)
from captum_infomask.results import map_pictures
from captum_infomask.results.e_values import FROM_PRIOR
from captum_infomask.results.info_map import InfoMap
from captum_infomask.results.map_files import PER_IMAGE, PER_REGION
from captum_infomask.results.region_table import column_of, region_table
from captum_infomask.scores.score_settings import NATS_PER_UNIT

_SHOWN = 10  # most classes that a page lets readers choose from
_PER_CLASS = (*PER_REGION, *PER_IMAGE, "contrast")


@methods_on_cpu
@dataclass(frozen=True, eq=False, repr=False)
class ClassMaps:
    """Information of every region about K classes, from one set of forward passes.

    Attributes:
        classes: The classes of each image, long (N, K), on the CPU.
        scores: Information of each region about each class, (N, R, K), in ``unit``; NaN if an image
            does not have the region. With a contrast, the information about the contrast's class is
            subtracted.
        total: i(y; x) of the whole images about each class, (N, K), in ``unit``; with a contrast,
            the same difference.
        log_priors: log π of the classes, (N, K), in nats, if they are all the classes of a softmax;
            else None.
        categories: The names of all classes, or groups; empty if they are not known.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, grid
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
        >>> x = torch.rand(2, 1, 8, 8)
        >>> maps = InfoMask(model).score_classes(x, top_k=3, view="drop", regions=grid(x, 2, 2))
        >>> maps.scores.shape, maps.rank(0).attributions().shape, maps.class_map().shape
        (torch.Size([2, 4, 3]), torch.Size([2, 1, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    classes: Tensor
    stacked: InfoMap
    log_priors: Tensor | None = None
    categories: tuple[str, ...] = ()

    @property
    def scores(self) -> Tensor:
        """(N, R, K)."""
        return self.stacked.scores

    @property
    def total(self) -> Tensor:
        """(N, K)."""
        return self.stacked.total

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        return self.stacked.unit

    def __repr__(self) -> str:
        """Show the sizes and settings, for notebooks and prompts."""
        n, regions, count = self.scores.shape
        return (
            f"ClassMaps({n} image{'s' * (n != 1)} × {regions} regions × {count} classes, "
            f"view={self.stacked.view!r}, {self.unit})"
        )

    def rank(self, k: int) -> InfoMap:
        """Return column k of ``classes`` as an :class:`InfoMap`; for ``top_k``, the k-th likeliest.

        Raises:
            ArgumentError: There is no column k.
        """
        count, column = self.classes.shape[1], plain(k)
        if not isinstance(column, int) or isinstance(column, bool) or not 0 <= column < count:
            raise ArgumentError(f"Expected `k` from 0 to {count - 1}; got {short_repr(k)}.")
        parts: dict[str, Any] = {
            name: None if (part := getattr(self.stacked, name)) is None else part[..., column]
            for name in _PER_CLASS
        }
        found = dataclasses.replace(self.stacked, **parts)
        return found.about(self.classes[:, column], self.categories)

    def of_class(self, label: int | str) -> InfoMap:
        """Return one class as an :class:`InfoMap`; every image must have been asked for it.

        Args:
            label: The class's number, or its name if the categories are known.

        Raises:
            ArgumentError: Some image was not asked for the class.
        """
        number = numbered("label", label, self.categories, "InfoMask(model, categories=names)")
        found = torch.eq(self.classes, number).long()
        if not bool((found.sum(1) == 1).all()):
            raise ArgumentError(
                f"Expected `label` to be a class that every image was asked for; got "
                f"{short_repr(label)}."
            )
        column = found.argmax(1)
        rows = torch.arange(len(column))

        def pick(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            return part.movedim(-1, 1)[rows.to(part.device), column.to(part.device)]

        parts: dict[str, Any] = {name: pick(getattr(self.stacked, name)) for name in _PER_CLASS}
        one = dataclasses.replace(self.stacked, **parts)
        return one.about(self.classes[rows, column], self.categories)

    def likeliest(self) -> Tensor:
        """Return the likeliest class of each whole image, long (N,), on the CPU."""
        nats = self.total.double().cpu() * NATS_PER_UNIT[self.unit]
        likely = nats if self.log_priors is None else nats + self.log_priors
        return self.classes.gather(1, likely.argmax(1, keepdim=True))[:, 0]

    def bits_and_posteriors(self) -> tuple[Tensor, Tensor]:
        """Return i(y; v) in bits, and q(y | v), of each region and class: float64 (N, R, K).

        Scores must be those of all classes, from the prior; the blank's value is added again.
        """
        assert self.log_priors is not None, "as checked"
        nats = self.stacked.from_prior().detach().double().cpu() * NATS_PER_UNIT[self.unit]
        return nats / NATS_PER_UNIT["bits"], (nats + self.log_priors[:, None]).exp()

    def to_pandas(self) -> Any:
        """Return a table with a row per image, region and class; columns as of an InfoMap."""
        ranks = [self.rank(k) for k in range(self.classes.shape[1])]
        return region_table(self.stacked.regions, len(ranks[0]), list(map(column_of, ranks)))

    def content(
        self, picture: Any = None, k: int = 0, names: Sequence[str] | None = None
    ) -> PageContent:
        """Return image k's maps in plain arrays and words: a class to choose, and one against it.

        At most 10 classes can be chosen: those that the whole image says most about. Where regions
        that overlap combine by their mean, the map of "why A, not B?" is A's map minus B's: for
        i(y; v), that is log p(A | v)/p(B | v) − log π_A/π_B. For other ways there is no contrast.

        Args:
            picture: The picture under the maps: uint8 (H, W, 3) or Pillow's, of the input's size.
            k: The number of the image.
            names: The names of the network's classes. None takes the categories, or numbers.

        Raises:
            ArgumentError: The inputs were no pictures, ``picture`` has another size, there is no
                image k, or a class has no name.
        """
        place = map_pictures.checked_place(k, len(self.classes))
        order = self.total[place].argsort(descending=True).tolist()[:_SHOWN]
        labels = _class_names(
            names if names is not None else self.categories or None,
            self.classes[place, order].tolist(),
        )
        columns = [self.rank(column) for column in order]
        planes = [
            map_pictures.plane_of(one.attributions(), one.regions, one.unit, place)
            for one in columns
        ]
        regions = [
            map_pictures.region_scores(one.regions, one.scores, place, one.standard_errors)
            for one in columns
        ]
        plane, unit = planes[0]
        against = columns[0].contrast
        shown = MapContent(
            f"InfoMask {self.stacked.view}",
            unit,
            plane,
            "" if against is None else f"less what it says about class {int(against[place, 1])}",
            regions=regions[0],
            classes=tuple(
                ClassContent(
                    label,
                    float(one.total[place]),
                    own,
                    None if region is None else region.scores,
                    None if region is None else region.errors,
                )
                for label, one, (own, _), region in zip(
                    labels, columns, planes, regions, strict=True
                )
            ),
            contrasts=self.stacked.overlap == "mean",
        )
        pixels = None
        if picture is not None:
            pixels = map_pictures.checked_pictures("picture", [picture], 1, *plane.shape)[0]
        title = f"{shown.name} of {len(labels)} classes"
        if len(self.classes) > 1:
            title += f", image {place}"
        left = self.classes.shape[1] - len(order)
        note = f"{left} more classes, about which the picture says less, are not shown."
        return PageContent(
            title,
            (PictureContent(pixels, title, (), (shown,)),),
            threshold=("max_fraction", map_pictures.suited_rule(self.stacked.regions).fraction),
            notes=(note,) if left else (),
        )

    def widget(self, picture: Any = None, k: int = 0, names: Sequence[str] | None = None) -> Any:
        """Return image k's maps as a notebook widget; the extra ``notebook`` installs it.

        Raises:
            ArgumentError: As ``content``, or the package anywidget is not installed.
        """
        return map_pictures.widget(self.content(picture, k, names))

    def to_html(
        self,
        path: str | PathLike[str],
        picture: Any = None,
        k: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        """Write image k's maps as one self-contained file, which opens offline.

        Raises:
            ArgumentError: As ``content``, or ``path`` cannot be written.

        Example:
            >>> import os, tempfile, torch
            >>> from captum_infomask import InfoMask
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
            >>> maps = InfoMask(model).score_classes(torch.rand(1, 1, 8, 8), view="drop")
            >>> path = os.path.join(tempfile.mkdtemp(), "classes.html")
            >>> maps.to_html(path, names=["bird", "cat", "dog"])
            >>> os.path.getsize(path) < 3_000_000
            True
        """
        map_pictures.write_html(self.content(picture, k, names), path)

    def _repr_html_(self) -> str | None:
        """Return the first image's maps, if the inputs are pictures."""
        return self._still() if self._is_of_pictures() else None

    def _still(self) -> str:
        """Return the first image's maps as HTML without a script."""
        return map_pictures.static(self.content())

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, if the notebook has widgets."""
        if not self._is_of_pictures():
            return None
        return map_pictures.mimebundle(self.content, self._still, repr(self))

    def _is_of_pictures(self) -> bool:
        return [len(shape) for shape in self.stacked.regions.shapes] == [3]

    def class_map(self) -> Any:
        """Return the class that each element's regions say most about; −1 if none is above 0.

        Returns:
            Long tensors of the inputs' type and shapes.
        """
        painted = [self.rank(k).painted() for k in range(self.classes.shape[1])]
        maps = []
        for parts in zip(*painted, strict=True):
            stacked = torch.stack(parts, 1)
            if self.stacked.superpixels is not None:
                stacked = averaged(stacked, self.stacked.superpixels)
            values, best = stacked.max(1)
            classes = self.classes.to(best.device)
            names = classes.gather(1, best.flatten(1)).reshape(best.shape)
            maps.append(torch.where(values > 0, names, -1))
        return format_output(self.stacked.is_tuple, tuple(maps))

    def information_gain(self) -> InfoMap:
        r"""Return one map for all classes: how much each region tells about which class it is.

        If scores are i(y; v) of the region's view v (``crop``, ``features``, ``keep`` with
        ``reference="prior"``), the gain is the change that v makes in the belief about the class:

        .. math::

            \mathrm{KL}\bigl(p(\cdot \mid v) \,\|\, \pi\bigr)
                = \sum_y p(y \mid v) \log \frac{p(y \mid v)}{\pi_y} \ge 0.

        If scores are differences (``drop``, ``chain``, ``evidence``, and scores that are counted
        from the blank), the gain is their mean, weighted by the network's belief about the whole
        picture:

        .. math::

            \sum_y p(y \mid x) \, s_y(R).

        For ``drop`` that is :math:`\mathrm{KL}(p(\cdot \mid x) \,\|\, p(\cdot \mid x_{-R})) \ge 0`:
        the information that is lost without the region. For ``chain`` and ``evidence`` the sum over
        a partition is still the mean of i(y; x) − i(y; reference). A region that speaks against the
        whole picture's answer has less than 0.

        For a sampled network and for a random imputer, p is computed from the mean information and
        normalised.

        Returns:
            An InfoMap, in ``unit``, whose ``total`` is
            :math:`\mathrm{KL}(p(\cdot \mid x) \,\|\, \pi)`. Bounds, spreads and standard errors of
            differences are weighted as scores are. This gives bounds again, and at least the spread
            and the error. If scores are no differences, there are none of these. If ``mixture`` was
            asked for, regions that overlap combine by the mean instead, because no probability is
            left.

        Raises:
            ArgumentError: Classes are missing (``classes`` or ``top_k`` left some out), or they are
                not those of a softmax (head ``sigmoid`` or ``raw``).

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, grid
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
            >>> x = torch.rand(2, 1, 8, 8)
            >>> maps = InfoMask(model).score_classes(x, view="drop", regions=grid(x, 2, 2))
            >>> gain = maps.information_gain()
            >>> gain.scores.shape, bool((gain.scores >= -1e-6).all())
            (torch.Size([2, 4]), True)

        Source: after the class-independent information gain of Yi et al., arXiv 2009.11150, who
        compare a classifier's answers with and without each feature.
        """
        if self.log_priors is None:
            raise ArgumentError(
                f"Expected information about every class of a softmax (head 'logits', 'log_probs' "
                f"or 'probs'; score_classes without `classes` and `top_k`) for information_gain; "
                f"got {self!r} about some, or about labels that do not exclude each other."
            )
        stacked, nats = self.stacked, NATS_PER_UNIT[self.unit]
        log_prior = self.log_priors.to(self.total.device)

        def belief(information: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
            """Return p(y | ·), and its divergence from π in the unit."""
            log_p = (information.double() * nats + prior).log_softmax(-1)
            return log_p.exp(), (log_p.exp() * (log_p - prior)).sum(-1) / nats

        believed, total = belief(self.total, log_prior)
        parts: dict[str, Any] = dict.fromkeys(PER_REGION)
        if stacked.blank is None and stacked.view in FROM_PRIOR:
            parts["scores"] = belief(self.scores, log_prior[:, None])[1]
        else:
            for name in PER_REGION:
                part = getattr(stacked, name)
                if part is not None:
                    parts[name] = (believed[:, None] * part.double()).sum(-1)
            for name in ("explained", "residual"):
                part = getattr(stacked, name)
                if part is not None:
                    parts[name] = (believed * part.double()).sum(-1)
        parts = {
            name: None if part is None else part.to(self.total.dtype)
            for name, part in {**parts, "total": total}.items()
        }
        overlap = "mean" if stacked.overlap == "mixture" else stacked.overlap
        return dataclasses.replace(stacked, overlap=overlap, **parts)


def _class_names(names: Sequence[str] | None, labels: Sequence[int]) -> list[str]:
    """Return the names of classes; their numbers if there are no names."""
    if names is None:
        return [f"class {label}" for label in labels]
    wanted = f"Expected `names` to be a list of the classes' names, at least {max(labels) + 1}"
    if not isinstance(names, list | tuple):
        raise ArgumentError(f"{wanted}; got {short_repr(names)}.")
    if len(names) <= max(labels):
        raise ArgumentError(f"{wanted}; got {len(names)}.")
    return [str(names[label]) for label in labels]
