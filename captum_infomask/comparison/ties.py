# Pixels of equal value: a map gives them no order, so whatever ranks a map gives them none.
#
# A window gives all its pixels one value, and a rectifier gives many a 0. A sort would leave them
# in reading order, which has nothing to do with the map. So equal pixels are one group:
#
# - what counts pixels by rank (the pointing game, relevance rank, average precision) is the mean
#   over all orders of the pixels of each group, in closed form;
# - a walk (deletion, insertion) shows the network whole groups, and is a straight line from where a
#   group begins to where it ends;
# - a threshold (the rules of masks, boxes) never cuts a group in two.
#
# All of this stays as it is where a picture is turned or mirrored together with its map.
from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def group_edges(ranked: Tensor) -> Tensor:
    """Where groups of equal values begin, and where the last one ends.

    Args:
        ranked: (P,), in order.

    Returns:
        Long (G + 1,), from 0 to P, on the CPU.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.ties import group_edges
        >>> group_edges(torch.tensor([3.0, 1.0, 1.0, 0.0])).tolist()
        [0, 1, 3, 4]
    """
    changes = (ranked[1:] != ranked[:-1]).nonzero()[:, 0].cpu() + 1
    return torch.cat([torch.tensor([0]), changes, torch.tensor([len(ranked)])])


def mean_average_precision(values: Tensor, right: Tensor) -> float:
    r"""Average precision of a ranking, largest first, as its mean over all orders of equal values.

    .. math::

        \frac{1}{K} \sum_{k=1}^{P} \frac{r_g}{n_g} \cdot
            \frac{1}{k} \Bigl(1 + b_g + (k - s_g - 1) \frac{r_g - 1}{n_g - 1}\Bigr),

    where the k-th place lies in a group g of n values, r of them right, after s values of which b
    are right; K are right in all. A group of one takes the last fraction as 0.

    Args:
        values: (P,).
        right: (P,), boolean, K ≥ 1 of them True.

    Returns:
        From 0 to 1.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.ties import mean_average_precision
        >>> mean_average_precision(torch.tensor([1.0, 1.0]), torch.tensor([True, False]))
        0.75

    Source: F. McSherry, M. Najork: "Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores", ECIR 2008.
    """
    order = values.argsort(descending=True)
    edges = group_edges(values[order])
    found: npt.NDArray[np.int64] = np.cumsum(right[order].cpu().numpy())
    starts, sizes = edges[:-1].numpy(), edges.diff().numpy()
    seen = np.concatenate([[0], found])[edges.numpy()]
    group = np.repeat(np.arange(len(sizes)), sizes)
    n, hits, before = sizes[group], np.diff(seen)[group], seen[:-1][group]
    places = np.arange(len(group))
    others = (places - starts[group]) * (hits - 1) / np.maximum(n - 1, 1)
    precision = (1 + before + others) / (places + 1)
    return float((hits / n * precision).sum() / found[-1])
