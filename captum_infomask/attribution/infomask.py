# InfoMask is what users call. It scores a region's view, which is imputed and run by an engine.
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from captum_infomask._captum import PerturbationAttribution, logged
from captum_infomask._categories import numbered
from captum_infomask._checks import check_callable, check_inputs
from captum_infomask._keywords import told, unknown_name
from captum_infomask._process import default_on_cpu
from captum_infomask._types import AdditionalForwardArgs, Baselines, Target, TensorOrTensors
from captum_infomask.attribution.about_value import AboutValue
from captum_infomask.attribution.call import check_order
from captum_infomask.attribution.default_view import check_rule
from captum_infomask.attribution.options import (
    HABITS,
    HABITS_OF_CLASSES,
    HABITS_OF_NAMES,
    HABITS_OF_RULES,
    Options,
    ScoreOptions,
)
from captum_infomask.attribution.questions import AboutClasses, AboutTarget, Asking
from captum_infomask.engines.choose_engine import EngineName
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.engines.untouched import modes_kept
from captum_infomask.imputers.choose_imputer import ImputerName
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.masks import Rule, as_rule, check_no_rule
from captum_infomask.masks.mask_planes import check_clean_up
from captum_infomask.regions.choose_regions import AnyRegions
from captum_infomask.regions.sharpening import Sharpen
from captum_infomask.results import ClassMaps, InfoMap
from captum_infomask.scores.contrast import Contrast, is_runner_up
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.scores.targets import Named, network_and_names
from captum_infomask.scores.values import Values
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

    The score of a region is what its view tells about the target class (see :meth:`attribute` for
    the views). Values are at most :math:`-\log_2 \pi_y` bits. For M equally likely classes this is
    :math:`\log_2 M`.

    For a regression network, p(y | v) and p(y) are densities of a value: pass ``head`` as a
    :class:`Gaussian` or a :class:`Laplace`, and ``prior`` as a :class:`Normal`.

    Args:
        forward_func: The model, or any function that returns its output, (N, M, ...) with the
            classes in dimension 1; or a ``Classifier``, whose network it then is, with its
            categories.
        score: How the output is read. Wrap a network that ends in a sigmoid:
            ``lambda x: torch.logit(model(x), eps=1e-6)``, with the head ``sigmoid``. If the score
            has groups, ``target``, ``contrast``, ``classes`` and ``top_k`` count groups.
        categories: The M classes' names, in the order of the output; with groups, the groups'
            names. Those of torchvision's weights are ``weights.meta["categories"]``. A class may
            then be given by its name, whatever its case, hyphens, underscores and spaces.
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
        forward_func: Callable[..., Any] | Named,
        *,
        score: Score | None = None,
        categories: Sequence[str] | None = None,
        **settings: Unpack[ScoreSettings],
    ) -> None:
        self.score = score_from(score, settings)
        network, self.categories = network_and_names(forward_func, categories, self.score.groups)
        check_callable("forward_func", network)
        super().__init__(network)

    def __repr__(self) -> str:
        """Show the network's name and the settings, for notebooks and prompts."""
        named = f", categories=<{len(self.categories)} names>" if self.categories else ""
        return f"InfoMask({_name_of(self.forward_func)}, {self.score.all_words()}{named})"

    if not TYPE_CHECKING:  # else type checkers would believe in every name

        def __getattr__(self, name: str) -> Any:
            """Say what to write for a name that other packages use."""
            raise unknown_name(self, name, HABITS_OF_NAMES)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Always False: information is not a share of the input's value."""
        return False

    @logged
    @modes_kept()
    @default_on_cpu()
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
        value: Values = None,
        sliding_window_shapes: tuple[Any, ...] | None = None,
        strides: int | tuple[Any, ...] | None = None,
        regions: AnyRegions = None,
        imputer: Imputer | ImputerName | None = None,
        crop_size: CropSizes = None,
        crop_margin: float = 0.0,
        crop_jitter: float = 0.0,
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
        r"""Information that each element's region holds about the target, in the unit of the score.

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

        ``evidence`` shares i(y; x) − i(y; reference) out among the cells of a feature map:

        .. math::

            \varphi_c = \int_0^1 \frac{\partial\, i(y; f_0 + t (f - f_0))}{\partial f_c}
                \cdot (f_c - f_{0,c})\, dt,

        This is the chain rule of information in infinitely many small random steps. Without regions
        the attributions are a density: their sum over height and width is ``InfoMap.explained``, in
        the unit. With regions, a region's value is the integral of the density over the region. The
        values of a partition have the same sum (docs/evidence.md).

        ``relay`` is complete in the same way, and finer. It goes from the output back to the first
        layers. Each step of the network passes back the information that the step made, by its own
        such integral. The path of the integral is straight, from what the step read of the
        all-imputed picture to what it read of the picture.

        ``features`` takes one forward pass of the image. f_R is the mean of the last feature map
        over the region. The network must end in a global average pooling (docs/features.md).

        With ``contrast``, a class y′, every i(y; ·) above becomes i(y; ·) − i(y′; ·). This is the
        evidence for the target against y′: log p(y | v)/p(y′ | v) − log π_y/π_y′.

        Args:
            inputs: A tensor (N, ...) or a tuple of them; images are (N, C, H, W), floating-point.
            baselines: The values of hidden elements, in Captum's forms: a number; a tensor of the
                input's shape, with or without the batch's dimension, in which any size may be 1; or
                a tuple with one of these per input. None means 0. ``crop`` and ``features`` do not
                use it. For ``evidence`` it is the picture at whose features the path starts. If it
                is None, the path starts at zero features; if a normalisation that follows hides
                their scale, it starts at the features of the picture of zeros. For ``relay`` it is
                the reference picture, which is zero if None.
            target: The class, in any form that Captum accepts, or by its name if the categories are
                known (:class:`InfoMask`). It may be a place of a map of classes, as (class, row,
                column), for all views but ``crop``: they leave the picture in place. For a head of
                values (:class:`Gaussian`), it is the column of the output.
            additional_forward_args: Further arguments of the forward function. Tensors with one
                entry per example follow their example (``args_per_example``). All other arguments
                are passed as they are.
            feature_mask: Regions as one integer label per element, in Captum's form.
            view: ``crop``, ``keep``, ``drop``, ``chain``, ``features``, ``evidence`` or ``relay``.
                None takes ``relay``, and averages it over superpixels if the inputs are pictures
                and no regions are given. It takes ``crop`` if ``crop_size``, ``crop_margin``,
                ``crop_jitter`` or ``reference`` is given. It takes ``drop`` for several inputs, for
                inputs (N, F), and if ``imputer``, ``engine``, ``n_samples`` or ``overlap`` is
                given. It also takes ``drop``, with a warning, if the network's features cannot be
                had. ``InfoMap.view`` names the view that was taken.
            contrast: A class that the target is compared with; a list or 1-D tensor with one per
                example; a class's name; or ``runner_up``, the likeliest class of the whole picture
                (by p(y | x), with the prior) other than the target. If the target has a place, the
                contrast has the same place. It cannot be used with ``overlap="mixture"``.
            value: For a head of values, the value y that bits are about, in the unit of the output:
                a number, or a list or 1-D tensor with one per example. None takes what the network
                predicts for the whole example.
            sliding_window_shapes: Regions as Occlusion's windows, without the batch dimension,
                channel first. If no regions are given at all, ``evidence`` and ``relay`` share the
                information out among the cells of feature maps. Other views give images windows of
                a quarter of their sides, an eighth apart. They give other inputs one region per
                element.
            strides: Occlusion's strides of the windows.
            regions: Regions made beforehand, e.g. by :func:`grid`; or ``superpixels``, for those of
                :func:`superpixels` with its defaults. A list of regions stands for several scales,
                and the mean of their attributions is taken. For several inputs, a tuple with an
                entry for each: its own regions, ``superpixels``, or None for the default ones.
            imputer: The imputer of hidden pixels, instead of ``baselines``: an object, or a name:
                ``blur``, ``local_mean``, ``inpaint``, ``noisy_linear``, ``uniform_noise``,
                ``normal_noise`` or ``remove_tokens``.
            crop_size: (height, width) that ``crop`` resizes regions to, ``native`` for no resizing,
                or None for the images' own size; a list of them for several scales. A network
                trained on 224 pixels also reads crops of (160, 160), for 0.55 times the pixels
                (docs/results/mosaics.md).
            crop_margin: The margin that ``crop`` shows around a region on each side, as a share of
                the region's own height and width.
            crop_jitter: The most that ``crop`` moves each edge of a region's rectangle at random,
                as a share of the region's own height or width, at most 0.5. Moves are uniform and
                in whole pixels. A rectangle stays inside the picture and keeps at least one pixel.
                The posteriors of ``n_samples`` draws are averaged. ``InfoMap.standard_errors`` and
                ``spread`` say how much a score depends on where the region is cut. 0 moves nothing.
            reference: ``prior`` takes i(y; view) as it is (``crop``, ``features``). ``blank``
                subtracts the value of the all-imputed view (the default of ``keep``). The other
                views need none.
            overlap: How regions that cover an element combine: ``mean`` (as Occlusion), ``mixture``
                (log of the mean probability) or ``max``.
            sharpen: Superpixels of the picture over which attributions are averaged, so that their
                edges are those of the picture. In each channel the sum over height and width does
                not change. The regions' scores do not change either. ``superpixels`` takes those of
                Felzenszwalb & Huttenlocher at several scales, and then the mean. Others are regions
                with a label for each pixel, a list of them, or a function from a picture, a NumPy
                array (H, W, C) in [0, 1], to one label map (H, W) or several (docs/regions.md). For
                pictures only. None leaves attributions as they are.
            engine: How views become the network's outputs: ``auto`` (the fastest that gives the
                same numbers), ``batched`` (forward passes of whole pictures), ``incremental``
                (computes only the part of each view that its region changes), ``tokens`` (vision
                transformers), or an engine's settings, such as ``Incremental(winograd=False)``.
            n_samples: For ``chain``, the number of orders. It is even; None means 16. The values of
                regions that cover the picture sum to i(y; x) − i(y; all imputed) for any number of
                orders. For the other views, the number of draws of a random imputer, or of crops
                with ``crop_jitter``; posteriors are averaged, and None means 8. For a stochastic
                network (:func:`keep_dropout`), the number of samples, which also give lower and
                upper bounds; None means a single pass. All of these give standard errors
                (:meth:`InfoMap.interval`).
            seed: The seed of the orders, of the draws, and of a network that draws by itself.
            perturbations_per_eval: The most views per image in one forward pass. None takes a size
                that suits the device.
            show_progress: Show a progress bar on stderr, if it is a terminal or a notebook's.
            args_per_example: Which of the ``additional_forward_args`` have one entry per example
                and follow it: True for all tensors, False for none, or a list with True or False
                for each. None takes tensors of the batch's length, as Captum does. If the classes
                then change with the batch, for example with as many prompts as pictures, the error
                asks for this argument.
            layer: The layer where ``evidence`` and ``relay`` read features: a module, its name, or
                a list of these. The mean over the maps of a list is taken. None lets the view find
                the layer. ``evidence`` takes the last feature map, or in a transformer the input of
                the second block. ``relay`` takes the last feature map and the first one of the most
                cells, 1,024 at most. In a vision transformer ``relay`` takes the tokens that the
                first block reads. If convolutions below make more cells than there are tokens, it
                takes only the first map of the most cells.
            input_sizes: The sizes at which ``evidence`` and ``relay`` show pictures: a list of
                sides, (height, width), None for their own size, or :class:`HalfCrops`. Each map is
                complete for its own pass, and the mean is taken. None shows the pictures at their
                own size alone.

        Returns:
            Attributions of the same type (tensor or tuple) and shapes as ``inputs``. They are
            float32, or float64 if the network's output is.

        Raises:
            ArgumentError: An argument is wrong; the error comes before any forward pass if it can
                be known by then. Or the forward function does not return one number per class and
                example, with the same classes in every pass. Or it returns NaN.

        Warns:
            UserWarning: Outputs that are read as logits look like probabilities. Inputs look like
                pictures with channels last. A batch normalisation uses the batch's own statistics,
                or dropout is on: numbers change with the size of chunks. There is no warning for
                dropout that ``n_samples`` asks for. With ``crop`` or ``keep``, more than half of
                the regions say −1 bit or less about a class with p(y | x) of at least 1/2. If a
                network reads parts rightly, at most half of the regions do so on average, because
                E[2^−i(y; v) | y] = 1. The network does not allow the default view, and ``drop`` is
                taken. With ``evidence`` or ``relay``, more than 0.1 bits and 1% of the whole are
                given to no pixel.

        Example:
            >>> import torch
            >>> from captum_infomask import InfoMask
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
            >>> infomask = InfoMask(model)
            >>> bits = infomask.attribute(torch.rand(1, 1, 8, 8), target=2, view="drop",
            ...                           sliding_window_shapes=(1, 4, 4), strides=(1, 4, 4))
            >>> bits.shape
            torch.Size([1, 1, 8, 8])

        Source: arXiv 1910.02629, Sec. 5 and Eq. 25 (bounds). ``chain`` estimates Shapley values by
        permutation sampling. ``drop`` is the prediction difference of Zintgraf et al., arXiv
        1702.04595; per window it is Captum's Occlusion on log-probabilities ÷ ln 2. ``evidence`` is
        the Aumann–Shapley value (1974) of a layer's features. ``relay`` composes the Aumann–Shapley
        values of all steps; for elementwise steps this is DeepLIFT's rescale rule (arXiv
        1704.02685).
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
        rule: Rule | float | None = None,
        smooth: int = 0,
        min_area: float = 0,
        invert: bool = False,
        **options: Unpack[ScoreOptions],
    ) -> SameAsGiven:
        """Info-masking: a mask of the pixels whose attributions pass a rule.

        Args:
            inputs: As in :meth:`attribute`, like the next four.
            baselines: The values of hidden elements.
            target: The class.
            additional_forward_args: Further arguments of the forward function.
            feature_mask: Regions.
            rule: A number between 0 and 1, a share of the maximum; or ``MaxFraction``,
                ``TopFraction``, ``Otsu``, ``AtLeast``, or ``Hysteresis`` of two of them; or
                ``FalseDiscoveries``, for views that count from the prior. None keeps 20% of the
                maximum, as in the paper. For a density it keeps half of the maximum. The default
                map is a density, and so are ``evidence`` and ``relay`` without regions.
            smooth: Radius in pixels of the disk whose median smooths the mask's outline.
            min_area: The area in pixels (int), or as a share of the picture (float). Smaller parts
                and holes are removed.
            invert: True hides the target instead of keeping it.
            **options: The keyword arguments of :meth:`attribute`.

        Returns:
            Boolean masks of the same type and shapes as ``inputs``. ``inputs * mask`` shows what is
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
            rule = as_rule(rule)
        check_clean_up(smooth, min_area)
        check_rule(rule, Options.among(options), check_inputs(inputs), self.score)
        given = (baselines, target, additional_forward_args, feature_mask)
        infomap = self.score_regions(inputs, *given, **options)
        found: SameAsGiven = infomap.mask(rule, smooth=smooth, min_area=min_area, invert=invert)
        return found

    @modes_kept()
    @default_on_cpu()
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

        It takes the arguments of :meth:`attribute`. The result of that method is
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
        target, options = self._numbered("target", target), self._by_number(options)
        asking = Asking.checked(self.forward_func, inputs, given, options, self.categories)
        check_order(asking.tensors, baselines, target, asking.options.view)
        kind = AboutTarget if self.score.has_classes else AboutValue
        question = kind.checked(self.score, target, asking.options, asking.n)
        return asking.ask(question, self.get_name())

    @modes_kept()
    @default_on_cpu()
    @torch.no_grad()
    @told({**HABITS, **HABITS_OF_CLASSES}, options_of=attribute)
    def score_classes(
        self,
        inputs: TensorOrTensors,
        baselines: Baselines = None,
        additional_forward_args: AdditionalForwardArgs = None,
        feature_mask: TensorOrTensors | None = None,
        *,
        classes: Sequence[int] | Sequence[str] | Tensor | None = None,
        top_k: int | None = None,
        **options: Unpack[ScoreOptions],
    ) -> ClassMaps:
        """Information of each region about several classes, for the price of one.

        Views do not depend on the target, so the network runs as often as for a single class. With
        ``evidence`` and ``relay`` it runs twice if pictures take several chunks, since the classes
        may depend on all outputs. If ``view`` is None, ``evidence`` takes the place of ``relay``,
        because ``relay`` goes back through the network for each class.

        Args:
            inputs: As in :meth:`attribute`.
            baselines: As in :meth:`attribute`.
            additional_forward_args: As in :meth:`attribute`.
            feature_mask: As in :meth:`attribute`.
            classes: The classes, by number or name, the same for every image. If both this and
                ``top_k`` are None, every class with a prior above 0.
            top_k: The number of each image's likeliest classes, the likeliest first.
            **options: The keyword arguments of :meth:`attribute`. Every class is compared with
                ``contrast``, so ``contrast`` cannot be one of ``classes``; if all classes are
                taken, it is left out. ``runner_up`` differs for each class: it is the likeliest of
                the others.

        Returns:
            A :class:`ClassMaps`: the scores (N, R, K), an InfoMap per class, the map of the class
            that each region says most about, and, over all classes, the information gain.

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
        if not isinstance(classes, str):  # one class too is given as a list
            classes = self._numbered("classes", classes)
        options = self._by_number(options)
        asking = Asking.checked(self.forward_func, inputs, given, options, self.categories)
        check_order(asking.tensors, baselines, None, asking.options.view, by="classes")
        question = AboutClasses.checked(self.score, classes, top_k, asking.options, asking.n)
        return asking.ask(question, self.get_name())

    def _numbered(self, argument: str, given: Any) -> Any:
        """Return a class, or several, with numbers in the place of names."""
        also = "Beside 'runner_up', " if argument == "contrast" else ""
        where = f"{also}InfoMask(model, categories=names)"
        return numbered(argument, given, self.categories, where)

    def _by_number(self, options: ScoreOptions) -> ScoreOptions:
        """Return the options with numbers in the place of classes' names."""
        contrast = options.get("contrast")
        if is_runner_up(contrast):
            return {**options, "contrast": "runner_up"}
        return {**options, "contrast": self._numbered("contrast", contrast)}


def _name_of(forward_func: Any) -> str:
    """Return a network's class, or a function's name."""
    if isinstance(forward_func, partial):
        return f"partial({_name_of(forward_func.func)})"
    name: str = getattr(forward_func, "__name__", type(forward_func).__name__)
    owner = getattr(forward_func, "__self__", None)
    return name if owner is None else f"{type(owner).__name__}.{name}"
