# Are the bits true? What regions say about classes, against how often the classes occur.
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_infomask._batches import check_label_range, labelled_batches, whole_numbers
from captum_infomask._categories import numbered
from captum_infomask._checks import (
    check_inputs,
    describe,
    open_share,
    positive_int,
    random_seed,
    short_repr,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._messages import said_once
from captum_infomask._random import OwnGenerators
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.evaluation.bit_bins import curve_of, fine_edges, sums_of
from captum_infomask.results import ClassMaps
from captum_infomask.results.e_values import FROM_PRIOR
from captum_infomask.results.reliability_of_bits import BitsReliability
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.score_settings import NATS_PER_UNIT, Balanced, Prior, checked_prior

_ENOUGH = 50  # labels per class, on average, for an estimate of how often classes occur


@said_once()
@told(options_of=InfoMask.attribute, without=("contrast",))
def bits_reliability(
    infomask: InfoMask,
    pictures: Tensor | Iterable[Any],
    labels: Sequence[int] | Sequence[str] | Tensor | None = None,
    *,
    view: str = "crop",
    prior: Prior = None,
    clusters: Sequence[int] | Tensor | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    show_progress: bool = False,
    **options: Any,
) -> BitsReliability:
    r"""Check on labelled pictures whether bits are true: a reliability diagram in bits.

    A region that says b bits about a class says that the class is 2ᵇ times as likely as its prior.
    So it must occur that much more often. We take all triples of a picture, a region and a class,
    and sort them by b into bins. With Y the picture's label, a bin has

    .. math::

        \text{said} = \log_2 \frac{\sum \pi_c\, 2^{b}}{\sum \pi_c}, \qquad
        \text{observed} = \log_2 \frac{\sum 1[Y = c]}{\sum \pi_c}.

    If :math:`b = \log_2 p(c \mid v) / \pi_c` with the true posterior and the true prior, then
    :math:`E\, 1[Y = c] = p(c \mid v) = \pi_c\, 2^{b}`, and both are equal in expectation, whatever
    the bin: the curve lies on the diagonal. The mean of b itself would lie below it.

    Bins are a quarter of a bit wide if at most 2.5 bits can be said, half a bit up to 5, else one
    bit. Neighbours are merged until five occurrences are expected or seen.

    Args:
        infomask: The network, with the score that is checked: its temperature, its prior.
        pictures: Images (N, C, H, W), which are scored at once; or a loader that yields (inputs,
            labels) and is scored batch by batch. The network was **not** trained or fitted on them.
        labels: The classes of the pictures, or their names if the categories are known. A loader
            brings its own.
        view: ``crop``, ``keep`` or ``features``, whose values count from the prior. ``keep`` is
            read with ``reference="prior"``. Other views are differences of such values; no
            occurrence can check a difference.
        prior: :math:`\pi_c`, how often each class occurs where the pictures come from; ``balanced``
            if they are known to be equally frequent. None
            estimates it from the labels if there are 50 per class on average; a loader is then read
            twice. With fewer labels None takes the prior of ``infomask``, and an error of that
            prior stays unseen.
        clusters: A number for each picture. Those with the same number, such as crops of a
            photograph or frames of a video, are drawn together for the intervals.
        level: The coverage of the intervals.
        n_resamples: The number of times that the pictures are drawn with repetition. Regions and
            classes of a picture stay together. The prior is taken as known.
        seed: The seed of the draws, and of the scores' own.
        show_progress: Show a progress bar on stderr.
        **options: The keyword arguments of :meth:`InfoMask.attribute` that choose regions, imputer
            and engine; without ``contrast``.

    Returns:
        A :class:`BitsReliability`. ``figure`` draws it, alone or with others.

    Raises:
        ArgumentError: The view, or the head, has no value from a prior; labels do not fit; or as
            :meth:`InfoMask.score_classes`. All that can be known before the network runs is checked
            before.

    Example:
        >>> from captum_infomask import InfoMask, bits_reliability, grid
        >>> from captum_infomask.datasets import GaussianPatches, IndependentPatches
        >>> pictures = IndependentPatches(GaussianPatches.random(classes=4), rows=2, columns=2)
        >>> images, labels = pictures.draw(2000, seed=0)
        >>> options = {"crop_size": "native", "regions": grid(images, 2, 2)}
        >>> found = bits_reliability(InfoMask(pictures.network()), images, labels, **options)
        >>> abs(found.excess.mean) < 0.05
        True

    Source: after the reliability diagram of Guo et al., arXiv 1706.04599; that 2ᵇ is an e-value,
    Vovk & Wang, arXiv 1912.06116.
    """
    check_question(infomask, view, options)
    level = open_share("level", level)
    n_resamples, seed = positive_int("n_resamples", n_resamples), random_seed(seed)
    known = checked_prior(prior, infomask.score.head)
    settings = {**options, "view": view, "seed": seed}
    if view == "keep":
        settings["reference"] = "prior"
    together, counts = None, torch.zeros(0, dtype=torch.long)
    if isinstance(pictures, Tensor):
        (images,) = check_inputs(pictures)
        names, where = infomask.categories, "InfoMask(model, categories=names)"
        own = picture_labels(labels, len(images), names, where)
        together = whole_numbers("clusters", clusters, len(own)) if clusters is not None else None
        counts = own.bincount()
        found: Iterable[tuple[Tensor, Tensor]] = [(pictures, own)]
        settings["show_progress"] = show_progress
    else:
        _check_loader(pictures, labels, clusters, is_read_twice=known is None)
        if known is None:
            counts = _counts(pictures, show_progress=show_progress)
        found = _drawn(pictures, "Scoring", show_progress=show_progress)
    tally = _Tally(infomask, known, counts)
    for images, classes in found:
        tally.add(infomask.score_classes(images, **settings), classes)
    rows = torch.cat(tally.rows)
    if together is not None:
        _, place = together.unique(return_inverse=True)
        rows = rows.new_zeros(int(place.max()) + 1, *rows.shape[1:]).index_add(0, place, rows)
    return curve_of(
        rows,
        tally.edges,
        level=level,
        n_resamples=n_resamples,
        seed=seed,
        view=view,
        prior=tally.source,
        name=", ".join([view, *tally.words]),
    )


class _Tally:
    """The sums of all pictures so far, and the prior by which they are weighted."""

    def __init__(self, infomask: InfoMask, prior: Tensor | Balanced | None, counts: Tensor) -> None:
        self.rows: list[Tensor] = []
        self.edges = torch.empty(0)
        self.words: list[str] = []
        self.source = "given"
        self._score = infomask.score
        self._is_balanced = isinstance(prior, str)
        self._prior = prior if isinstance(prior, Tensor) else None
        self._counts = counts

    def add(self, maps: ClassMaps, labels: Tensor) -> None:
        """Add the pictures of a batch."""
        assert maps.log_priors is not None, "all classes of a softmax"
        classes, own = maps.classes[0], maps.log_priors[0].exp()
        if not self.rows:
            self._begin(maps, classes, own)
        assert self._prior is not None, "as begun"
        unknown = ~torch.isin(labels, classes)
        if bool(unknown.any()):
            raise ArgumentError(
                f"Expected `labels` among the network's classes with a prior above 0; got "
                f"{int(labels[unknown][0])}."
            )
        bits = (
            maps.scores.detach().cpu().double() * NATS_PER_UNIT[maps.unit] / NATS_PER_UNIT["bits"]
        )
        self.rows.append(sums_of(bits, classes, labels, self._prior[classes], self.edges))

    def _begin(self, maps: ClassMaps, classes: Tensor, own: Tensor) -> None:
        """Choose the prior and the bins, now that the number of classes is known."""
        given = self._score.class_prior
        count = len(classes) if given is None else len(given)
        if self._is_balanced:
            self._prior = torch.full((count,), 1 / count, dtype=torch.float64)
        elif self._prior is None:
            n = int(self._counts.sum())
            if n >= _ENOUGH * count and len(self._counts) <= count:
                smoothed = torch.ones(count, dtype=torch.float64)
                smoothed[: len(self._counts)] += self._counts
                self._prior = smoothed / smoothed.sum()
                self.source = f"estimated from {n} labels"
            else:
                self._prior = torch.zeros(count, dtype=torch.float64)
                self._prior[classes] = own
                self.source = f"the InfoMask's, as {n} labels are too few to estimate it"
        if len(self._prior) != count:
            raise ArgumentError(
                f"Expected `prior` to hold {count} probabilities, one per class of the network; "
                f"got {len(self._prior)}."
            )
        self.edges = fine_edges(float(-own.min().log2()))
        self.words = [_sizes(maps)]
        if self._score.temperature != 1:
            self.words.append(f"τ = {self._score.temperature:.3g}")


def check_question(infomask: object, view: object, options: Mapping[str, Any]) -> None:
    """Refuse all but a value that counts from the prior of classes that exclude each other.

    Raises:
        ArgumentError: The view, the reference or the head gives another value.
    """
    if not isinstance(infomask, InfoMask):
        raise ArgumentError(f"Expected `infomask` to be an InfoMask; got {describe(infomask)}.")
    reference = options.get("reference")
    if view not in FROM_PRIOR or reference == "blank":
        got = (
            f"{short_repr(view)} with reference='blank'" if view in FROM_PRIOR else short_repr(view)
        )
        raise ArgumentError(
            f"Expected `view` 'crop', 'keep' or 'features', counted from the prior: only such bits "
            f"say how often a class occurs; got {got}, a difference of two such values. Pass "
            f"view='keep', without `reference`, for the same regions in place."
        )
    score = infomask.score
    if score.head not in SOFTMAX_HEADS or score.groups is not None:
        got = "groups" if score.groups is not None else f"head={score.head!r}"
        raise ArgumentError(
            f"Expected an `infomask` that reads classes that exclude each other (head 'logits', "
            f"'log_probs' or 'probs', without groups); got {got}."
        )


def picture_labels(labels: object, n: int, categories: Sequence[str], where: str) -> Tensor:
    """The classes of n pictures by number, long (n,), on the CPU.

    Args:
        labels: Numbers, or names if the categories are known.
        n: The number of pictures.
        categories: The classes' names; empty if they are not known.
        where: The call that takes the names, for messages.

    Raises:
        ArgumentError: They are more or fewer, or no classes.
    """
    found = whole_numbers("labels", numbered("labels", labels, categories, where), n)
    if categories:
        check_label_range(found, len(categories), "labels")
    return found


def _check_loader(loader: object, labels: object, clusters: object, *, is_read_twice: bool) -> None:
    """Refuse arguments that a loader does not need, and a loader that can be read only once."""
    if labels is not None or clusters is not None:
        name = "labels" if labels is not None else "clusters"
        raise ArgumentError(
            f"Expected `{name}` only with a tensor of `pictures`; got it with {describe(loader)}. "
            f"A loader yields (inputs, labels)."
        )
    if is_read_twice and isinstance(loader, Iterator):
        raise ArgumentError(
            f"Expected `pictures` to be a loader that can be read twice, first for how often each "
            f"class occurs; got {describe(loader)}. Pass the loader itself, or `prior`."
        )


def _drawn(
    loader: Iterable[Any], description: str, *, show_progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a loader's batches; what it draws, it draws from generators of this call."""
    generators = OwnGenerators(None)
    found = labelled_batches(
        loader, name="pictures", description=description, show_progress=show_progress
    )
    while True:
        with generators:
            batch = next(found, None)
        if batch is None:
            return
        yield batch[0], batch[1].cpu()


def _counts(loader: Iterable[Any], *, show_progress: bool) -> Tensor:
    """How many labels a loader has of each class."""
    counts = torch.zeros(0, dtype=torch.long)
    for _, labels in _drawn(loader, "Counting labels", show_progress=show_progress):
        more = labels.bincount(minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts


def _sizes(maps: ClassMaps) -> str:
    """The regions' size, if all are rectangles of one size, or their number."""
    rectangles = maps.stacked.regions.rectangles()
    if rectangles is not None:
        first, last = rectangles.chunk(2, dim=-1)
        sizes = (last - first).flatten(0, -2).unique(dim=0)
        if len(sizes) == 1:
            return "×".join(map(str, sizes[0].tolist()))
    return f"{maps.scores.shape[1]} regions"
