# A function for the pointwise mutual information of a network's outputs and a class or a value.
from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._types import Target
from captum_infomask.scores.heads import Doubt
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.scores.targets import target_table
from captum_infomask.scores.values import Values, check_no_value, information_of_values

if TYPE_CHECKING:
    from typing_extensions import Unpack


@told(options_of=Score)
def information(
    output: Tensor,
    target: Target = None,
    *,
    value: Values = None,
    score: Score | None = None,
    **settings: Unpack[ScoreSettings],
) -> Tensor:
    r"""Pointwise mutual information between views and a class or a value, from a network's output.

    .. math::

        i(y; v) = \log p_\theta(y \mid v) - \log \pi_y,

    with :math:`\log p_\theta(y \mid v)` the log-softmax of the logits divided by ``temperature``.
    For a network trained by prior-corrected softmax it is
    :math:`f_y/\tau - \log \sum_k \pi_k e^{f_k/\tau}`. For ``sigmoid`` it is
    :math:`\log \sigma(f_y/\tau) - \log \pi_y`. For ``raw`` it is the output over :math:`\tau`
    itself, the paper's un-normalised critic. With a uniform prior both trainings give log-softmax +
    log M, at most log M. For a group G of classes it is
    :math:`\log \sum_{y \in G} p_\theta(y \mid v) - \log \sum_{y \in G} \pi_y`.

    Args:
        output: The network's output (B, M, ...), classes in dimension 1; (B,) or (B, 1) for
            ``sigmoid`` and ``raw``. Half precision is computed in float32. A probability of 0
            counts as the smallest one that the output's type can hold.
        target: The class, in any form that Captum accepts; one value per example. For a head of
            values, the column of the output.
        value: For a head of values (:class:`Gaussian`), the value y: a number, or one per example.
            None takes the outputs themselves.
        score: How the output is read.
        **settings: The settings of :class:`Score` by name, instead of ``score``.

    Returns:
        Tensor of shape (B,), float32, or float64 for float64 outputs, in ``unit``.

    Raises:
        ArgumentError: A setting is out of range, or ``output`` or ``target`` does not fit it.

    Warns:
        UserWarning: The output is read as logits but looks like probabilities.

    Example:
        >>> import torch
        >>> from captum_infomask import information
        >>> information(torch.tensor([[0.0, 0.0, 0.0, 100.0]]), target=3)
        tensor([2.])

    Source: Qin & Kim, arXiv 1910.02629, Eq. 17 to 23; PC-softmax: Qin, Kim & Gedeon,
    arXiv 1911.10688.
    """
    if not isinstance(output, Tensor) or output.dim() == 0:
        raise ArgumentError(
            f"Expected `output` to be a tensor of shape (B, M, ...); got {describe(output)}."
        )
    score = score_from(score, settings)
    table = target_table(target, len(output))
    if not score.has_classes:
        return information_of_values(score, output, table, value)
    check_no_value(value, score)
    score.check_target(table)
    score.check(output, table)
    doubt = Doubt(score.head)
    doubt.see(output)
    doubt.say()
    return score(output, table)
