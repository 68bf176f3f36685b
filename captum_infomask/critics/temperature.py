# Fits the temperature that calibrates a network's posterior, and measures the calibration.
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from captum_infomask._batches import check_label_range, labelled_batches, placed
from captum_infomask._checks import check_callable, check_initialised, describe, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._messages import warn
from captum_infomask._outputs import read_logits
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.untouched import untouched
from captum_infomask.report.evaluation_figures import ReliabilityBins, reliability_figure
from captum_infomask.scores.heads import Doubt, scaled_logits
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import PosteriorSettings
from captum_infomask.scores.targets import Named, network_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

_CHUNK = 2**22  # numbers in double precision at a time


@dataclass(frozen=True, eq=False)
class FittedTemperature:
    """A temperature, and the network's calibration without and with it.

    Use it as a number: ``InfoMask(model, temperature=fitted)`` or ``float(fitted)``.

    Attributes:
        temperature: τ.
        nll_before: Mean negative log-likelihood of the labels at τ = 1, in nats.
        nll_after: The same at the fitted τ.
        before: The expected calibration error at τ = 1, and confidence, accuracy and count per bin.
        after: The same at the fitted τ.
        count: n, the number of examples.

    Example:
        >>> import torch
        >>> from captum_infomask import fit_temperature
        >>> logits, labels = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> fitted = fit_temperature(lambda x: x, [(logits, labels)])
        >>> round(fitted.ece_before, 2), round(fitted.ece_after, 2), fitted.count
        (0.25, 0.0, 4)
    """

    temperature: float
    nll_before: float
    nll_after: float
    before: ReliabilityBins
    after: ReliabilityBins
    count: int

    @property
    def ece_before(self) -> float:
        """Expected calibration error at τ = 1, from 0 to 1."""
        return self.before.error

    @property
    def ece_after(self) -> float:
        """Expected calibration error at the fitted τ, from 0 to 1."""
        return self.after.error

    def __float__(self) -> float:
        """The temperature."""
        return self.temperature

    def __repr__(self) -> str:
        """The text that a notebook or a prompt shows."""
        return (
            f"FittedTemperature({self.temperature:.4g}: on {self.count} examples negative "
            f"log-likelihood {self.nll_before:.3f} → {self.nll_after:.3f} nats, calibration error "
            f"{self.ece_before:.3f} → {self.ece_after:.3f})"
        )

    def figure(self) -> tuple[Figure, list[Axes]]:
        """Reliability diagrams before and after, on an Agg canvas (no window, no pyplot state)."""
        return reliability_figure(
            [("before, τ = 1", self.before), (f"after, τ = {self.temperature:.2f}", self.after)]
        )


def calibration(
    logits: Tensor, labels: Tensor, offset: Tensor, temperature: float, bins: int
) -> tuple[float, ReliabilityBins]:
    """Mean negative log-likelihood, and the expected calibration error with its bins."""
    nll = 0.0
    parts = []
    for values, classes in chunks(logits, labels):
        log_posterior = (values / temperature + offset).log_softmax(1)
        nll += float(F.nll_loss(log_posterior, classes, reduction="sum"))
        parts.append(log_posterior.exp().float())
    posterior = torch.cat(parts)
    error = multiclass_calibration_error(
        posterior, labels, num_classes=posterior.shape[1], n_bins=bins, norm="l1"
    )
    confidence, predicted = posterior.max(1)
    # The edges of bins, and the side of ties, are those of torchmetrics.
    edges = torch.linspace(0, 1, bins + 1)
    which = (torch.bucketize(confidence, edges, right=True) - 1).clamp_max(bins - 1)
    count = torch.bincount(which, minlength=bins)
    mean_confidence, accuracy = (
        (torch.bincount(which, weights=numbers.double(), minlength=bins) / count).numpy()
        for numbers in (confidence, predicted == labels)
    )
    found = ReliabilityBins(mean_confidence, accuracy, count.numpy(), float(error))
    return nll / len(labels), found


def chunks(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits in double precision and their labels, in chunks that fit into memory."""
    rows = max(1, _CHUNK // logits.shape[1])
    for values, classes in zip(logits.split(rows), labels.split(rows), strict=True):
        yield values.double(), classes


@told(options_of=Score, without=("temperature", "unit", "groups"))
def fit_temperature(
    forward_func: Callable[..., Any] | Named,
    loader: Iterable[Any],
    *,
    bins: int = 15,
    show_progress: bool = False,
    score: Score | None = None,
    **settings: Unpack[PosteriorSettings],
) -> FittedTemperature:
    r"""Fit the temperature that makes held-out labels likeliest.

    .. math::

        \tau^* = \arg\min_\tau \; -\frac{1}{n} \sum_{j=1}^n \log \mathrm{softmax}(f(x_j)/\tau)_{y_j}

    A network that is trained for long is over-confident. Its information then has too large a
    magnitude, by the factor τ in the logits. The fit does not change the ranking of classes.

    If no finite τ is best, τ stays 1 and a warning says why. There are three cases. All labels are
    of one class. Every label is the likeliest class, so the likelihood rises as τ → 0. Or the
    logits of the labels are no larger than the average, so the likelihood rises as τ → ∞.

    Args:
        forward_func: The model (in eval mode), or any function that returns its output, (N, M);
            or a ``Classifier``.
        loader: Yields (inputs, labels) on which the model was **not** trained; it is read once. The
            labels are classes, long (B,); 0 or 1 for ``sigmoid``.
        bins: Number of equal bins of confidence.
        show_progress: Show a progress bar on stderr.
        score: How the outputs are read. The fit uses ``head`` and ``trained_with``, and ``prior``
            for ``pc_softmax``; it ignores the other settings. Labels are classes, not groups.
        **settings: ``head``, ``trained_with`` and ``prior`` by name, instead of ``score``.
            ``sigmoid`` is one logit per example. For ``pc_softmax`` the posterior is
            :math:`\pi_k e^{f_k/\tau}`, normalised. Cross-entropy needs no prior.

    Returns:
        The temperature, and calibration before and after.

    Raises:
        ArgumentError: A setting is out of range; the loader is empty, or yields NaN or labels out
            of range; or the output does not fit the head, or holds NaN.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask
        >>> from captum_infomask import fit_temperature
        >>> labels = torch.tensor([0, 0, 0, 1])  # right three times of four ...
        >>> logits = torch.tensor([[9.0, 0.0]] * 4)  # ... but as sure as 1 - 1e-4
        >>> fitted = fit_temperature(lambda x: x, [(logits, labels)])
        >>> round(float(fitted), 3), round(9 / float(fitted), 3)  # ln 3: 75%
        (8.192, 1.099)
        >>> infomask = InfoMask(lambda x: x, temperature=fitted)

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, Section 4.2;
    PC-softmax: Qin, Kim & Gedeon, arXiv 1911.10688.
    """
    forward_func = network_of(forward_func)
    check_callable("forward_func", forward_func)
    check_initialised("forward_func", forward_func)
    bins = positive_int("bins", bins)
    is_value = score is not None
    score = score_from(score, settings)
    score.with_classes("fit_temperature fits p(y | x) of classes")
    if score.head == "raw":
        raise ArgumentError(
            "Expected `head` to give probabilities; got 'raw', which is not normalised."
        )
    if score.class_prior is not None and score.trained_with != "pc_softmax" and not is_value:
        raise ArgumentError(
            "Expected no `prior` for trained_with='cross_entropy', whose posterior holds it "
            "already; pass trained_with='pc_softmax' if it was trained so."
        )
    warn_of_mode(forward_func, is_sampled=False)
    logits, labels = _collect(forward_func, loader, score, show_progress)
    offset = _offset(score, logits.shape[1])
    reason = _not_identified(logits, labels, offset)
    if reason is None:
        temperature = _minimise(logits, labels, offset)
    else:
        temperature = 1.0
        warn(f"The temperature is not identified and stays 1: {reason}.")
    nll_before, before = calibration(logits, labels, offset, 1.0, bins)
    nll_after, after = calibration(logits, labels, offset, temperature, bins)
    return FittedTemperature(temperature, nll_before, nll_after, before, after, len(labels))


def _collect(
    forward_func: Callable[..., Any], loader: Iterable[Any], score: Score, show_progress: bool
) -> tuple[Tensor, Tensor]:
    """Logits (n, M) and labels (n,) of the whole loader, on the CPU."""
    logits, labels, doubt = [], [], Doubt(score.head)
    # Inference mode is not used, because the fit could not use its tensors.
    with (
        torch.inference_mode(False),
        untouched(forward_func),
    ):
        found = labelled_batches(loader, description="Temperature", show_progress=show_progress)
        for number, (inputs, classes) in enumerate(found):
            with explained(forward_func, (inputs,)):
                output = read_logits(forward_func(placed(forward_func, inputs)))
            values = _class_logits(output, len(inputs), score, number)
            check_label_range(classes, values.shape[1])
            doubt.see(output)
            logits.append(values.to("cpu", copy=True))
            labels.append(classes.cpu())
        if len({values.shape[1] for values in logits}) != 1:
            raise ArgumentError(
                f"Expected `forward_func` to return as many classes for every batch; got "
                f"{[values.shape[1] for values in logits]}."
            )
        doubt.say()
        return torch.cat(logits), torch.cat(labels)


def _class_logits(output: Tensor, count: int, score: Score, number: int) -> Tensor:
    """A batch's logits (B, M); one logit f becomes the two classes' (0, f)."""
    single = score.head == "sigmoid"
    form = "one logit per example, (N,) or (N, 1)," if single else "(N, M)"
    if (
        output.dim() == 0
        or len(output) != count
        or (output.numel() != count if single else output.dim() != 2)
    ):
        raise ArgumentError(
            f"Expected `forward_func` to return {form} for head={score.head!r} and "
            f"{count} examples; got {describe(output)}."
        )
    if single:
        output = output.reshape(-1)
        score.check(output, None)
    else:
        score.check(output, torch.zeros(count, 1, dtype=torch.long))
    values = scaled_logits(output, score.head, 1.0)
    if not bool(values.isfinite().all()):
        raise ArgumentError(
            f"Expected `forward_func` to return finite numbers; its output for batch {number} "
            f"holds NaN or infinity."
        )
    return torch.stack([torch.zeros_like(values), values], dim=1) if single else values


def _offset(score: Score, classes: int) -> Tensor:
    """The term that the posterior adds to the tempered logits: log π for PC-softmax."""
    if score.trained_with == "pc_softmax" and score.class_prior is not None:
        return score.class_prior.log()
    return torch.zeros(classes, dtype=torch.float64)


def _not_identified(logits: Tensor, labels: Tensor, offset: Tensor) -> str | None:
    """The reason if no finite temperature is best; the likelihood is concave in 1/τ."""
    if len(labels.unique()) == 1:
        return f"all {len(labels)} labels are class {int(labels[0])}"
    slope, separable = 0.0, True
    for values, classes in chunks(logits, labels):
        of_label = values.gather(1, classes[:, None])[:, 0]
        slope += float((of_label - values @ offset.softmax(0)).sum())
        separable = separable and bool((of_label == values.amax(1)).all())
    if slope <= 0:
        return (
            "the logits of the labels are no larger than the average, as if labels and outputs "
            "numbered the classes differently"
        )
    if separable:
        return f"all {len(labels)} labels are the likeliest class; more data would bound it"
    return None


def _minimise(logits: Tensor, labels: Tensor, offset: Tensor) -> float:
    """The best temperature, by LBFGS over its logarithm."""
    with torch.inference_mode(False), torch.enable_grad():
        # The search starts where the logits have size 1, so their scale does not matter.
        spread = sum(float(values.std(1).sum()) for values, _ in chunks(logits, labels))
        logarithm = torch.tensor(spread / len(labels), dtype=torch.float64).log().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [logarithm],
            max_iter=200,
            tolerance_grad=1e-10,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def loss() -> float:
            optimiser.zero_grad()
            total = 0.0
            for values, classes in chunks(logits, labels):
                tempered = values / logarithm.exp() + offset
                part = F.cross_entropy(tempered, classes, reduction="sum") / len(labels)
                part.backward()
                total += float(part.detach())
            return total

        optimiser.step(loss)
        return float(logarithm.detach().exp())
