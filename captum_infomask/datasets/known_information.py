# Information of patches that are independent given the label, in closed form.
from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK = 2**22  # numbers held at a time when all sets of patches are listed


def set_information(evidence: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    r"""Information of sets of patches, from the sums of their log-likelihoods.

    .. math::

        i(y; x_S) = L_y - \log \sum_k \pi_k e^{L_k}, \qquad L_k = \sum_{r \in S} \log p(x_r \mid k).

    Args:
        evidence: L of each set and class, (N, S, M), in nats, up to a constant per set.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, S), in nats.

    Source: Bayes' rule.
    """
    of_target = evidence.gather(2, target[:, None, None].expand(-1, evidence.shape[1], 1))[..., 0]
    return of_target - torch.logsumexp(evidence + log_prior, dim=2)


def single_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x_R) of each patch by itself: what the views ``crop`` and ``keep`` ask for.

    Args:
        log_likelihoods: log p(x_r | k), (N, R, M), in nats, up to a constant per patch.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, R), in nats.
    """
    return set_information(log_likelihoods, log_prior, target)


def total_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x) of the whole pictures, (N,), in nats; arguments as :func:`single_information`."""
    return set_information(log_likelihoods.sum(1, keepdim=True), log_prior, target)[:, 0]


def conditional_information(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    """i(y; x_R given the rest): the view ``drop``; as :func:`single_information`."""
    everything = log_likelihoods.sum(1, keepdim=True)
    rest = set_information(everything - log_likelihoods, log_prior, target)
    return set_information(everything, log_prior, target) - rest


def mean_over_orders(log_likelihoods: Tensor, log_prior: Tensor, target: Tensor) -> Tensor:
    r"""Mean of i(y; x_R given what came before R) over all orders of the patches: ``chain``.

    .. math::

        \varphi_r = \sum_{S \not\ni r} \frac{|S|!\,(R - |S| - 1)!}{R!}
                    \bigl[ i(y; x_{S \cup r}) - i(y; x_S) \bigr]

    Args:
        log_likelihoods: As :func:`single_information`, of at most 12 patches.
        log_prior: log π, (M,).
        target: y, long (N,).

    Returns:
        (N, R), in nats; the values of a picture sum to i(y; x).

    Source: Shapley, "A Value for n-Person Games", 1953.
    """
    _, patches, classes = log_likelihoods.shape
    numbers = torch.arange(2**patches)
    members = (numbers[:, None] >> torch.arange(patches)) & 1
    sizes = members.sum(1)
    # A set counts with plus for the patches in it, which came last, and minus for the others.
    weights = log_likelihoods.new_tensor(
        [1 / (patches * math.comb(patches - 1, before)) for before in range(patches)]
    )
    with_last = weights[(sizes - 1).clamp_min(0)][:, None] * members
    without = weights[sizes.clamp_max(patches - 1)][:, None] * (1 - members)
    shares = with_last - without
    chosen = members.to(log_likelihoods)
    rows = max(1, _CHUNK // (len(numbers) * classes))
    found = [
        set_information(chosen @ part, log_prior, labels) @ shares
        for part, labels in zip(log_likelihoods.split(rows), target.split(rows), strict=True)
    ]
    return torch.cat(found)
