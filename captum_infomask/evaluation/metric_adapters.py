# Functions, and metrics of Quantus and of pytorch-grad-cam, as metrics of ours.
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.metric_protocol import Measured, Metric, Sample
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.masks.mask_planes import normalised
from captum_infomask.report.page_content import Better
from captum_infomask.scores.groups import with_rest
from captum_infomask.scores.heads import rows_of
from captum_infomask.scores.score import Score

_GRAD_CAM_BETTER: dict[str, Better] = {
    "ROADMostRelevantFirst": "lower",
    "ROADMostRelevantFirstAverage": "lower",
    "ROADLeastRelevantFirst": "higher",
    "ROADLeastRelevantFirstAverage": "higher",
    "ROADCombined": "higher",
    "DropInConfidence": "lower",
    "IncreaseInConfidence": "higher",
}


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
    """A function that measures a sample.

    Args:
        name: What tables call it.
        function: :class:`Sample` → a number.
        better: Which end is better, if either is.

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
        """The first line of the function's own words."""
        words = (getattr(self.function, "__doc__", None) or "").strip().splitlines()
        return words[0] if words else "A function of the user's."

    def __call__(self, sample: Sample) -> Measured:
        """Ask the function."""
        return Measured(_number(self.name, self.function(sample)))


@dataclass(frozen=True, eq=False)
class QuantusMetric:
    """A metric of Quantus, with its own settings.

    It is given the network as a module that returns logits, or log-probabilities where the network
    itself returns no plain logits, the picture, the map's mean over channels, what is right, and
    the method. A copy of it runs, which draws by the sample's seed. Where it ranks pixels, the
    order of equal ones is its own.

    Args:
        metric: An instance of a class of ``quantus``.

    Source: Hedström et al., "Quantus", JMLR 24 (2023).
    """

    metric: Any

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.metric).__name__

    @property
    def better(self) -> Better:
        """What Quantus says."""
        direction = getattr(getattr(self.metric, "score_direction", None), "value", "")
        known: dict[str, Better] = {"higher": "higher", "lower": "lower"}
        return known.get(direction, "")

    @property
    def note(self) -> str:
        """Where it comes from."""
        return f"{self.name} of Quantus, with the settings that it was given."

    @property
    def needs_truth(self) -> bool:
        """Quantus's metrics of localisation do."""
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
            return torch.cat(maps).mean(1, keepdim=True).cpu().numpy()

        with (
            as_it_was(sample.forward, seed=sample.seed, writes=True),
            torch.no_grad(),
        ):
            found = copy.deepcopy(self.metric)(
                model=network,
                x_batch=sample.inputs.detach().cpu().numpy(),
                y_batch=np.array([sample.target]),
                a_batch=sample.plane.detach().cpu().numpy()[None, None],
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

    It is given the map's mean over channels, brought to [0, 1], and measures the probability of the
    target. It draws by the sample's seed.

    Args:
        metric: An instance of a class of ``pytorch_grad_cam.metrics``.

    Source: Gildenblat et al., pytorch-grad-cam on GitHub; ROAD: Rong et al., arXiv 2202.00449.
    """

    metric: Any

    needs_truth: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.metric).__name__

    @property
    def better(self) -> Better:
        """Which end its authors prefer."""
        kinds = [kind.__name__ for kind in type(self.metric).__mro__]
        return next((_GRAD_CAM_BETTER[kind] for kind in kinds if kind in _GRAD_CAM_BETTER), "")

    @property
    def note(self) -> str:
        """Where it comes from."""
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
            # Its imputer writes float32 into a copy of the picture.
            picture = sample.inputs.detach().float()
            found = self.metric(picture, plane[None], [probability], _Network(sample, _as_they_are))
        return Measured(_number(self.name, found))


class _Network(nn.Module):
    """A sample's network as a module of its own, for pictures of any floating-point type."""

    def __init__(self, sample: Sample, read: Callable[[Score, Tensor], Tensor]) -> None:
        super().__init__()
        self._read = read
        self._sample = sample  # not the user's network itself, whose mode would change with ours
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return what is read of the outputs, (N, M)."""
        output = self._sample.forward(pictures.to(self._sample.inputs))
        return self._read(self._sample.score, output)


def _as_they_are(score: Score, output: Tensor) -> Tensor:
    return rows_of(output)


def _as_logits(score: Score, output: Tensor) -> Tensor:
    """What a softmax, or for independent labels a sigmoid, makes probabilities of."""
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
    """What a metric returned, if it is one number."""
    try:
        value = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found)
        if value.size != 1:
            raise TypeError
        return float(value.reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected `metrics` {name!r} to give one number per picture; got {describe(found)}."
        ) from error
