# Adapters for functions and metrics of Quantus and pytorch-grad-cam; InfoMask for Quantus.
from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.evaluation.metric_protocol import Measured, Metric, Sample
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.masks.mask_planes import normalised
from captum_infomask.report.page_content import Better
from captum_infomask.scores.heads import rows_of, widen
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import with_rest

_GRAD_CAM_BETTER: dict[str, Better] = {
    "ROADMostRelevantFirst": "lower",
    "ROADMostRelevantFirstAverage": "lower",
    "ROADLeastRelevantFirst": "higher",
    "ROADLeastRelevantFirstAverage": "higher",
    "ROADCombined": "higher",
    "DropInConfidence": "lower",
    "IncreaseInConfidence": "higher",
}
_GIVEN = ("self", "forward_func", "inputs", "target")


def adapted(given: object) -> Metric | None:
    """Return a metric of Quantus or pytorch-grad-cam as one of ours; None for anything else."""
    if isinstance(given, type):
        return None
    modules = [kind.__module__ for kind in type(given).__mro__]
    if any(module.split(".")[0] == "quantus" for module in modules):
        return QuantusMetric(given)
    if any(module.startswith("pytorch_grad_cam.metrics") for module in modules):
        return GradCamMetric(given)
    return None


@dataclass(frozen=True, eq=False)
class FunctionMetric:
    """A metric from a function.

    Args:
        name: The metric's name in tables.
        function: :class:`Sample` → a number.
        better: Which direction is better, if any.

    Example:
        >>> from captum_infomask.evaluation.metric_adapters import FunctionMetric
        >>> FunctionMetric("largest", lambda sample: sample.plane.max()).needs_truth
        False
    """

    name: str
    function: Callable[[Sample], Any] = field(repr=False)
    better: Better = ""

    needs_truth: ClassVar[bool] = False

    @property
    def note(self) -> str:
        """The first line of the function's docstring."""
        words = (getattr(self.function, "__doc__", None) or "").strip().splitlines()
        return words[0] if words else "A function of the user's."

    def __call__(self, sample: Sample) -> Measured:
        """Call the function."""
        return Measured(_number(self.name, self.function(sample)))


@dataclass(frozen=True, eq=False)
class QuantusMetric:
    """A metric of Quantus, with its own settings.

    It gets the network as a module that returns logits, or log-probabilities if the network itself
    does not return plain logits. It also gets the picture, the map's mean over channels, the right
    pixels, and the method. A copy of the metric runs, and draws from the sample's seed. If it ranks
    pixels, it orders equal pixels in its own way.

    Args:
        metric: An instance of a class of ``quantus``.

    Source: Hedström et al., "Quantus", JMLR 24 (2023).
    """

    metric: Any

    @property
    def name(self) -> str:
        """The metric's class."""
        return type(self.metric).__name__

    @property
    def better(self) -> Better:
        """The better direction, from Quantus."""
        direction = getattr(getattr(self.metric, "score_direction", None), "value", "")
        known: dict[str, Better] = {"higher": "higher", "lower": "lower"}
        return known.get(direction, "")

    @property
    def note(self) -> str:
        """The origin of the metric."""
        return f"{self.name} of Quantus, with the settings that it was given."

    @property
    def needs_truth(self) -> bool:
        """Whether it is one of Quantus's metrics of localisation."""
        category = getattr(self.metric, "evaluation_category", None)
        return getattr(category, "name", "") == "LOCALISATION"

    def __call__(self, sample: Sample) -> Measured:
        """Call it on a batch of one."""
        network = _Network(sample, _as_logits)

        def explain(
            model: nn.Module, inputs: Any, targets: Any, **options: Any
        ) -> np.ndarray[Any, Any]:
            if model is not network or bool((np.asarray(targets) != sample.target).any()):
                raise ArgumentError(
                    f"Expected `metrics` that leave the network and the target as they are; "
                    f"{self.name} of Quantus changes them. captum_infomask.randomisation_check "
                    "asks methods about other networks."
                )
            pictures = torch.as_tensor(np.asarray(inputs)).to(sample.inputs)
            maps = [sample.attribute(picture[None]).detach() for picture in pictures]
            return widen(torch.cat(maps)).mean(1, keepdim=True).cpu().numpy()

        with (
            as_it_was(sample.forward, seed=sample.seed, writes=True),
            torch.no_grad(),
        ):
            found = copy.deepcopy(self.metric)(
                model=network,
                x_batch=widen(sample.inputs.detach()).cpu().numpy(),
                y_batch=np.array([sample.target]),
                a_batch=widen(sample.plane.detach()).cpu().numpy()[None, None],
                s_batch=None if sample.truth is None else sample.truth.cpu().numpy()[None, None],
                channel_first=True,
                explain_func=explain,
                device=str(sample.inputs.device),
            )
        if isinstance(found, Sequence | np.ndarray) and len(found) == 1:
            found = found[0]
        return Measured(_number(self.name, found))


@dataclass(frozen=True, eq=False)
class GradCamMetric:
    """A metric of pytorch-grad-cam, such as ROAD, with its own settings.

    It gets the map's mean over channels, scaled to [0, 1], and measures the probability of the
    target. It draws from the sample's seed.

    Args:
        metric: An instance of a class of ``pytorch_grad_cam.metrics``.

    Source: Gildenblat et al., pytorch-grad-cam on GitHub; ROAD: Rong et al., arXiv 2202.00449.
    """

    metric: Any

    needs_truth: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The metric's class."""
        return type(self.metric).__name__

    @property
    def better(self) -> Better:
        """The direction that its authors prefer."""
        kinds = [kind.__name__ for kind in type(self.metric).__mro__]
        return next((_GRAD_CAM_BETTER[kind] for kind in kinds if kind in _GRAD_CAM_BETTER), "")

    @property
    def note(self) -> str:
        """The origin of the metric."""
        return f"{self.name} of pytorch-grad-cam, of p(target), with the settings it was given."

    def __call__(self, sample: Sample) -> Measured:
        """Call it on a batch of one."""
        plane = normalised(sample.plane.detach().double().cpu().numpy()).astype(np.float32)

        def probability(output: Tensor) -> Tensor:
            return sample.score.probabilities(output[None])[0, sample.target]

        with (
            as_it_was(sample.forward, seed=sample.seed, writes=True),
            torch.no_grad(),
        ):
            # The metric's imputer writes float32 into a copy of the picture.
            picture = sample.inputs.detach().float()
            found = self.metric(picture, plane[None], [probability], _Network(sample, _as_they_are))
        return Measured(_number(self.name, found))


class _Network(nn.Module):
    """A sample's network as a separate module, for pictures of any floating-point type."""

    def __init__(self, sample: Sample, read: Callable[[Score, Tensor], Tensor]) -> None:
        super().__init__()
        self._read = read
        self._sample = sample  # not the user's network, whose mode would change too
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reading of the outputs, (N, M)."""
        output = self._sample.outputs(pictures.to(self._sample.inputs))
        return self._read(self._sample.score, output)


def _as_they_are(score: Score, output: Tensor) -> Tensor:
    return rows_of(output)


def _as_logits(score: Score, output: Tensor) -> Tensor:
    """The values that a softmax, or a sigmoid for independent labels, turns into probabilities."""
    if score.groups is not None:
        count = rows_of(output).shape[1]
        score = replace(score, groups=with_rest(score.groups, count))
        return score.log_probabilities(output)
    plain = score.head in ("logits", "sigmoid") and score.temperature == 1
    if plain and score.trained_with == "cross_entropy":
        return rows_of(output)
    if score.head == "sigmoid":
        return rows_of(output) / score.temperature
    return score.log_probabilities(output)


def _number(name: str, found: Any) -> float:
    """The result of a metric, if it is one number."""
    try:
        value = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found)
        if value.size != 1:
            raise TypeError
        return float(value.reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected `metrics` {name!r} to give one number per picture; got {describe(found)}."
        ) from error


def infomask_explain_func(
    model: nn.Module, inputs: npt.NDArray[Any], targets: npt.NDArray[Any] | int, **kwargs: Any
) -> npt.NDArray[Any]:
    """Explain pictures with InfoMask in the form of Quantus: arrays in, arrays out.

    Args:
        model: The network, (N, C, H, W) → logits (N, M).
        inputs: (N, C, H, W), any numbers; they get the type and device of the network's parameters.
        targets: The N classes, or one for all.
        **kwargs: Settings of :class:`InfoMask` (``head``, ``unit``, …) and arguments of
            :meth:`InfoMask.attribute` (``view``, ``sliding_window_shapes``, …), as
            ``explain_func_kwargs``; and ``device``, which Quantus adds.

    Returns:
        (N, C, H, W), in the unit.

    Raises:
        ArgumentError: ``model`` is not a module; an argument is unknown to both; ``inputs`` or
            ``targets`` are not numbers; or InfoMask refuses an argument.

    Example:
        >>> import numpy as np, torch
        >>> from captum_infomask.evaluation.metric_adapters import infomask_explain_func
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
        >>> pictures = np.ones((2, 3, 8, 8), np.float32)
        >>> infomask_explain_func(model, pictures, np.array([0, 3]), view="drop").shape
        (2, 3, 8, 8)

    Source: ``quantus.explain``; Hedström et al., "Quantus", JMLR 24 (2023).
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"Expected `model` to be a torch.nn.Module; got {describe(model)}.")
    settings, options = _sorted_out(kwargs)
    device = kwargs.get("device")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        pictures = torch.as_tensor(np.asarray(inputs)).to(like.device if device is None else device)
        classes = torch.as_tensor(np.asarray(targets)).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected `inputs` and `targets` to be arrays of numbers, and `device` one of "
            f"PyTorch's; got {describe(inputs)}, {describe(targets)} and {device!r}."
        ) from error
    attributions: torch.Tensor = InfoMask(model, **settings).attribute(
        pictures.to(like.dtype), target=classes if len(classes) > 1 else classes[0], **options
    )
    return attributions.cpu().numpy()


def _sorted_out(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide arguments into those of InfoMask and those of its ``attribute``."""
    settings, options = (
        [name for name in inspect.signature(function).parameters if name not in _GIVEN]
        for function in (InfoMask.__init__, InfoMask.attribute)
    )
    known = [*settings, *options, "device"]
    unknown = [name for name in kwargs if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            "Expected `explain_func_kwargs` to be arguments of InfoMask or of InfoMask.attribute; "
            f"got {', '.join(map(repr, unknown))}.{hint}"
        )
    return (
        {name: kwargs[name] for name in settings if name in kwargs},
        {name: kwargs[name] for name in options if name in kwargs},
    )
