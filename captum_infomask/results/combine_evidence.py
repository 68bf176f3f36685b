# Adds up what the places of many pictures say about their labels.
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from captum_infomask._batches import whole_numbers
from captum_infomask._categories import numbered
from captum_infomask._checks import describe, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.results.class_maps import ClassMaps
from captum_infomask.results.combined_evidence import By, CombinedEvidence
from captum_infomask.results.e_values import check_bets, doubt_prior
from captum_infomask.results.evidence_sums import BitSums, EvidenceSums, SamePlaces
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.betting import KnownPrior
from captum_infomask.scores.score_settings import NATS_PER_UNIT


@runtime_checkable
class HasEvidence(Protocol):
    """A run over a data set."""

    def evidence(self, by: By = "class and place") -> CombinedEvidence:
        """Its evidence."""
        ...


def combine_evidence(
    maps: InfoMap | ClassMaps | Iterable[InfoMap] | Iterable[ClassMaps] | HasEvidence,
    by: By = "place",
    *,
    labels: Tensor | Sequence[int] | Sequence[str] | Literal["predictions"] | None = None,
) -> CombinedEvidence:
    r"""Add up the evidence of many pictures that places say something about labels.

    There are two ways, for two kinds of maps.

    **InfoMaps** say what each place tells about its picture's own label, so they give evidence by
    place. The prior must be that of the labels:

    .. math::

        E_R = \operatorname{mean}_\lambda \prod_i (1 - \lambda + \lambda\, 2^{i(y_i; v_R(x_i))}).

    **ClassMaps** of all classes, with the pictures' ``labels``, and a **run over a data set**, give
    evidence by class and place, and need no prior. For class c, which :math:`n_c` of n pictures
    have,

    .. math::

        E_{c,R} = \binom{n}{n_c} \operatorname{mean}_{\lambda, \theta} \prod_i
            \left((1 - \lambda)\, \theta_i + \lambda\, q_i\right),

    where :math:`\theta_i` is θ and :math:`q_i` is :math:`q(c \mid v)` for pictures of class c, and
    :math:`1 - \theta` and :math:`1 - q(c \mid v)` for all others. The e-value of a class is the
    mean over its places, that of a place the mean over all classes. They hold for labels that were
    drawn from any distribution, and then at any stopping time; and for any fixed labels, in any
    order, if every match of them with the pictures was equally likely. Discoveries are among the
    classes that occur, so they are for a number of pictures that was fixed beforehand.

    λ goes over eight shares of the capital, 1/64 to 15/16, so one over-confident wrong view does
    not take all evidence. The network must not have learned from these pictures and labels, unless
    the labels are its own predictions.

    Args:
        maps: InfoMaps or ClassMaps of one or more pictures, all with the same places; or a run.
        by: ``place``, ``class`` or ``class and place``.
        labels: For ClassMaps: the labels of all pictures, (N,), or their names if the categories
            are known; or ``predictions``, the likeliest class of each whole picture.

    Returns:
        :class:`CombinedEvidence`.

    Raises:
        ArgumentError: Scores are differences or of a head without a distribution; InfoMaps are
            asked for classes; places differ between pictures; ClassMaps lack classes, or have other
            classes than the first.

    Warns:
        UserWarning: InfoMaps were scored without a prior.

    Example:
        >>> import torch
        >>> from captum_infomask import InfoMask, combine_evidence, grid
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, labels = torch.rand(200, 1, 4, 4, generator=generator), torch.arange(200) % 2
        >>> x[:, :, :2, :2] = labels[:, None, None, None].float()  # a mark that tells the label
        >>> def network(x):
        ...     mean = x.mean((1, 2, 3))
        ...     return 9.0 * torch.stack([mean == 0, mean == 1], 1)
        >>> maps = InfoMask(network).score_classes(x, view="crop", regions=grid(x, 2, 2))
        >>> combine_evidence(maps, labels=labels).discoveries(rate=0.05)
        tensor([ True, False, False, False])

    Source: Waudby-Smith & Ramdas, JRSS B 86(1), 2024, arXiv 2010.09686 (bets); Wasserman, Ramdas &
    Balakrishnan, PNAS 117(29), 2020, arXiv 1912.11436 (unknown priors).
    """
    one_of("by", by, get_args(By))
    if isinstance(maps, HasEvidence):
        if labels is not None:
            raise ArgumentError("Expected no `labels` for a run, which knows its own; got some.")
        return maps.evidence(by)
    first, given = _checked(maps)
    if isinstance(first, InfoMap):
        return _of_targets(first, given, by, labels)
    return _of_classes(first, given, by, labels)


def _checked(maps: Any) -> tuple[InfoMap | ClassMaps, Iterator[Any]]:
    """The first map, and all maps, which are of its kind."""
    rest = iter([maps] if isinstance(maps, InfoMap | ClassMaps) else _iterated(maps))
    first = next(rest, None)
    if not isinstance(first, InfoMap | ClassMaps):
        raise ArgumentError(
            f"Expected `maps` to be InfoMaps, ClassMaps, or a run over a data set; got "
            f"{describe(maps) if first is None else describe(first)}."
        )

    def of_one_kind() -> Iterator[Any]:
        for one in chain([first], rest):
            if type(one) is not type(first):
                raise ArgumentError(
                    f"Expected `maps` of one kind; got {type(first).__name__} and {describe(one)}."
                )
            yield one

    return first, of_one_kind()


def _iterated(maps: Any) -> Iterable[Any]:
    return maps if isinstance(maps, Iterable) and not isinstance(maps, str | Tensor) else ()


def _of_targets(
    first: InfoMap, maps: Iterator[InfoMap], by: By, labels: object
) -> CombinedEvidence:
    if by != "place":
        raise ArgumentError(
            f"Expected by='place' for InfoMaps, which say only what places tell about their own "
            f"label; got by={by!r}. A class also needs the bets on it in pictures of other "
            f"classes: pass score_classes(...) of all classes and labels=, or a run."
        )
    if labels is not None:
        raise ArgumentError(
            "Expected no `labels` for InfoMaps, whose targets are the labels; got some."
        )
    capital = KnownPrior(len(first.regions))
    sums = BitSums(1, len(first.regions))
    places = SamePlaces(first.regions)
    is_doubted = False
    for one in maps:
        check_bets(one.view, one.score, one.contrast, one.bet_on)
        if not is_doubted:
            is_doubted = doubt_prior(one.score)
        places.check(one.regions, len(one))
        bits = one.from_prior().detach().double().cpu() * (NATS_PER_UNIT[one.unit] / math.log(2))
        capital.add(bits.numpy())
        sums.add(np.zeros(len(bits), np.int64), bits.numpy())
    null = "labels are drawn from the prior, and do not depend on what the place shows"
    return CombinedEvidence(
        by, torch.from_numpy(capital.log2_e_values()), *sums.of(0), first.regions, None, (), null
    )


def _of_classes(
    first: ClassMaps, maps: Iterator[ClassMaps], by: By, labels: Any
) -> CombinedEvidence:
    if labels is None:
        raise ArgumentError(
            "Expected `labels` for ClassMaps, the pictures' classes or 'predictions'; got None."
        )
    _check_all_classes(first)
    is_predicted = isinstance(labels, str)
    if is_predicted:
        one_of("labels", labels, ("predictions",))
        known = torch.empty(0, dtype=torch.long)
    else:
        where = "InfoMask(model, categories=names)"
        known = whole_numbers("labels", numbered("labels", labels, first.categories, where))
    sums = EvidenceSums(int(first.classes.max()) + 1, first.stacked.regions)
    places, done = SamePlaces(first.stacked.regions), 0
    for one in maps:
        _check_all_classes(one)
        _check_same_classes(one, first)
        places.check(one.stacked.regions, len(one.classes))
        n = len(one.classes)
        own = one.likeliest() if is_predicted else known[done : done + n]
        done += n
        if len(own) < n:
            break
        _check_among(own, one.classes)
        bits, q = one.bits_and_posteriors()
        column = (one.classes == own[:, None]).long().argmax(1)
        told = bits[torch.arange(n), :, column]
        classes = one.classes[:, None].expand(q.shape)
        sums.add(own.numpy(), told.numpy(), classes.numpy(), q.numpy())
    if not is_predicted and done != len(known):
        raise ArgumentError(
            f"Expected one of `labels` for each picture of `maps`; got {len(known)} for "
            f"{done}{' or more' * (done > len(known))}."
        )
    return sums.result(by, first.categories)


def _check_all_classes(maps: ClassMaps) -> None:
    """Refuse maps that are no bets, or lack classes, which were then chosen by the pictures."""
    check_bets(maps.stacked.view, maps.stacked.score, maps.stacked.contrast)
    if maps.log_priors is None:
        raise ArgumentError(
            f"Expected ClassMaps of all classes of a softmax (score_classes without `classes`, "
            f"`top_k` and groups); got {maps!r}. Classes that the whole picture chose would be no "
            f"fair bets."
        )


def _check_same_classes(maps: ClassMaps, first: ClassMaps) -> None:
    """Refuse maps of other classes than the first, by their numbers or their names."""
    same = torch.equal(maps.classes[0].sort().values, first.classes[0].sort().values)
    if not same or maps.categories != first.categories:
        got = f"{first!r} and {maps!r}"
        if same:
            got = f"{short_repr(first.categories)} and {short_repr(maps.categories)}"
        raise ArgumentError(f"Expected `maps` of the same classes; got {got}.")


def _check_among(labels: Tensor, classes: Tensor) -> None:
    missing = ~(classes == labels[:, None]).any(1)
    if bool(missing.any()):
        raise ArgumentError(
            f"Expected `labels` to be among the {classes.shape[1]} classes; got "
            f"{int(labels[missing][0])}."
        )
