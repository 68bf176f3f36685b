# Measures the bounds of a network's information about the labels in one pass over a loader.
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_infomask._batches import check_label_range, labelled_batches, placed
from captum_infomask._checks import (
    check_callable,
    check_initialised,
    describe,
    positive_int,
    random_seed,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._messages import warn
from captum_infomask._outputs import read_logits
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.untouched import untouched
from captum_infomask.scores.bounds import Sandwich, sandwich_rows, with_softmax
from captum_infomask.scores.heads import Doubt
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.scores.targets import Named, network_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


@told(options_of=Score)
def measure_bounds(
    forward_func: Callable[..., Any] | Named,
    loader: Iterable[Any],
    *,
    n_samples: int = 1,
    seed: int = 0,
    show_progress: bool = False,
    score: Score | None = None,
    **settings: Unpack[ScoreSettings],
) -> Sandwich:
    r"""Measure the bounds of a network's information about the labels over a loader, in one pass.

    .. math::

        E_z[T_y] - \log E_z\left[\sum_k \pi_k e^{T_k}\right] \;\le\; E_z[\log S_y]
            \;\le\; \log E_z[S_y] \;\le\; -\log \pi_y ,

    averaged over the loader's examples, with z the ``n_samples`` passes of each batch. The network,
    its mode and the random state do not change. Draws depend on ``seed`` and on the loader's
    batches.

    Args:
        forward_func: A network, function or ``Classifier`` that gives (B, M) for a batch of inputs.
            Put it into the mode that you want to measure. ``keep_dropout`` makes a network with
            dropout stochastic.
        loader: Yields (inputs, labels): finite inputs (B, ...), integers (B,).
        n_samples: S, the passes per batch of a stochastic network.
        seed: The seed of the draws of a stochastic network.
        show_progress: Show a progress bar on stderr.
        score: How the outputs are read; a softmax head.
        **settings: The settings of :class:`Score` by name, instead of ``score``.

    Returns:
        The bounds, their means over examples and standard errors.

    Raises:
        ArgumentError: A setting is out of range; the loader is empty or yields anything but finite
            inputs with labels; or the network's outputs do not fit.

    Example:
        >>> import torch
        >>> from captum_infomask import measure_bounds
        >>> loader = [(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 1]))]
        >>> print(f"{measure_bounds(torch.nn.Identity(), loader).information:.3f} bits")
        1.000 bits

    Source: Qin & Kim, arXiv 1910.02629, Eq. 25 to 27.
    """
    score = with_softmax(score_from(score, settings))
    forward_func = network_of(forward_func)
    check_callable("forward_func", forward_func)
    check_initialised("forward_func", forward_func)
    n_samples = positive_int("n_samples", n_samples)
    seed = random_seed(seed)
    # One sample also counts if only dropout is on, as with keep_dropout.
    is_sampled = n_samples > 1 or not getattr(forward_func, "training", False)
    warn_of_mode(forward_func, is_sampled=is_sampled)
    parts: list[Tensor] = []
    doubt = Doubt(score.head)
    with untouched(forward_func, seed):
        for inputs, labels in labelled_batches(
            loader, description="Measuring bounds", show_progress=show_progress
        ):
            shown = placed(forward_func, inputs)
            outputs = (read_logits(forward_func(shown)) for _ in range(n_samples))
            checked = (_checked(output, labels, score, len(parts), doubt) for output in outputs)
            with explained(forward_func, (inputs,)):
                parts.append(sandwich_rows(score, checked, labels.cpu()[:, None]))
    doubt.say()
    sandwich = Sandwich(torch.cat(parts, dim=1), n_samples, score.unit)
    if n_samples > 1 and sandwich.upper - sandwich.lower < 1e-9:
        warn(
            f"All {n_samples} passes gave the same: the network is deterministic, and its bounds "
            f"are equal. `with keep_dropout(model):` keeps its dropout on.",
        )
    return sandwich


def _checked(output: Tensor, labels: Tensor, score: Score, number: int, doubt: Doubt) -> Tensor:
    """Return a batch's output; refuse it if it does not fit the labels or the settings."""
    if output.dim() != 2 or len(output) != len(labels):
        raise ArgumentError(
            f"Expected `forward_func` to return ({len(labels)}, M), a value per class for each "
            f"example of batch {number}; got {describe(output)}."
        )
    check_label_range(labels, output.shape[1])
    doubt.see(output)
    table = labels.cpu()[:, None]
    score.check(output, table)
    score.check_target(table)
    if not bool(output.isfinite().all()):
        wrong = int((~output.isfinite().all(1)).sum())
        raise ArgumentError(
            f"Expected `forward_func` to return finite numbers; got NaN or infinity for {wrong} "
            f"of {len(output)} examples of batch {number}."
        )
    return output
