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

    The labels' distribution need not be known. Class c has occurred :math:`n_c` times in the i
    pictures before, so its chance is put at :math:`\tilde\pi = (n_c + 1) / (i + 2)`. A bet on c, or
    on "not c", pays by the view's posterior q:

    .. math::

        E_n = \frac{1}{n + 1} \operatorname{mean}_\lambda \prod_{i \le n}
            \left(1 - \lambda + \lambda \frac{q_i}{\tilde\pi_i}\right), \qquad
        \frac{q_i}{\tilde\pi_i} = \begin{cases}
            q(c \mid v_i) / \tilde\pi & y_i = c \\
            (1 - q(c \mid v_i)) / (1 - \tilde\pi) & y_i \ne c.
        \end{cases}

    Two facts make it evidence. If labels are independent draws from any distribution, E is at most
    the capital of fair bets at the true odds, so :math:`P(\exists n: E_n \ge 1/\alpha) \le \alpha`.
    If the labels are any fixed numbers and the pictures could have been in any order, then
    :math:`E[E_n] \le 1` for the fixed n: the product of the :math:`\tilde\pi` is
    :math:`1 / ((n + 1) \binom{n}{n_c})`, and :math:`\binom{n}{n_c}` is the number of orders.

    The views decide which classes are bet on. A class that is not bet on keeps its capital.

    Args:
        classes: M.
        places: R.

    Source: universal inference, Wasserman, Ramdas & Balakrishnan, PNAS 117(29), 2020, arXiv
    1912.11436 (a supremum over the unknown distribution); Laplace's rule of succession.
    """

    def __init__(self, classes: int, places: int) -> None:
        self._log_capital = np.zeros((len(SHARES), classes * places))
        self._places = places
        self.counts: Counts = np.zeros(classes, np.int64)

    def add(self, labels: Counts, classes: Counts, posteriors: Floats) -> None:
        """Bet on n pictures, in their order.

        Args:
            labels: The pictures' labels, (n,).
            classes: The classes that are bet on, (n, R, K), each at most once at a place.
            posteriors: Their q(c | v), (n, R, K); NaN bets nothing.
        """
        before = np.cumsum(labels[:, None] == np.arange(len(self.counts)), axis=0)
        earlier = self.counts + np.vstack([np.zeros_like(self.counts), before[:-1]])
        done = int(self.counts.sum()) + np.arange(len(labels))
        guess = np.take_along_axis(
            (earlier + 1) / (done + 2)[:, None], classes.reshape(len(labels), -1), axis=1
        ).reshape(classes.shape)
        is_own = classes == labels[:, None, None]
        q = np.clip(posteriors, 0.0, 1.0)
        pays = np.where(is_own, q / guess, (1 - q) / (1 - guess))
        at = classes * self._places + np.arange(self._places)[:, None]
        is_bet = ~np.isnan(pays)
        for k, share in enumerate(SHARES):
            gains = np.log1p(share * (pays[is_bet] - 1))
            self._log_capital[k] += np.bincount(
                at[is_bet], gains, minlength=self._log_capital.shape[1]
            )
        self.counts = self.counts + np.bincount(labels, minlength=len(self.counts))

    def log2_e_values(self) -> Floats:
        """log₂ E of each class and place, (M, R)."""
        capital = _log2_mean(self._log_capital) - math.log2(int(self.counts.sum()) + 1)
        return capital.reshape(len(self.counts), self._places)


def log2_of_mean(log2_e: Floats, axis: int) -> Floats:
    """log₂ of the mean of e-values along an axis; the mean of e-values is an e-value."""
    total: Floats = np.logaddexp2.reduce(log2_e, axis=axis)
    return total - math.log2(log2_e.shape[axis])


def _log2_mean(log_capital: Floats) -> Floats:
    """log₂ of the mean over the shares, (L, ...) → (...)."""
    return log2_of_mean(log_capital / _LN2, 0)
