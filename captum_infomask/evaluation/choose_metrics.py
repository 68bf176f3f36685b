# Turns the user's choice into metrics by name.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.localisation_metrics import (
    AveragePrecision,
    BestBoxIoU,
    MaskIoU,
    MaxBoxAcc,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
)
from captum_infomask.evaluation.metric_adapters import FunctionMetric, adapted
from captum_infomask.evaluation.metric_protocol import Metric
from captum_infomask.evaluation.network_metrics import Deletion, Infidelity, Insertion, Sensitivity

Metrics: TypeAlias = str | Metric | Iterable[str | Metric | Any] | Mapping[str, Any] | None

METRICS: dict[str, Callable[[], Metric]] = {
    "deletion": Deletion,
    "insertion": Insertion,
    "infidelity": Infidelity,
    "sensitivity": Sensitivity,
    "pointing_game": PointingGame,
    "iou": MaskIoU,
    "relevance_mass": RelevanceMass,
    "relevance_rank": RelevanceRank,
    "average_precision": AveragePrecision,
    "box_iou": BestBoxIoU,
    "max_box_acc": MaxBoxAcc,
}
# These metrics run the network, or the method itself, many times more.
_ONLY_IF_ASKED_FOR = ("infidelity", "sensitivity")


def choose_metrics(metrics: Metrics, has_truth: bool) -> dict[str, Metric]:
    """Return the chosen metrics by name.

    Args:
        metrics: None for deletion and insertion and, if the right pixels are known, all metrics
            that need them. Or a name or ``all``; a metric; a list of names and metrics; or a
            mapping from names to metrics and functions of a :class:`Sample` that return a number.
            Metrics of the packages Quantus and pytorch-grad-cam are accepted too.
        has_truth: Whether the right pixels are known.

    Returns:
        The metrics, in the order of the choice. ``all`` leaves out unavailable metrics.

    Raises:
        ArgumentError: A name is unknown (the error gives the nearest name); an entry is not a
            metric; two metrics have one name; or a metric needs the right pixels and none are
            known.

    Example:
        >>> from captum_infomask.evaluation.choose_metrics import choose_metrics
        >>> from captum_infomask.evaluation.network_metrics import Deletion
        >>> list(choose_metrics(None, has_truth=False))
        ['deletion', 'insertion']
        >>> largest = {"fine": Deletion(128), "largest": lambda sample: sample.plane.max()}
        >>> list(choose_metrics(largest, has_truth=False))
        ['fine', 'largest']
    """
    if metrics is None:
        return _available(has_truth, leave_out=_ONLY_IF_ASKED_FOR)
    if metrics == "all":
        return _available(has_truth)
    if isinstance(metrics, Mapping):
        chosen = {_checked_name(name): _mapped(name, one) for name, one in metrics.items()}
    else:
        chosen = {}
        for one in metrics if isinstance(metrics, list | tuple) else [metrics]:
            metric = METRICS[one_of("metrics", one, METRICS)]() if _is_name(one) else _metric(one)
            if metric.name in chosen:
                raise ArgumentError(
                    f"Expected `metrics` of different names; got {metric.name!r} twice. A mapping "
                    "from names to metrics tells them apart."
                )
            chosen[metric.name] = metric
    missing = [name for name, metric in chosen.items() if metric.needs_truth and not has_truth]
    if missing:
        raise ArgumentError(
            f"Expected `ground_truth` for `metrics` {missing[0]!r}, which needs to know the right "
            "pixels; got None."
        )
    return chosen


def _available(has_truth: bool, leave_out: tuple[str, ...] = ()) -> dict[str, Metric]:
    """All available metrics."""
    made = {name: kind() for name, kind in METRICS.items() if name not in leave_out}
    return {name: metric for name, metric in made.items() if has_truth or not metric.needs_truth}


def _is_name(given: object) -> bool:
    """Whether this is meant as a metric's name."""
    return isinstance(given, str)


def _checked_name(given: object) -> str:
    """Return the key of a mapping if it can be a metric's name in a table."""
    if not isinstance(given, str) or not given:
        raise ArgumentError(f"Expected `metrics` with names as keys; got {describe(given)}.")
    return given


def _mapped(name: str, given: Any) -> Metric:
    """A metric, or a function under the user's name for it."""
    ours = isinstance(given, type | Metric) or adapted(given) is not None
    return FunctionMetric(name, given) if callable(given) and not ours else _metric(given)


def _metric(given: Any) -> Metric:
    """A metric, or an adapter around a metric of another package."""
    foreign = adapted(given)
    if foreign is not None:
        return foreign
    if isinstance(given, type) or not isinstance(given, Metric):
        hint = ""
        if isinstance(given, type):
            hint = f" Make one: {given.__name__}()."
        elif callable(given):
            hint = " A function needs a name: metrics={'name': function}."
        raise ArgumentError(
            f"Expected `metrics` to hold names and metrics; got {describe(given)}.{hint}"
        )
    return given
