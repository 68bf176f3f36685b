# InfoMap holds every region's information about one class.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import Unpack

from captum_infomask._captum import format_output
from captum_infomask._checks import available_device, open_share, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_input, check_output_file, damaged, read, write
from captum_infomask._keywords import told, unknown_name
from captum_infomask._process import methods_on_cpu
from captum_infomask._types import TensorOrTensors, Tensors
from captum_infomask.masks import FalseDiscoveries, Rule, bounding_boxes, threshold_mask
from captum_infomask.masks.rules import Family
from captum_infomask.masks.volume_files import VoxelAxes, export_map
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import Scales
from captum_infomask.regions.sharpening import averaged
from captum_infomask.report.page_content import PageContent
from captum_infomask.results import e_values, map_pictures
from captum_infomask.results.drawing import Drawing, DrawingSettings
from captum_infomask.results.drawn_inputs import by_input, has_tables
from captum_infomask.results.map_files import FORMAT, PER_REGION, TENSORS, fields_of, state_of
from captum_infomask.results.region_table import chosen_rows, column_of, region_table
from captum_infomask.results.shown_info_map import drawn_map, in_words, map_content
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT

# The names that users of other packages write, and the advice on what to write here.
_NUMBERS = "scores holds the regions' numbers, (N, R); attributions() gives the pixels'."
_HABITS = {
    **dict.fromkeys(("values", "shap_values", "data", "numpy", "shape", "attribution"), _NUMBERS),
    **dict.fromkeys(("plot", "show", "visualize"), "figure(picture) draws the map of an image."),
    **dict.fromkeys(("to_nifti", "save_nifti"), "export('bits.nii.gz') writes a volume's map."),
    "base_values": "blank holds the values that scores are counted from, if there are any.",
}


@methods_on_cpu
@dataclass(frozen=True, eq=False, repr=False)
class InfoMap:
    """Information of every region, before it is spread over pixels.

    Attributes:
        regions: The R regions.
        scores: Information of each region about the target, (N, R), in ``unit``; NaN if an image
            does not have the region.
        total: i(y; x) of the whole images, (N,), in ``unit``.
        blank: i(y; all-imputed view) that each score is counted from, (N, R); None if scores are
            not counted from it.
        unit: ``bits`` or ``nats``.
        view: ``crop``, ``keep``, ``drop``, ``chain``, ``features``, ``evidence`` or ``relay``.
        overlap: How regions that overlap combine: ``mean``, ``mixture`` or ``max``.
        engine: The engine that ran. If another one stood aside, the reason too.
        is_tuple: Whether the inputs were a tuple; the attributions then are one too.
        n_samples: Samples of a stochastic network, draws of a random imputer or of crops, or orders
            of ``chain``; None for a single pass.
        lower: For a sampled network, a lower bound of each score (paper Eq. 25), (N, R), else None.
            It is loose if samples of logits differ by a shift that softmax does not see.
        upper: For a sampled network, an upper bound of each score, (N, R), else None.
        spread: For a random imputer, and for crops at random, the standard deviation of each score
            over single draws, (N, R), NaN for a single draw. None if nothing is drawn.
        standard_errors: The standard error of each score, (N, R), if it is a mean over random
            orders (``chain``), draws of an imputer or of crops, or samples of a stochastic network;
            see :meth:`interval`. It is 0 if ``chain`` took all orders, and NaN for a single pair of
            orders, draw or sample. None if nothing is random.
        views: Pictures that the network was shown, whole or in part, for all N images; None if they
            were not counted.
        explained: For ``evidence`` and ``relay``, the information that is shared out among the
            cells, (N,), in ``unit``: i(y; x) − i(y; reference), the mean over sizes and layers;
            else None.
        residual: For ``evidence`` and ``relay``, ``explained`` minus the map's sum, (N,), in
            ``unit``; else None.
        contrast: The target y and the class y′ that it is compared with, long (N, 2). Scores and
            total are then those of y minus those of y′, and a sampled network has no bounds. None
            if scores are those of the target alone.
        superpixels: Numbers of the superpixels of each scale, from 0, int32 (N or 1, S, H, W).
            Attributions are averaged over them. None if they are not averaged.
        targets: The target of each image, a class or a group, long (N,); None if the network has
            one output, or if the map is about no single class.
        labels: The targets' names, if the categories are known; else None.
        probability: p(y | x) of the targets, (N,); for a sampled network the geometric mean over
            its samples. None with a contrast, for the head ``raw``, and if there is no target.
        score: How outputs were read; None in files of versions that did not keep it.
        value: For a head of values, the value of each image that the information is about, (N,),
            float64; else None.
        is_prediction: Whether ``value`` is what the network predicts for the whole image.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, grid
        >>> x = torch.rand(1, 1, 8, 8)
        >>> infomask = InfoMask(lambda x: x.flatten(2).mean(2) * torch.tensor([1.0, -1.0]))
        >>> infomap = infomask.score_regions(x, target=0, regions=grid(x, 2, 2))
        >>> infomap.scores.shape, infomap.total.shape, infomap.attributions().shape
        (torch.Size([1, 4]), torch.Size([1]), torch.Size([1, 1, 8, 8]))
    """

    regions: Regions
    scores: Tensor
    total: Tensor
    blank: Tensor | None
    unit: str
    view: str
    overlap: str
    engine: str
    is_tuple: bool = False
    n_samples: int | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None
    spread: Tensor | None = None
    standard_errors: Tensor | None = None
    views: int | None = None
    explained: Tensor | None = None
    residual: Tensor | None = None
    contrast: Tensor | None = None
    superpixels: Tensor | None = None
    targets: Tensor | None = None
    labels: tuple[str, ...] | None = None
    probability: Tensor | None = None
    score: Score | None = None
    value: Tensor | None = None
    is_prediction: bool = False

    def __repr__(self) -> str:
        """Show sizes and settings, not tensors, for notebooks and prompts."""
        return in_words(self)

    def attributions(self) -> Any:
        """Spread the scores over the elements: the result has the type and shapes of the inputs.

        If there are ``superpixels``, the attributions are averaged over them.
        """
        painted = self.painted()
        if self.superpixels is not None:
            painted = tuple(averaged(part, self.superpixels) for part in painted)
        return format_output(self.is_tuple, painted)

    def painted(self) -> Tensors:
        """Spread the scores over the elements of each input, before they are sharpened."""
        scale = NATS_PER_UNIT[self.unit]
        if self.view == "drop" and self.overlap == "mixture":
            # Probabilities mix in the view that is shown, i(y; x without R), which enters with a
            # minus.
            return tuple(-part for part in self.regions.paint(-self.scores, "mixture", scale))
        return self.regions.paint(self.scores, self.overlap, scale)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        r"""Return the interval for the scores of infinitely many orders, draws or samples.

        .. math::

            \text{score} \pm t_{n-1} \cdot \text{standard error},

        with Student's t for n independent parts of the mean: pairs of orders for ``chain``, and
        ``n_samples`` for a random imputer, for crops at random and for a stochastic network.

        The interval covers the error of taking so few of them, and nothing else. It does not say
        whether the network's probabilities are right, or whether the imputer is. It is about each
        score alone: the errors of several regions depend on each other. For draws it is correct to
        first order. It is too narrow if few draws hold most of the mean posterior; more draws help.
        Imputers that take each picture of a list once (:class:`MarginalPatches`,
        :class:`ConditionalPatches`) have a smaller error than the interval says. A contrast of a
        sampled network has at most the error that is given for ``drop``.

        Args:
            level: The share of such intervals that cover that score, between 0 and 1.

        Returns:
            Lower and upper ends, (N, R) each, in ``unit``; NaN if the standard error is.

        Raises:
            ArgumentError: ``level`` is not between 0 and 1, or nothing in the scores is random.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, grid
            >>> x = torch.rand(1, 1, 8, 8)
            >>> infomask = InfoMask(lambda x: x.flatten(2).prod(2) * torch.tensor([1.0, -1.0]))
            >>> infomap = infomask.score_regions(
            ...     x, target=0, view="chain", n_samples=8, regions=grid(x, 3, 3))
            >>> low, high = infomap.interval()
            >>> bool((low <= high).all())
            True
        """
        from scipy.special import stdtrit

        level = open_share("level", level)
        if self.standard_errors is None or self.n_samples is None:
            raise ArgumentError(
                f"Expected an InfoMap whose scores are means over something random: orders "
                f"(view='chain'), draws of a random imputer, crops at random (crop_jitter=), or "
                f"samples of a stochastic network (n_samples=); got view={self.view!r} without "
                f"any of these."
            )
        errors = self.standard_errors
        parts = self.n_samples // 2 if self.view == "chain" else self.n_samples
        t = float(stdtrit(parts - 1, (1 + level) / 2))
        width = torch.where(errors > 0, t * errors, errors)
        return self.scores - width, self.scores + width

    def e_values(self) -> Tensor:
        r"""Return the e-value of each region: evidence that it tells something about the target.

        .. math::

            e_R = 2^{i(y; v_R)} = q(y \mid v_R) / \pi_y.

        If the label y is drawn from π and does not depend on what was shown of the region, the mean
        of e is :math:`\sum_y \pi_y\, q(y \mid v) / \pi_y = 1`, whatever the network. So large
        values are rare: :math:`P(e \ge 1/\alpha) \le \alpha`. The target must be the picture's
        label, or the network's own answer with the prior of its answers
        (docs/bits_as_evidence.md). For a head of values, the same holds for the true ``value``, if
        values have the density of the prior. Scores of ``keep`` that count from the blank get the
        blank's value added again.

        Returns:
            (N, R), at most 1/π_y (values have no such limit); NaN if an image does not have the
            region.

        Raises:
            ArgumentError: The scores are differences (``drop``, ``chain``, ``evidence``, ``relay``,
                a contrast), or those of the heads ``raw`` and ``sigmoid``; or they are about values
                that the network predicts.

        Warns:
            UserWarning: No prior was given, so it is not known to be that of the labels.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, grid
            >>> x = torch.rand(1, 1, 8, 8)
            >>> infomask = InfoMask(lambda x: 9 * x.flatten(1)[:, :4], prior="balanced")
            >>> infomap = infomask.score_regions(x, target=0, view="crop", regions=grid(x, 2, 2))
            >>> bool((infomap.e_values().log2() - infomap.scores).abs().max() < 1e-5)
            True

        Source: Vovk & Wang, Annals of Statistics 49(3), 2021, arXiv 1912.06116; Shafer, JRSS A
        184(2), 2021 (betting scores).
        """
        return self.log2_e_values().exp2()

    def p_values(self) -> Tensor:
        """Return min(1, 1/e) for the e-value of each region, (N, R): a p-value, by Markov.

        Raises:
            ArgumentError: As :meth:`e_values`.
        """
        return (-self.log2_e_values()).exp2().clamp_max(1)

    def discoveries(
        self, rate: float = 0.1, *, closed: bool = False, family: Family = "image"
    ) -> Tensor:
        """Return the regions that tell something about the target; the share of false ones is low.

        Args:
            rate: The false discovery rate, above 0 and below 1: the expected share of the regions
                found that say nothing about the target.
            closed: Use closed e-BH, which finds at least as much as e-BH at the same rate.
            family: ``image`` for a rate per image, ``batch`` for one rate over all images.

        Returns:
            Bool, (N, R). The rate holds for regions that overlap or depend on each other too.

        Raises:
            ArgumentError: As :meth:`e_values`, or an argument is wrong.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, grid
            >>> x = torch.block_diag(torch.ones(4, 4), torch.zeros(4, 4))[None, None]
            >>> def network(x):
            ...     return 20 * x.mean((1, 2, 3))[:, None] * torch.eye(50)[7]
            >>> infomask = InfoMask(network, prior="balanced")
            >>> infomap = infomask.score_regions(x, target=7, view="crop", regions=grid(x, 2, 2))
            >>> infomap.discoveries(rate=0.1)
            tensor([[ True, False, False, False]])

        Source: :func:`captum_infomask.scores.discoveries.e_bh`.
        """
        rule = FalseDiscoveries(rate, closed, family)
        log2_e = self.log2_e_values()
        e_values.doubt_rate(rule, self._most())
        return e_values.found_by(rule, log2_e)

    def log2_e_values(self) -> Tensor:
        """Return i(y; v) of each region in bits, checked; ``keep`` gets the blank's value again."""
        e_values.check_bets(self.view, self.score, self.contrast, self.bet_on)
        e_values.doubt_prior(self.score)
        return self.from_prior() * (NATS_PER_UNIT[self.unit] / NATS_PER_UNIT["bits"])

    @property
    def bet_on(self) -> Tensor | None:
        """What scores can be bets on: targets, or values that the network did not choose."""
        if self.value is None:
            return self.targets
        return None if self.is_prediction else self.value

    def from_prior(self) -> Tensor:
        """Return i(y; v) of each region, (N, R): scores, with the blank's value added again."""
        return self.scores if self.blank is None else self.scores + self.blank

    def _own(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return those of some tensors that exist, by name."""
        return {name: own for name in names if (own := getattr(self, name)) is not None}

    if not TYPE_CHECKING:  # else type checkers would believe in every name

        def __getattr__(self, name: str) -> Any:
            """Say what to write for a name that other packages use."""
            raise unknown_name(self, name, _HABITS)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: the numbers of regions and those of pixels are two arrays."""
        raise TypeError(f"An InfoMap is no array. {_NUMBERS}")

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.scores)

    def __getitem__(self, images: int | slice) -> InfoMap:
        """Return the InfoMap of one image, or of a slice of the images.

        It has the same R regions. ``views`` is None, since it counts those of all images.

        Raises:
            IndexError: There is no such image.
        """
        rows = chosen_rows(images, len(self))
        parts: dict[str, Any] = {
            name: own if name == "superpixels" and len(own) == 1 else own[rows.to(own.device)]
            for name, own in self._own(TENSORS).items()
        }
        labels = None if self.labels is None else tuple(self.labels[k] for k in rows.tolist())
        regions = self.regions.of_images(rows)
        return replace(self, regions=regions, views=None, labels=labels, **parts)

    def __iter__(self) -> Iterator[InfoMap]:
        """Iterate over the images."""
        return (self[k] for k in range(len(self)))

    def to(self, device: str | torch.device) -> InfoMap:
        """Return a copy with its numbers on a device; regions stay on theirs.

        Raises:
            ArgumentError: PyTorch has no such device here.
        """
        place = available_device("device", device)
        parts: dict[str, Any] = {name: own.to(place) for name, own in self._own(TENSORS).items()}
        return replace(self, **parts)

    def cpu(self) -> InfoMap:
        """Return a copy with its numbers on the CPU; regions stay on their device."""
        return self.to("cpu")

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per image and region that the image has.

        Columns: ``picture``, ``region``, ``scale`` if there are several (attributions are their
        mean), the box ``x0``, ``y0``, ``x1``, ``y1`` around its pixels (half-open; ``t0``, ``t1``
        of signals, ``x0``, ``y0``, ``z0``, ``x1``, ``y1``, ``z1`` of volumes; NA if the inputs have
        no places), ``class``, ``label`` if the categories are known, ``contrast`` if there is one,
        the score in a column named by the unit, and those of ``blank``, ``lower``, ``upper``,
        ``spread`` and ``standard_error`` that there are. For a head of values, ``output`` (the
        target's column, if it was given) and ``value`` take the place of ``class``. For several
        inputs, ``input`` is the number of the input in which the region lies (−1 for several), and
        ``place`` says where.
        """
        return region_table(self.regions, len(self), [column_of(self)])

    def about(self, targets: Tensor, categories: Sequence[str] | None) -> InfoMap:
        """Return a copy that knows its targets, long (N,), and their names if these are known."""
        labels = tuple(categories[k] for k in targets.tolist()) if categories else None
        return replace(self, targets=targets, labels=labels)

    def by_input(self) -> Tensor:
        """Return the bits of each of several inputs, (N, K): the sums of its regions' scores.

        They are those of ``chain``, so all inputs add up to i(y; x) − i(y; all imputed).

        Raises:
            ArgumentError: The view is not ``chain``, or a region lies in several inputs.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask
            >>> inputs = torch.rand(2, 1, 4, 4), torch.rand(2, 3)
            >>> infomask = InfoMask(lambda x, t: torch.stack([x.sum((1, 2, 3)), t.sum(1)], 1))
            >>> infomap = infomask.score_regions(inputs, target=0, view="chain")
            >>> infomap.by_input().shape
            torch.Size([2, 2])
        """
        return by_input(self)

    def scales(self) -> tuple[InfoMap, ...]:
        """Return one InfoMap per scale if there are several; else this one alone."""
        if not isinstance(self.regions, Scales):
            return (self,)
        split = {
            name: own.split(self.regions.counts, dim=1)
            for name, own in self._own(PER_REGION).items()
        }
        return tuple(
            replace(self, regions=part, **{name: values[k] for name, values in split.items()})
            for k, part in enumerate(self.regions.parts)
        )

    def mask(
        self,
        rule: Rule | float | None = None,
        *,
        smooth: int = 0,
        min_area: float = 0,
        invert: bool = False,
    ) -> Any:
        """Return ``threshold_mask`` of the attributions.

        Without a rule it keeps the elements that reach 20% of the maximum, as in the paper. For a
        density over the cells of feature maps it keeps those that reach half of the maximum.
        ``FalseDiscoveries`` keeps the regions that :meth:`discoveries` finds.
        """
        if isinstance(rule, FalseDiscoveries):
            masks = self._mask_of_discoveries(rule, smooth=smooth, min_area=min_area)
            return format_output(self.is_tuple, tuple(mask ^ invert for mask in masks))
        attributions: TensorOrTensors = self.attributions()
        rule = map_pictures.suited_rule(self.regions) if rule is None else rule
        return threshold_mask(attributions, rule, smooth=smooth, min_area=min_area, invert=invert)

    def _mask_of_discoveries(
        self, rule: FalseDiscoveries, *, smooth: int, min_area: float
    ) -> Tensors:
        log2_e = self.log2_e_values()
        painted = e_values.discovered(log2_e, e_values.found_by(rule, log2_e), self.regions)
        return e_values.discovered_mask(
            painted, log2_e, self._most(), rule, smooth=smooth, min_area=min_area
        )

    def _most(self) -> Tensor | None:
        """Return 1/π of each image's target, the largest possible e-value, if it is known."""
        if self.probability is None:
            return None
        return (self.total.double() * NATS_PER_UNIT[self.unit]).exp() / self.probability

    def boxes(
        self,
        rule: Rule | float | None = None,
        *,
        smooth: int = 0,
        min_area: float = 0,
        keep: Literal["largest", "all"] = "largest",
    ) -> list[Tensor]:
        """Return ``bounding_boxes`` of the mask."""
        masks = self.mask(rule, smooth=smooth, min_area=min_area)
        if isinstance(masks, tuple) and len(masks) > 1:
            raise ArgumentError(
                f"Expected an InfoMap of one input for boxes; got one of {len(masks)}. "
                f"bounding_boxes(infomap.mask(rule)[0]) are those of the first."
            )
        return bounding_boxes(masks[0] if isinstance(masks, tuple) else masks, keep=keep)

    @told(options_of=Drawing)
    def figure(
        self,
        picture: Any = None,
        k: int = 0,
        *,
        features: Sequence[str] | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> tuple[Figure, Axes]:
        """Draw image k's map over its picture, as :func:`show` does.

        The title says the class and its p(y | x), the bits of the whole picture, and the sum of a
        map that adds up.

        Args:
            picture: As for :func:`show`; None draws the map alone.
            k: The number of the image.
            features: For a picture and tables (F,) as inputs: the names of the tables' columns.
                Bars beside the picture show them, the largest twelve, with one colour scale.
            **settings: ``ax``, ``cmap``, ``alpha``, ``smooth``, ``contour``, ``title`` and ``at``,
                as for :func:`show`. ``contour`` may be ``FalseDiscoveries`` too.

        Returns:
            The figure, on an Agg canvas (no window, no pyplot state), and the map's axes.

        Raises:
            ArgumentError: The inputs were no pictures, signals or volumes, or there is no image k;
                and as :func:`show`.
        """
        return drawn_map(self, Drawing(**settings), picture, k, features)

    def content(self, picture: Any = None, k: int = 0) -> PageContent:
        """Return image k's map in plain arrays and words; the arguments are those of ``figure``."""
        return map_content(self, picture, k)

    def widget(self, picture: Any = None, k: int = 0) -> Any:
        """Return image k's map as a notebook widget; the extra ``notebook`` installs it.

        Raises:
            ArgumentError: As ``figure``, or the package anywidget is not installed.
        """
        return map_pictures.widget(self.content(picture, k))

    def to_html(self, path: str | PathLike[str], picture: Any = None, k: int = 0) -> None:
        """Write image k's map as one self-contained file, which opens offline.

        A volume has a slider through its slices.

        Raises:
            ArgumentError: As ``figure``; the map is one of a signal; or ``path`` cannot be written.

        Example:
            >>> import os, tempfile, torch
            >>> from captum_infomask import InfoMask
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(512, 2))
            >>> volume = torch.rand(1, 1, 8, 8, 8)
            >>> infomap = InfoMask(model).score_regions(volume, target=1, view="drop")
            >>> path = os.path.join(tempfile.mkdtemp(), "volume.html")
            >>> infomap.to_html(path, volume)
            >>> os.path.getsize(path) < 1_000_000
            True
        """
        map_pictures.write_html(self.content(picture, k), path)

    def _repr_html_(self) -> str | None:
        """Return the first image's map and its colour bar, if the inputs have a figure."""
        has_figure = self._kind() is not None or has_tables(self.regions.shapes)
        return self._still() if has_figure else None

    def _still(self) -> str:
        """Return the first image's map as HTML without a script."""
        return map_pictures.png_html(self.figure()[0], repr(self))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, if the notebook has widgets."""
        if self._kind() in (None, "signal"):
            return None
        return map_pictures.mimebundle(self.content, self._still, repr(self))

    def _kind(self) -> map_pictures.Kind | None:
        """What there is a map of to see: one input with a figure, and one class."""
        shapes = self.regions.shapes
        is_one = len(shapes) == 1 and self.scores.dim() == 2
        return map_pictures.kind_of(shapes[0]) if is_one else None

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one safetensors file, exact to the bit.

        Raises:
            ArgumentError: The file cannot be written, or its ending is one of :meth:`export`'s.
        """
        if str(path).lower().endswith((".nii", ".nii.gz", ".npy", ".png")):
            raise ArgumentError(
                f"Expected `path` to be a safetensors file's; got {short_repr(str(path))}. "
                f"export(path) writes the map for other programs."
            )
        write("path", check_output_file("path", path), FORMAT, *state_of(self))

    def export(
        self,
        path: str | PathLike[str],
        k: int = 0,
        *,
        affine: Any = None,
        like: Any = None,
        axes: VoxelAxes = "zyx",
    ) -> None:
        """Write image k's attributions for other programs, in the form of the file's ending.

        ``.nii`` and ``.nii.gz`` are for volumes, and the other arguments are
        :func:`~captum_infomask.masks.volume_files.save_nifti`'s. ``.png`` is for pictures, with
        16-bit grey levels that keep the unit. ``.npy`` holds the array of any input, (C, ...).

        Raises:
            ArgumentError: The ending is another one, there is no image k, or the inputs were not
                of that kind; and as :func:`~captum_infomask.masks.volume_files.save_nifti`.
            ModuleNotFoundError: The file is NIfTI, and nibabel is not installed.

        Example:
            >>> import tempfile, torch
            >>> from pathlib import Path
            >>> from captum_infomask import InfoMask, grid
            >>> x = torch.rand(1, 1, 8, 8, 8)
            >>> infomask = InfoMask(lambda x: 9 * x.flatten(1)[:, :2])
            >>> infomap = infomask.score_regions(x, target=0, view="drop", regions=grid(x, 2, 2, 2))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     infomap.export(Path(folder, "bits.nii.gz"))
        """
        attributions = self.attributions()
        if self.is_tuple and len(attributions) == 1:
            (attributions,) = attributions
        place = map_pictures.checked_place(k, len(self.scores))
        if not isinstance(attributions, Tensor):
            raise ArgumentError(
                f"Expected an InfoMap of one input to export; got one of {len(attributions)}."
            )
        export_map(
            attributions[place : place + 1], path, self.unit, affine=affine, like=like, axes=axes
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> InfoMap:
        """Read a file that ``save`` wrote; tensors are on the CPU.

        Raises:
            ArgumentError: ``path`` is not a file that ``save`` wrote, or the file has changed
                since.
        """
        file = check_input("path", path)
        tensors, settings = read("path", file, FORMAT)
        try:
            return cls(**fields_of(tensors, settings))
        except ValueError as error:
            raise damaged("path", file, FORMAT, str(error)) from error
