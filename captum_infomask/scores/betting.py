# Bets on labels, picture by picture. Capital that grows is evidence that views tell the labels.
from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# The shares of the capital that are bet. Their mean capital is that of one share per picture,
# chosen by the capital before it; it is at most three bits less than that of the best of them.
SHARES = np.array([1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 15 / 16])

_LN2 = math.log(2)

# AnyPrior rounds posteriors to quarters of a bit of log-odds, up to 16 bits on either side.
_PER_BIT = 4
_MOST_BITS = 16
_POSTERIORS = 1 / (
    1 + np.exp2(-np.arange(-_PER_BIT * _MOST_BITS, _PER_BIT * _MOST_BITS + 1) / _PER_BIT)
)

# The shares θ that it mixes, as arcsin √θ: half of the weight on a coarse grid, half on a fine one.
_COARSE, _FINE = ((np.arange(count) + 0.5) * (math.pi / 2 / count) for count in (32, 512))


class KnownPrior:
    r"""Capital of bets on the label of every picture, at each of R places; the prior is known.

    A bet on the picture's label y at the odds of the prior π pays :math:`2^{i(y; v)} = q(y | v) /
    \pi_y`. The capital after n pictures is

    .. math::

        E_n = \operatorname{mean}_\lambda \prod_{i \le n}
            \left(1 - \lambda + \lambda\, 2^{i(y_i; v_i)}\right).

    If labels have the distribution π and do not depend on the views, each factor has the mean 1, so
    E is an e-process: :math:`P(\exists n: E_n \ge 1/\alpha) \le \alpha`.

    Args:
        places: R.

    Source: Waudby-Smith & Ramdas, JRSS B 86(1), 2024, arXiv 2010.09686 (bets); Cover, Mathematical
    Finance 1(1), 1991 (the mean over shares).
    """

    def __init__(self, places: int) -> None:
        self._log_capital = np.zeros((len(SHARES), places))

    def add(self, bits: Floats) -> None:
        """Bet on n pictures, in their order: i(y; v) in bits, (n, R); NaN bets nothing."""
        paid = np.where(np.isnan(bits), 0.0, bits) * _LN2
        shares = SHARES[:, None, None]
        self._log_capital += np.logaddexp(np.log1p(-shares), np.log(shares) + paid).sum(1)

    def log2_e_values(self) -> Floats:
        """log₂ E of each place, (R,)."""
        return _log2_mean(self._log_capital)


class AnyPrior:
    r"""Capital of bets on each of M classes against all others, at each of R places.

    The labels' distribution need not be known. Let class c have :math:`n_c` of n pictures. A bet
    on c, or on "not c", pays by the view's posterior q, mixed with one share θ for all pictures:

    .. math::

        E_n = \binom{n}{n_c} \operatorname{mean}_{\lambda, \theta} \prod_{i \le n}
            \left((1 - \lambda)\, \theta_i + \lambda\, q_i\right), \qquad
        (\theta_i, q_i) = \begin{cases}
            (\theta,\; q(c \mid v_i)) & y_i = c \\
            (1 - \theta,\; 1 - q(c \mid v_i)) & y_i \ne c.
        \end{cases}

    Two facts make it evidence. If labels are independent draws from any distribution, in which c
    has the chance π, then :math:`\binom{n}{n_c} \pi^{n_c} (1 - \pi)^{n - n_c} \le 1`. So E is at
    most the capital of fair bets at the true odds, and :math:`P(\exists n: E_n \ge 1/\alpha) \le
    \alpha`. If the labels are any fixed numbers, in any order, and every match of them with the
    pictures was equally likely, then :math:`E[E_n] \le 1` for the fixed n: the product is a
    distribution over the :math:`\binom{n}{n_c}` ways to match, and does not change with the
    pictures' order. A share that follows the labels before would break the second: sorted labels
    are easy to foretell.

    The views decide which classes are bet on. A class that is not bet on keeps its capital.
    Posteriors are rounded to quarters of a bit of log-odds, so the sums are counts.

    Args:
        classes: M.
        places: R.

    Source: universal inference, Wasserman, Ramdas & Balakrishnan, PNAS 117(29), 2020, arXiv
    1912.11436 (a supremum over the unknown distribution); Krichevsky & Trofimov, IEEE Transactions
    on Information Theory 27(2), 1981 (the mean over θ, even in arcsin √θ).
    """

    def __init__(self, classes: int, places: int) -> None:
        # Bets at each class and place: on pictures of other classes and of this one, by log-odds.
        self._bets = np.zeros((classes, places, 2, len(_POSTERIORS)), np.int32)
        self.counts: Counts = np.zeros(classes, np.int64)

    def add(self, labels: Counts, classes: Counts, posteriors: Floats) -> None:
        """Bet on n pictures.

        Args:
            labels: The pictures' labels, (n,).
            classes: The classes that are bet on, (n, R, K), each at most once at a place.
            posteriors: Their q(c | v), (n, R, K); NaN bets nothing.
        """
        is_bet = ~np.isnan(posteriors)
        q = np.clip(posteriors[is_bet], *_POSTERIORS[[0, -1]])
        level = np.rint(_PER_BIT * np.log2(q / (1 - q))).astype(np.int64) + _PER_BIT * _MOST_BITS
        place = np.broadcast_to(np.arange(self._bets.shape[1])[:, None], classes.shape)[is_bet]
        is_own = (classes == labels[:, None, None])[is_bet].astype(np.int64)
        np.add.at(self._bets, (classes[is_bet], place, is_own, level), 1)
        self.counts = self.counts + np.bincount(labels, minlength=len(self.counts))

    def log2_e_values(self) -> Floats:
        """log₂ E of each class and place, (M, R)."""
        total = int(self.counts.sum())
        of_class = [
            _capital(bets, int(own), total)
            for bets, own in zip(self._bets, self.counts, strict=True)
        ]
        return np.stack(of_class) / _LN2


def _capital(bets: npt.NDArray[np.int32], own: int, total: int) -> Floats:
    """Log E of bets on a class that ``own`` of the pictures have, at each place, (R,)."""
    # Fine shares far from the class's own count for little. Leaving them out makes E smaller.
    angle, width = math.asin(math.sqrt((own + 0.5) / (total + 1))), 0.5 / math.sqrt(total + 1)
    fine = _FINE[np.abs(_FINE - angle) <= 6 * width]
    mixed = np.sin(np.concatenate([_COARSE, fine])) ** 2
    weights = np.repeat(0.5 / np.array([len(_COARSE), len(_FINE)]), [len(_COARSE), len(fine)])
    posteriors = np.stack([1 - _POSTERIORS, _POSTERIORS])
    shares = np.stack([1 - mixed, mixed])
    pays = posteriors[:, None, None] / shares[:, None, :, None]  # (2, 1, T, B)
    bet = SHARES[:, None, None]
    gains = np.log1p(bet * (pays - 1))  # (2, L, T, B)
    counts = bets.astype(np.float64)
    capital = np.einsum("rob,oltb->ltr", counts, gains, optimize=True)
    capital += (own * np.log(mixed) + (total - own) * np.log1p(-mixed) + np.log(weights))[:, None]
    ways = math.lgamma(total + 1) - math.lgamma(own + 1) - math.lgamma(total - own + 1)
    parts = capital.reshape(-1, len(bets))
    summed: Floats = np.logaddexp.reduce(parts, axis=0)
    return summed + ways - math.log(len(SHARES))


def log2_of_mean(log2_e: Floats, axis: int) -> Floats:
    """log₂ of the mean of e-values along an axis; the mean of e-values is an e-value."""
    total: Floats = np.logaddexp2.reduce(log2_e, axis=axis)
    return total - math.log2(log2_e.shape[axis])


def _log2_mean(log_capital: Floats) -> Floats:
    """log₂ of the mean over the shares, (L, ...) → (...)."""
    return log2_of_mean(log_capital / _LN2, 0)
