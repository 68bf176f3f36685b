# InfoMask: what users call. Score the view of a region, imputed, run by an engine.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from captum_infomask._captum import PerturbationAttribution, logged
from captum_infomask._checks import check_callable
from captum_infomask._keywords import told
from captum_infomask._types import AdditionalForwardArgs, Baselines, Target, TensorOrTensors
from captum_infomask.attribution.call import check_order
from captum_infomask.attribution.options import (
    HABITS,
    HABITS_OF_CLASSES,
    HABITS_OF_RULES,
    ScoreOptions,
)
from captum_infomask.attribution.questions import AboutClasses, AboutTarget, Asking
from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.engines.untouched import modes_kept
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.masks import Rule, check_no_rule, check_rule
from captum_infomask.masks.mask_planes import check_clean_up
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.sharpening import Sharpen
from captum_infomask.results import ClassMaps, InfoMap
from captum_infomask.scores.contrast import Contrast
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.views.choose_view import CropSizes, Reference, ViewName
from captum_infomask.views.evidence import InputSizes, Layers

if TYPE_CHECKING:
    from typing_extensions import Unpack

SameAsGiven = TypeVar("SameAsGiven", Tensor, tuple[Tensor, ...])


class InfoMask(PerturbationAttribution):  # type: ignore[misc]
    r"""Attribution in bits: the information that each region of an input holds about a class.

    A network trained by softmax cross-entropy estimates mutual information: its logits are the
    critic of the Donsker–Varadhan bound. For any view v of an image it therefore gives

    .. math::

        i(y; v) = \log p_\theta(y \mid v) - \log \pi_y,

    and a region is scored by what its view tells about the target class (see :meth:`attribute` for
    the views). Values are at most :math:`-\log_2 \pi_y` bits: :math:`\log_2 M` for M equally
    likely classes.

    Args:
        forward_func: The model, or any function that returns its output, (N, M, ...) with the
            classes in dimension 1.
        score: How the output is read. A network that ends in a sigmoid is wrapped:
            ``lambda x: torch.logit(model(x), eps=1e-6)``, with the head ``sigmoid``. With groups
            ``target``, ``contrast``, ``classes`` and ``top_k`` count groups.
        **settings: The settings of :class:`Score` by name, instead of ``score``: ``head``,
            ``prior``, ``trained_with``, ``temperature``, ``unit``, ``groups``.

    Raises:
        ArgumentError: A setting is out of range; it is a ValueError and an AssertionError.
        TypeError: An argument is unknown; the message says what was probably meant.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> images = torch.rand(2, 3, 32, 32)
        >>> InfoMask(model).attribute(images, target=1).shape
        torch.Size([2, 3, 32, 32])

    Source: Qin & Kim, "Softmax Is Not an Artificial Trick", arXiv 1910.02629, Eq. 23 and Sec. 5.
    """

    @told(HABITS, options_of=Score)
    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        score: Score | None = None,
        **settings: Unpack[ScoreSettings],
    ) -> None:
        check_callable("forward_func", forward_func)
        super().__init__(forward_func)
        self.score = score_from(score, settings)

    def __repr__(self) -> str:
        """What a notebook or prompt shows: the model's name, and the settings."""
        model = self.forward_func
        name = getattr(model, "__name__", type(model).__name__)
        return f"InfoMask({name}, {self.score.words()})"

    @property
    def multiplies_by_inputs(self) -> bool:
        """Always False: information is not a share of the input's value."""
        return False

    @logged
    @modes_kept()
    @torch.no_grad()
    @told(HABITS)
    def attribute(
        self,
        inputs: SameAsGiven,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: AdditionalForwardArgs = None,
        feature_mask: TensorOrTensors | None = None,
        *,
        view: ViewName | None = None,
        contrast: Contrast = None,
        sliding_window_shapes: tuple[Any, ...] | None = None,
        strides: int | tuple[Any, ...] | None = None,
        regions: Regions | list[Regions] | None = None,
        imputer: Imputer | None = None,
        crop_size: CropSizes = None,
        crop_margin: float = 0.0,
        reference: Reference | None = None,
        overlap: str = "mean",
        sharpen: Sharpen | None = None,
        engine: EngineName | Engine = "auto",
        n_samples: int | None = None,
        seed: int = 0,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        args_per_example: bool | Sequence[bool] | None = None,
        layer: Layers = None,
        input_sizes: InputSizes = None,
    ) -> SameAsGiven:
        r"""Information that each element's region holds about the target, in the unit.

        ============ ============================== ==============================================
        view         shown to the network           value of region R
        ============ ============================== ==============================================
        ``crop``     the region, cut out, resized   i(y; x_R)
        ``keep``     the region, all else imputed   i(y; x_R in place) − i(y; all imputed)
        ``drop``     the image, the region imputed  i(y; x) − i(y; x without R)
        ``chain``    regions added, random orders   mean of i(y; x_R given those before it)
        ``features`` the region's features, f_R     i(y; f_R)
        ``evidence`` the image                      what R's features add, from none to all of them
        ``relay``    the image, and the reference   what R adds, passed back step by step
        ============ ============================== ==============================================

        ``evidence`` shares i(y; x) − i(y; reference) out among the cells of a feature map,

        .. math::

            \varphi_c = \int_0^1 \frac{\partial\, i(y; f_0 + t (f - f_0))}{\partial f_c}
                \cdot (f_c - f_{0,c})\, dt,

        the chain rule of information in infinitely many small random steps. Without regions its
        attributions are a density: over height and width they sum to ``InfoMap.explained``, in the
        unit. With regions a region's value is the density's integral over it; a partition's values
        sum to the same (docs/evidence.md).

        ``relay`` is complete in the same way, and finer: from the output back to the first layers,
        each step of the network passes back what it made by its own such integral, along the
        straight path of what it read from the all-imputed picture to the picture.

        ``features`` takes one forward pass of the image: f_R is the mean of the last feature map
        over the region, for networks that end in a global average pooling (docs/features.md).

        With ``contrast``, a class y′, every i(y; ·) above is i(y; ·) − i(y′; ·): what speaks for
        the target rather than y′, log p(y | v)/p(y′ | v) − log π_y/π_y′.

        Args:
            inputs: A tensor (N, ...) or a tuple of them; images are (N, C, H, W), floating-point.
            baselines: What hidden elements become, in Captum's forms: a number, a tensor of the
                input's shape, with or without the batch's dimension, in which any size may be 1; a
                tuple with one per input; 0 if None.
                For all views but ``crop`` and ``features``. For ``evidence`` the picture at whose
                features its path starts. If None the path starts at zero features, or, where a
                normalisation that follows hides their scale, at those of the picture of zeros. For
                ``relay`` the reference picture, of zeros if None.
            target: The class, in any form that Captum accepts. A place of a map of classes, as
                (class, row, column), is for the views that leave the picture in place: all but
                ``crop``.
            additional_forward_args: Further arguments of the forward function. Tensors with one
                entry per example follow their example (``args_per_example``); all else is passed
                as it is.
            feature_mask: Regions as an integer label per element, in Captum's form.
            view: ``crop``, ``keep``, ``drop``, ``chain``, ``features``, ``evidence`` or ``relay``.
                None takes ``relay``, over superpixels of pictures for which no regions are given;
                ``drop`` for several inputs or inputs (N, F), where the network's features cannot
                be had, which a warning says, and where ``imputer``, ``engine``, ``n_samples`` or
                ``overlap`` is given; ``crop`` where ``crop_size``, ``crop_margin`` or ``reference``
                is. ``InfoMap.view`` says which one it was.
            contrast: A class that the target is told from, a list or 1-D tensor with one per
                example, or ``runner_up``: the likeliest class of the whole picture (by p(y | x),
                with the prior) but the target. At the target's place, where it has one. Not with
                ``overlap="mixture"``.
            sliding_window_shapes: Regions as Occlusion's windows, without the batch dimension,
                channel first. Where no regions are given at all, ``evidence`` and ``relay`` share
                out among the cells of feature maps; other views give images windows of a quarter
                of their sides, an eighth apart, and other inputs one region per element.
            strides: Occlusion's strides of the windows.
            regions: Regions made beforehand, e.g. by :func:`grid`; a list of them for several
                scales, of whose attributions the mean is taken.
            imputer: What stands in for hidden pixels, instead of ``baselines``.
            crop_size: (height, width) that ``crop`` resizes regions to, ``native`` for no resizing,
                or None for the images' own size; a list of them for several scales. A network
                trained on 224 pixels reads crops of (160, 160) as well, for 0.55 times the pixels
                (docs/results/mosaics.md).
            crop_margin: Share of a region's own height and width that ``crop`` shows around it on
                each side.
            reference: ``prior``: i(y; view) as it is (``crop``, ``features``); ``blank``: minus the
                value of the all-imputed view (default of ``keep``). The others need none.
            overlap: How regions that cover an element combine: ``mean`` (as Occlusion), ``mixture``
                (log of the mean probability) or ``max``.
            sharpen: Superpixels of the picture over which attributions are averaged, so that their
                edges are the picture's; in each channel the sum over height and width stays what it
                was, and regions' scores stay too. ``superpixels``: Felzenszwalb & Huttenlocher's of
                several scales, whose mean is taken; or regions with a label for each pixel, a list
                of them, or a function from a picture, a NumPy array (H, W, C) in [0, 1], to one
                label map (H, W) or several (docs/regions.md). For pictures only; None leaves
                attributions as they are.
            engine: What turns views into the network's outputs: ``auto`` (the fastest that gives
                the same numbers), ``batched`` (forward passes of whole pictures), ``incremental``
                (of each view only what its region changes), ``tokens`` (vision transformers), or
                an engine's settings, such as ``Incremental(winograd=False)``.
            n_samples: For ``chain`` the number of orders, even, 16 if None; the values of regions
                that cover the picture sum to i(y; x) − i(y; all imputed) whatever it is. For the
                other views the draws of a random imputer, whose posteriors are averaged, 8 if
                None; or the samples of a stochastic network (:func:`keep_dropout`), which give
                lower and upper bounds too, a single pass if None.
            seed: The seed of orders and draws, and of a network that draws by itself.
            perturbations_per_eval: At most this many views per image in one forward pass; a size
                that suits the device if None.
            show_progress: Show a progress bar on stderr, where it is a terminal or a notebook's.
            args_per_example: Which of the ``additional_forward_args`` have one entry per example
                and follow it: True for all tensors, False for none, or a list with one of these
                for each. None takes tensors of the batch's length, as Captum does; where the
                classes then change with the batch, as with as many prompts as pictures, the error
                asks.
            layer: Where ``evidence`` and ``relay`` read features: a module, its name, or a list of
                these, of whose maps the mean is taken. If None the layer that is found: for
                ``evidence`` the last feature map, or in a transformer what the second block reads;
                for ``relay`` the last feature map and the first one of the most cells, 1,024 at
                most; in a vision transformer the latter alone where convolutions below make more
                cells than it has tokens, else the tokens that its first block reads.
            input_sizes: What ``evidence`` and ``relay`` show pictures at: a list of sides,
                (height, width), None for their own size, or :class:`HalfCrops`. Each map is
                complete for its own pass, and the mean is taken. Their own size alone if None.

        Returns:
            Attributions of the same type (tensor or tuple) and shapes as ``inputs``; float32, or
            float64 where the network's output is.

        Raises:
            ArgumentError: An argument is wrong (before any forward pass where it can be known by
                then), or the forward function returns something else than one number per class and
                example, the same classes in every pass, or NaN.

        Warns:
            UserWarning: Outputs that are read as logits look like probabilities. Inputs look like
                pictures with channels last. A batch normalisation uses the batch's own statistics,
                or dropout is on: numbers change with the size of chunks. Dropout that ``n_samples``
                asks for is meant, and no word is said. With ``crop`` or ``keep``, more than half of
                the regions say −1 bit or less about a class of which p(y | x) is at least 1/2: of a
                network that reads parts rightly at most half do so on average, as
                E[2^−i(y; v) | y] = 1. The default view cannot be had of the network, and ``drop``
                is taken. With ``evidence`` or ``relay``, more than 0.1 bits and 1% of the whole
                are given to no pixel.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
            >>> infomask = InfoMask(model)
            >>> bits = infomask.attribute(torch.rand(1, 1, 8, 8), target=2, view="drop",
            ...                           sliding_window_shapes=(1, 4, 4), strides=(1, 4, 4))
            >>> bits.shape
            torch.Size([1, 1, 8, 8])

        Source: arXiv 1910.02629, Sec. 5 and Eq. 25 (bounds); ``chain`` estimates Shapley values by
        permutation sampling; ``drop`` is the prediction difference of Zintgraf et al.,
        arXiv 1702.04595, and, per window, Captum's Occlusion on log-probabilities ÷ ln 2;
        ``evidence`` is the Aumann–Shapley value (1974) of a layer's features; ``relay`` composes
        those of all steps, which for elementwise ones is DeepLIFT's rescale rule
        (arXiv 1704.02685).
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        found: SameAsGiven = self.score_regions(**given).attributions()
        return found

    @told({**HABITS, **HABITS_OF_RULES}, options_of=attribute)
    def mask(
        self,
        inputs: SameAsGiven,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: AdditionalForwardArgs = None,
        feature_mask: TensorOrTensors | None = None,
        *,
        rule: Rule | None = None,
        smooth: int = 0,
        min_area: float = 0,
        invert: bool = False,
        **options: Unpack[ScoreOptions],
    ) -> SameAsGiven:
        """Info-masking: where the attributions pass a rule.

        Args:
            inputs: As in :meth:`attribute`, like the next four.
            baselines: What hidden elements become.
            target: The class.
            additional_forward_args: Further arguments of the forward function.
            feature_mask: Regions.
            rule: ``MaxFraction``, ``TopFraction``, ``Otsu``, ``AtLeast``, or ``Hysteresis`` of two
                of them. None keeps 20% of the maximum, as in the paper, and half of the maximum of
                a density: the default map, ``evidence`` and ``relay`` without regions.
            smooth: Radius in pixels of the disk whose median smooths the mask's outline.
            min_area: Parts and holes smaller than this are removed: pixels (int), or a share of the
                picture (float).
            invert: True hides the target instead of keeping it.
            **options: The keyword arguments of :meth:`attribute`.

        Returns:
            Boolean masks of the same type and shapes as ``inputs``: ``inputs * mask`` shows what is
            kept.

        Raises:
            ArgumentError: As :meth:`attribute`, or the rule is unknown.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask
            >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], dim=1)
            >>> x = torch.eye(8).expand(1, 1, 8, 8)
            >>> mask = InfoMask(brightness).mask(x, target=0)
            >>> mask.shape, mask.dtype
            (torch.Size([1, 1, 8, 8]), torch.bool)

        Source: arXiv 1910.02629, Sec. 5 (info-masking, Fig. 2).
        """
        check_no_rule(baselines, target, additional_forward_args, feature_mask)
        if rule is not None:
            check_rule(rule)
        check_clean_up(smooth, min_area)
        given = (baselines, target, additional_forward_args, feature_mask)
        infomap = self.score_regions(inputs, *given, **options)
        found: SameAsGiven = infomap.mask(rule, smooth=smooth, min_area=min_area, invert=invert)
        return found

    @modes_kept()
    @torch.no_grad()
    @told(HABITS, options_of=attribute)
    def score_regions(
        self,
        inputs: TensorOrTensors,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: AdditionalForwardArgs = None,
        feature_mask: TensorOrTensors | None = None,
        **options: Unpack[ScoreOptions],
    ) -> InfoMap:
        """Information of each region, before it is spread over pixels.

        Takes the arguments of :meth:`attribute`, whose result is
        ``score_regions(...).attributions()``.

        Returns:
            An :class:`InfoMap`: the regions, their scores (N, R), i(y; x), masks, boxes.

        Raises:
            ArgumentError: As :meth:`attribute`.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask, grid
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
            >>> x = torch.rand(2, 1, 8, 8)
            >>> regions = grid(x, rows=2, columns=2)
            >>> infomap = InfoMask(model).score_regions(x, target=2, view="keep", regions=regions)
            >>> infomap.scores.shape
            torch.Size([2, 4])

        Source: arXiv 1910.02629, Sec. 5.
        """
        given = (baselines, additional_forward_args, feature_mask)
        asking = Asking.checked(self.forward_func, inputs, given, options)
        check_order(asking.tensors, baselines, target, asking.options.view)
        question = AboutTarget.checked(self.score, target, asking.options, asking.n)
        return asking.ask(question, self.get_name())

    @modes_kept()
    @torch.no_grad()
    @told({**HABITS, **HABITS_OF_CLASSES}, options_of=attribute)
    def score_classes(
        self,
        inputs: TensorOrTensors,
        baselines: Baselines = None,
        additional_forward_args: AdditionalForwardArgs = None,
        feature_mask: TensorOrTensors | None = None,
        *,
        classes: Sequence[int] | Tensor | None = None,
        top_k: int | None = None,
        **options: Unpack[ScoreOptions],
    ) -> ClassMaps:
        """Information of each region about several classes, for the price of one.

        Views do not depend on the target: the network runs as often as for a single class. With
        ``evidence`` and ``relay`` it runs twice where pictures take several chunks, since classes
        may hang on all outputs. None takes ``evidence`` in the place of ``relay``, which goes back
        through the network for each class.

        Args:
            inputs: As in :meth:`attribute`.
            baselines: As in :meth:`attribute`.
            additional_forward_args: As in :meth:`attribute`.
            feature_mask: As in :meth:`attribute`.
            classes: The classes, the same for every image; every class (of a prior above 0) if
                both this and ``top_k`` are None.
            top_k: Each image's likeliest classes, the likeliest first.
            **options: The keyword arguments of :meth:`attribute`. ``contrast`` is what every class
                is told from, and so none of them; of all classes it is left out. ``runner_up`` is
                each class's own: the likeliest but itself.

        Returns:
            A :class:`ClassMaps`: scores (N, R, K), an InfoMap per class, the map of the class that
            each region says most about, and of all classes the information gain.

        Raises:
            ArgumentError: As :meth:`attribute`; or ``classes`` or ``top_k`` is wrong, or the output
                is not (N, M).

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
            >>> maps = InfoMask(model).score_classes(torch.rand(1, 1, 8, 8), top_k=2)
            >>> maps.classes.shape, maps.rank(0).attributions().shape
            (torch.Size([1, 2]), torch.Size([1, 1, 8, 8]))

        Source: arXiv 1910.02629, Sec. 5, for every class at once.
        """
        given = (baselines, additional_forward_args, feature_mask)
        asking = Asking.checked(self.forward_func, inputs, given, options)
        check_order(asking.tensors, baselines, None, asking.options.view, by="classes")
        question = AboutClasses.checked(self.score, classes, top_k, asking.options, asking.n)
        return asking.ask(question, self.get_name())
