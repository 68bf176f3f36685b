# compare() runs methods side by side on the same pictures, and measures them.
from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from captum_infomask._categories import numbered
from captum_infomask._checks import boolean, named_like, one_of, random_seed, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._messages import progress_bar, said_once
from captum_infomask._process import default_on_cpu
from captum_infomask._types import Shape, Target
from captum_infomask.comparison.compare_arguments import (
    Fill,
    checked_images,
    checked_rule,
    checked_target,
    fill_picture,
    network_answers,
    shown_pictures,
    targets_among,
)
from captum_infomask.comparison.labelled_pictures import (
    check_labels_among,
    checked_labels,
    reliability_of,
)
from captum_infomask.comparison.method_adapters import as_method
from captum_infomask.comparison.method_protocol import Method
from captum_infomask.comparison.methods import (
    METHOD_NAMES,
    checked_setting,
    make_methods,
    read_methods,
    score_in_bits,
)
from captum_infomask.comparison.provenance import (
    call_words,
    named_settings,
    setting_words,
    versions,
)
from captum_infomask.comparison.run_methods import (
    Task,
    agreement_of,
    metric_columns,
    outcome_of,
    run_methods,
    troubles_of,
    with_differences,
)
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.isolation import Isolation, alias
from captum_infomask.engines.untouched import modes_kept
from captum_infomask.evaluation.choose_metrics import Metrics, choose_metrics
from captum_infomask.evaluation.given_truth import GroundTruth, ground_truth as read_truth
from captum_infomask.masks import MaxFraction, Rule
from captum_infomask.results.comparison import Comparison
from captum_infomask.results.map_pictures import Pictures
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.scores.targets import Named, network_and_names

if TYPE_CHECKING:
    from typing_extensions import Unpack

_OF_METHODS = (
    " Arguments of a method go with it: methods={'mine': (InfoMask(network), {'view': 'drop'})}."
)
_HABITS = {
    **dict.fromkeys(("class_names", "classes", "names"), " Did you mean 'categories'?"),
    **dict.fromkeys(
        ("view", "regions", "imputer", "engine", "n_samples", "crop_size"), _OF_METHODS
    ),
    "unit": " A comparison is in bits.",
    "device": " A comparison runs where the network and its inputs are: network.to(device).",
}


@told(_HABITS, options_of=Score, without=("unit",))
@said_once()
@modes_kept()
@default_on_cpu()
def compare(
    model: Callable[..., Any] | Named,
    inputs: Tensor,
    target: Target = None,
    *,
    methods: str | Sequence[str] | Mapping[str, Any] | None = None,
    layer: str | nn.Module | None = None,
    sliding_window_shapes: Shape | None = None,
    strides: int | Shape | None = None,
    metrics: Metrics = None,
    ground_truth: GroundTruth | None = None,
    labels: Sequence[int] | Sequence[str] | Tensor | None = None,
    baselines: Fill | None = None,
    rule: Rule | float | None = None,
    pictures: Pictures | None = None,
    categories: Sequence[str] | None = None,
    seed: int = 0,
    show_progress: bool = False,
    reference: str | None = None,
    score: Score | None = None,
    **settings: Unpack[ScoreSettings],
) -> Comparison:
    """Run attribution methods side by side on the same pictures, and measure them.

    Pictures are taken one after another, so only the maps need memory that grows with their number.
    If a method fails on a picture, its row has the error, and the other methods go on. Afterwards
    the model, the inputs and PyTorch's random states are as they were. Functions among the methods
    are the exception (docs/engines.md has the limits).

    Args:
        model: The network: images (N, C, H, W) → outputs (N, M), or (N,) for one logit each. Or a
            ``Classifier``, which brings the categories.
        inputs: Images, (N, C, H, W), as the network takes them.
        target: The class, in any form that Captum accepts, or by its name if the categories are
            known; each picture's prediction if None.
        methods: Names of default methods, whatever their case, hyphens and spaces; or a mapping
            from names to methods. A method is one of ``captum.attr``'s or a function ``(model,
            inputs, target, **kwargs)`` → attributions, alone or in a pair with a dict of further
            arguments. If a tensor among these has one entry per picture, each picture gets its own
            entry. None takes :func:`default_methods`.
        layer: Grad-CAM's layer or its name; None takes the last feature map.
        sliding_window_shapes: InfoMask's and Occlusion's windows (C, h, w), in pixels; None takes a
            quarter of the sides, an eighth apart.
        strides: Steps between windows.
        metrics: Names of metrics, metrics, or functions, as :func:`choose_metrics` takes them. None
            takes deletion and insertion. With ``ground_truth`` it adds the metrics that this
            allows.
        ground_truth: The pixels that are known to be right: masks (N, H, W), boxes, or label maps,
            as :func:`ground_truth` takes them.
        labels: The pictures' true classes, one per picture, by number, or by name if the categories
            are known. The network was **not** trained on these pictures. Then
            :func:`bits_reliability` checks whether the bits are true: those of each InfoMask that
            reads ``crop``, ``keep`` or ``features``; if there is none, those of
            ``view="crop"`` with the comparison's score and windows. All pictures are scored at once
            for it.
        baselines: The values of hidden pixels, the same for all methods and metrics: a number, or a
            picture (1, C, H, W); 0 if None.
        rule: The rule that cuts attributions into masks, the same for all methods. None takes the
            paper's 20% of each map's maximum. If one of the maps is a density, as InfoMask's
            default map is, None takes half of each map's maximum.
        pictures: The pictures to show: uint8 (N, H, W, 3), or Pillow's, of the inputs' size; or a
            mapping from their files' names to them, which the report then names. None shows the
            inputs, scaled to 0..255.
        categories: The classes' M names; with ``groups`` the groups' names.
        seed: The seed of all random draws. Every method starts from it anew on every picture.
        show_progress: Show progress bars on stderr.
        reference: The method that all others are compared with; the first InfoMask if None.
        score: How the outputs are read, in bits. Any head but ``raw``, which has no probabilities,
            will do. Methods made by name, metrics, predictions and the report read outputs in this
            way. Methods that the user gives read them in their own way. With groups of classes,
            targets, predictions and probabilities are those of the groups. Functions, and methods
            over the network itself that know of no groups, get log Σ exp of each group's logits as
            its output. An InfoMask that is given must have the same groups.
        **settings: The settings of :class:`Score` by name, except ``unit``, instead of ``score``.

    Returns:
        A :class:`Comparison`: maps, masks, metrics, costs; tables, figures, the report.

    Raises:
        ArgumentError: An argument is wrong; the error comes before any forward pass if it can be
            known by then. Or the network does not return finite outputs that the head can read.

    Warns:
        UserWarning: Outputs that are read as logits look like probabilities, or the network is in
            training mode.

    Example:
        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_infomask import compare, default_methods
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        >>> x = torch.rand(1, 3, 16, 16)
        >>> mine = {"Saliency": Saliency(net), "input": lambda model, x, target: x}
        >>> compare(net, x, 1, methods={**default_methods(net, x), **mine})
        Comparison(1 picture × 8 methods)
    """
    as_value = score
    score = score_in_bits(score, settings)
    network, names = network_and_names(model, categories, score.groups)
    images = checked_images(network, inputs)
    target = numbered("target", target, names, "compare(model, inputs, categories=names)")
    table = checked_target(target, len(images))
    if table is not None:
        score.check_target(torch.tensor(table)[:, None])
    true_classes = checked_labels(labels, len(images), names, score)
    setting = checked_setting(
        network, images, layer, sliding_window_shapes, strides, baselines, score
    )
    by_name, given = read_methods(methods)
    _check_groups(given, score)
    chosen = choose_metrics(metrics, has_truth=ground_truth is not None)
    rule = checked_rule(rule)
    boolean("show_progress", show_progress)
    seed = random_seed(seed)
    shown, sources = shown_pictures(pictures, images)
    if reference is not None:
        known = METHOD_NAMES if by_name is None else (*by_name, *given)
        reference = named_like("reference", reference, known)
    truths = None
    if ground_truth is not None and table is not None:
        truths = read_truth(ground_truth, images, table)

    own, isolation = _copied(network)
    answered = network_answers(own, images, seed, score)
    answers = answered.log_probabilities
    targets = targets_among(table, answers, names)
    check_labels_among(true_classes, answers.shape[1])
    score.check_target(torch.tensor(targets)[:, None])
    if ground_truth is not None and truths is None:
        truths = read_truth(ground_truth, images, targets)
    made = make_methods(setting, by_name)
    ran = (*given.values(), *(as_method(name, one) for name, one in made.items()))
    if isolation is not None:
        ran = tuple(method.isolated(isolation) for method in ran)
    against = _reference(ran, reference)
    has_density = any(method.is_density(images) for method in ran)
    cut = MaxFraction(0.5 if has_density else 0.2) if rule is None else rule
    task = Task(
        model=own,
        users=network,
        score=score,
        has_classes=answered.has_classes,
        methods=ran,
        metrics=chosen,
        rule=cut,
        fill=fill_picture(images[:1], setting.fill),
        pictures=len(images),
        seed=seed,
        show_progress=show_progress,
    )
    found = []
    total = len(images) * len(ran)
    bar = progress_bar(total=total, desc="Comparison", unit="map", show=show_progress)
    with bar:
        warn_of_mode(network, is_sampled=not getattr(network, "training", False))
        for k, (picture, label) in enumerate(zip(images.split(1), targets, strict=True)):
            found.append(run_methods(task, picture, label, k, truths[k] if truths else None, bar))
    reliability, unchecked = reliability_of(task, setting, isolation, true_classes)
    outcomes = [
        outcome_of(method, [picture[m] for picture in found], chosen)
        for m, method in enumerate(ran)
    ]
    return Comparison(
        pictures=shown,
        targets=np.array(targets),
        labels=tuple(names[label] if names else f"class {label}" for label in targets),
        predictions=likeliest(answers, targets, score),
        log_probabilities=answers[torch.arange(len(targets)), targets].numpy(),
        classes=answers.shape[1],
        log_priors=_log_priors(score, targets, answered.outputs),
        outcomes=with_differences(outcomes, against, seed),
        rule=cut,
        metrics=metric_columns(chosen),
        reference=against,
        truth=None if truths is None else np.stack([truth.mask.numpy() for truth in truths]),
        agreement=agreement_of(outcomes),
        troubles=(*troubles_of(ran, found), *unchecked),
        settings=setting_words(setting, made=bool(made), given=model),
        seed=seed,
        versions=versions(),
        call=call_words(
            network,
            {
                "target": targets,
                "methods": methods,
                "layer": layer,
                "sliding_window_shapes": sliding_window_shapes,
                "strides": strides,
                "metrics": metrics,
                "ground_truth": ground_truth,
                "labels": labels,
                "baselines": baselines,
                "rule": rule,
                "pictures": pictures,
                "categories": categories,
                "seed": seed,
                "reference": reference,
                "score": as_value,
                **named_settings(score, settings),
            },
        ),
        date=datetime.date.today().isoformat(),
        sources=sources,
        reliability=reliability,
    )


def _copied(network: Callable[..., Any]) -> tuple[Callable[..., Any], Isolation | None]:
    """Return a copy of the network, and the isolation by which methods follow it.

    If not all can be copied, the methods run on the network itself, which is then restored.
    """
    isolation = Isolation(alias)
    own = isolation.copy(network)
    return (own, isolation) if isolation.is_whole else (network, None)


def likeliest(answers: Tensor, targets: Sequence[int], score: Score) -> npt.NDArray[np.int64]:
    """Return the likeliest classes; of independent labels, the target if likelier than not."""
    found = answers.argmax(1)
    if score.head == "sigmoid":
        found[answers.amax(1) <= math.log(0.5)] = -1
        asked = torch.tensor(targets)
        found = torch.where(answers[torch.arange(len(asked)), asked] > math.log(0.5), asked, found)
    labels: npt.NDArray[np.int64] = found.numpy()
    return labels


def _log_priors(
    score: Score, targets: Sequence[int], outputs: int
) -> npt.NDArray[np.float64] | None:
    """Return the targets' log π; None if all the network's outputs are equally likely classes."""
    if score.class_prior is None and score.groups is None and score.head != "sigmoid":
        return None
    found: npt.NDArray[np.float64] = score.log_priors(torch.tensor(targets), outputs).numpy()
    return found


def _check_groups(given: Mapping[str, Method], score: Score) -> None:
    """Refuse InfoMasks with other classes or groups than the comparison's."""
    for name, method in given.items():
        if method.score is not None:
            method.score.with_classes(f"`methods`[{name!r}] of compare is about classes")
        if method.score is not None and method.score.groups != score.groups:
            raise ArgumentError(
                f"Expected `methods`[{name!r}] to be an InfoMask with the `groups` of the "
                f"comparison, which targets count; got {short_repr(method.score.groups)} and "
                f"{short_repr(score.groups)}."
            )


def _reference(methods: Sequence[Method], reference: str | None) -> str:
    """Return the name of the method that all others are compared with, if there is one."""
    if reference is not None:
        return one_of("reference", reference, [method.name for method in methods])
    return next((method.name for method in methods if method.score is not None), "")
