# ROAD's noisy linear imputer.
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._types import Tensors
from captum_infomask.imputers.imputer_protocol import Filled, StandIn, float_places, visible_means
from captum_infomask.imputers.noise import Draw, noise

_PRECISION, _MOST_STEPS = 1e-10, 2000  # of conjugate gradients

if TYPE_CHECKING:
    from scipy.sparse import csc_array


@dataclass(frozen=True)
class NoisyLinear:
    r"""Each hidden pixel is the weighted mean of its eight neighbours plus noise.

    .. math::

        \hat x_p = \sum_{q \in N(p)} w_{pq}\, \hat x_q,
        \qquad \hat x_q = x_q \text{ where q is visible},

    with weights 1/6 for direct and 1/12 for diagonal neighbours. These are the product of (1, 2, 1)
    along both places without its middle, over their sum; signals and volumes take the same product
    along theirs, with 2 and 26 neighbours. Neighbours may be hidden too. At
    the picture's border some neighbours are missing, and the other weights are scaled to a sum of
    1. Each region is one sparse linear system, solved exactly; for volumes it is solved by
    conjugate gradients, to 10⁻¹⁰. Normal noise is then added to the
    solution, because without noise a network could see a region's shape by its smoothness. If a
    whole channel is hidden, its mean replaces the solution. The work is done on the CPU.

    It is a random imputer: :meth:`draw` gives its draws, which differ in the noise.

    Args:
        noise: Standard deviation of the noise, as a share of the picture's own standard deviation
            (all channels together). So the range of the pictures does not matter. ROAD's pictures
            are normalised to a deviation of about 1. With 0 all draws are equal: then pass
            ``n_samples=1``.

    Raises:
        ArgumentError: ``noise`` is below 0; when used: the inputs are not floating-point images,
            signals or volumes.

    Example:
        >>> from captum_infomask.imputers import NoisyLinear
        >>> import torch
        >>> x = torch.arange(7.0).expand(1, 1, 7, 7)
        >>> hidden = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
        >>> hidden[..., 2:5, 2:5] = True
        >>> (filled,) = NoisyLinear(noise=0).prepare((x,))(torch.tensor([0]), (hidden,))
        >>> torch.allclose(filled, x)
        True

    Source: Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
    (ROAD), arXiv 2202.00449.
    """

    noise: float = 0.01

    def __post_init__(self) -> None:
        finite_number("noise", self.noise, least=0)

    def prepare(self, inputs: Tensors) -> StandIn:
        """The first draw of seed 0."""
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed: int, index: int) -> Draw:
        """The imputer with the noise of one draw."""
        return Draw(self._make, seed, index)

    def _make(self, inputs: Tensors, seed: int, index: int) -> StandIn:
        float_places("NoisyLinear", inputs)
        filled = Filled(inputs, _filled)
        if self.noise == 0:
            return filled
        scales = (_deviation(x.detach().float()) for x in inputs)
        fields = zip(scales, noise("normal", inputs, seed, index), strict=True)
        return partial(
            _noisy, filled, tuple((self.noise * scale, field) for scale, field in fields)
        )


def _deviation(x: Tensor) -> Tensor:
    """The standard deviation of each picture, (n, 1, ...)."""
    return x.std(tuple(range(1, x.dim())), correction=0, keepdim=True)


def _noisy(
    filled: Filled,
    fields: tuple[tuple[Tensor, Tensor], ...],
    images: Tensor,
    hidden: tuple[Tensor | None, ...],
) -> Tensors:
    """Add each image's noise to the solution."""
    return tuple(
        x + (scale[images] * field).to(x)
        for x, (scale, field) in zip(filled(images, hidden), fields, strict=True)
    )


def _filled(pictures: Tensor, hidden: Tensor) -> Tensor:
    """Solve for the hidden pixels; channels and views with the same mask share a factorisation."""
    shape = pictures.shape
    means = visible_means(pictures, hidden).cpu().numpy().reshape(-1)
    values = pictures.cpu().to(torch.float64, copy=True).numpy().reshape(-1, *shape[2:])
    masks = hidden.cpu().expand(shape).numpy().reshape(-1, *shape[2:])
    planes = defaultdict(list)
    for number, mask in enumerate(masks):
        planes[mask.tobytes()].append(number)
    for numbers in planes.values():
        mask = masks[numbers[0]]
        if mask.all():
            values[numbers] = means[numbers].reshape(-1, *[1] * mask.ndim)
        elif mask.any():
            values[np.array(numbers)[:, None], mask] = _solved(values[numbers], mask)
    return torch.from_numpy(values.reshape(shape)).to(pictures)


def _solved(planes: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]) -> Any:
    """The hidden pixels (planes, hidden) of planes (planes, ...) with the same mask."""
    from scipy.sparse import csc_array, dia_array
    from scipy.sparse.linalg import splu

    places = np.flatnonzero(mask)
    weights = _weights(mask)
    totals = np.asarray(weights.sum(1)).reshape(1, -1)
    system = dia_array((totals, 0), shape=(len(places),) * 2) - weights[:, places]
    known = weights @ np.where(mask, 0, planes).reshape(len(planes), -1).T
    if mask.ndim > 2:
        return _by_gradients(system, known, totals[0]).T
    # The system is symmetric and diagonally dominant, so it needs no pivoting.
    factors = splu(
        csc_array(system),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return factors.solve(known).T


def _weights(mask: npt.NDArray[np.bool_]) -> csc_array:
    """Weights of each hidden pixel's neighbours, (hidden, H · W): 2 if direct, 1 if diagonal.

    These are ROAD's 1/6 and 1/12, times 12. With whole numbers the system is symmetric at the
    borders too. ROAD divides each row by its sum, which would not change the solution.
    """
    from scipy.sparse import coo_array, csc_array

    places = np.argwhere(mask)
    entries = []
    for step in product((-1, 0, 1), repeat=mask.ndim):
        if not any(step):
            continue
        there = places + step
        pixel = np.flatnonzero(((there >= 0) & (there < mask.shape)).all(1))
        weight = np.full(len(pixel), 2.0 ** step.count(0))
        entries.append((weight, pixel, np.ravel_multi_index(tuple(there[pixel].T), mask.shape)))
    weight, pixel, neighbour = (np.concatenate(part) for part in zip(*entries, strict=True))
    return csc_array(coo_array((weight, (pixel, neighbour)), shape=(len(places), mask.size)))


def _by_gradients(system: Any, known: Any, diagonal: Any) -> Any:
    """Solve a symmetric positive definite system by conjugate gradients, all columns at once.

    The factors of a volume's system would not fit into memory.
    """
    solved = np.zeros_like(known)
    left = known.copy()
    scaled = left / diagonal[:, None]
    step, product_before = scaled, (left * scaled).sum(0)
    least = _PRECISION**2 * np.maximum(product_before, np.finfo(float).tiny)
    for _ in range(_MOST_STEPS):
        moved = system @ step
        length = product_before / np.maximum((step * moved).sum(0), np.finfo(float).tiny)
        solved += length * step
        left -= length * moved
        scaled = left / diagonal[:, None]
        product_now = (left * scaled).sum(0)
        if (product_now <= least).all():
            break
        step = scaled + step * (product_now / np.maximum(product_before, np.finfo(float).tiny))
        product_before = product_now
    return solved
