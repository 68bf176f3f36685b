# Are the bits true? Curves of networks whose posterior is known, intervals, and what is refused.
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from refused import refused
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum_infomask import BitsReliability, Constant, InfoMask, Score, bits_reliability, grid
from captum_infomask.datasets import GaussianPatches, IndependentPatches
from captum_infomask.evaluation.bit_bins import curve_of, fine_edges, shown_bins, sums_of
from captum_infomask.report.bits_figure import BitsCurve, bits_figure
from captum_infomask.results.reliability_of_bits import BitsEstimate

# Pictures of one symbol, 0 or 1, in as many cells as there are regions. LIKELY[y] is p(symbol 1).
LIKELY = (0.2, 0.8)


class Lookup(nn.Module):
    """log p(y | symbol) for a prior, times a factor that makes the network too sure."""

    def __init__(self, prior: tuple[float, float] = (0.5, 0.5), factor: float = 1.0) -> None:
        super().__init__()
        ones = torch.tensor(LIKELY).double()
        joint = torch.stack([1 - ones, ones]) * torch.tensor(prior).double()
        self.register_buffer("table", factor * (joint / joint.sum(1, keepdim=True)).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.table[(x.mean((1, 2, 3)) > 0.5).long()]


def symbols(counts: tuple[int, int], cells: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures in exactly the proportions of LIKELY: ``counts[y]`` of each class."""
    labels, ones = [], []
    for label, (count, share) in enumerate(zip(counts, LIKELY, strict=True)):
        with_one = round(count * share)
        labels += [label] * count
        ones += [1.0] * with_one + [0.0] * (count - with_one)
    images = torch.tensor(ones)[:, None, None, None].expand(-1, 1, 1, cells)
    return images.contiguous(), torch.tensor(labels)


def reliability(network: nn.Module, images: Tensor, labels: object, **options) -> BitsReliability:
    settings = {key: options.pop(key) for key in ("prior", "temperature") if key in options}
    known = {"prior": options.pop("known")} if "known" in options else {}
    regions = grid(images[:1], 1, images.shape[3])
    return bits_reliability(
        InfoMask(network, **settings),
        images,
        labels,
        regions=regions,
        crop_size="native",
        **known,
        **options,
    )


# Known truth: the proportions are exact, so nothing is left to chance


def test_a_calibrated_network_lies_on_the_diagonal():
    found = reliability(Lookup(), *symbols((100, 100)))
    np.testing.assert_allclose(found.said, [math.log2(0.4), math.log2(1.6)], atol=1e-6)
    np.testing.assert_allclose(found.observed, found.said, atol=1e-6)
    assert found.observed_count.tolist() == [40, 160]
    assert found.error.mean < 1e-6
    assert "nowhere by more than chance" in found.verdict()


def test_balanced_is_a_known_prior():
    x, labels = symbols((100, 100))
    found = reliability(Lookup(), x, labels, known="balanced", prior="balanced")
    want = reliability(Lookup(), x, labels, known=[0.5, 0.5])
    np.testing.assert_array_equal(found.observed, want.observed)
    assert found.prior == "given"


def test_doubled_logits_lie_below_by_what_is_known_and_a_temperature_restores_them():
    sure = 0.64 / 0.68  # 0.8² against 0.2²
    doubled = reliability(Lookup(factor=2), *symbols((100, 100)))
    np.testing.assert_allclose(doubled.said, [math.log2(2 - 2 * sure), math.log2(2 * sure)])
    np.testing.assert_allclose(doubled.observed, [math.log2(0.4), math.log2(1.6)])
    above, below = math.log2(sure / 0.8), math.log2((1 - sure) / 0.2)
    assert above > 0.2
    assert doubled.excess.mean == pytest.approx(sure * above + (1 - sure) * below)
    assert doubled.error.mean == pytest.approx(sure * above - (1 - sure) * below)
    assert doubled.verdict().startswith("says 0.2 bits too much where it says 0.9; error ")
    restored = reliability(Lookup(factor=2), *symbols((100, 100)), temperature=2)
    np.testing.assert_allclose(restored.observed, restored.said, atol=1e-6)
    assert restored.name == "crop, 1×1, τ = 2"


SKEWED = (0.9, 0.1)


def test_a_skewed_prior_lies_on_the_diagonal_and_a_wrong_one_does_not():
    network, pictures = Lookup(SKEWED), symbols((900, 100))
    right = reliability(network, *pictures, prior=SKEWED, known=SKEWED)
    np.testing.assert_allclose(right.observed, right.said, atol=1e-6)
    posterior = 80 / 260
    assert right.said[-1] == pytest.approx(math.log2(posterior / 0.1))
    # Without a prior the rare class counts as one of two: log2(0.1 / 0.5) bits too few.
    wrong = reliability(network, *pictures, known=SKEWED)
    place = int(np.argmin(np.abs(wrong.said - math.log2(posterior / 0.5))))
    assert wrong.said[place] == pytest.approx(math.log2(posterior / 0.5))
    assert wrong.observed[place] == pytest.approx(math.log2(posterior / 0.1))
    assert wrong.error.mean > 0.5


def test_the_prior_is_estimated_from_enough_labels_and_is_else_the_infomasks():
    network = Lookup(SKEWED)
    many = reliability(network, *symbols((900, 100)))
    assert many.prior == "estimated from 1000 labels"
    given = reliability(network, *symbols((900, 100)), known=[901 / 1002, 101 / 1002])
    assert given.prior == "given"
    np.testing.assert_array_equal(many.observed, given.observed)
    few = reliability(network, *symbols((90, 9)))
    assert few.prior == "the InfoMask's, as 99 labels are too few to estimate it"
    same = reliability(network, *symbols((90, 9)), known=[0.5, 0.5])
    np.testing.assert_array_equal(few.observed, same.observed)


@pytest.mark.parametrize("view", ["crop", "keep"])
@pytest.mark.parametrize("prior", [None, [0.6, 0.25, 0.1, 0.05]])
def test_networks_of_independent_patches_are_true_in_every_view(view, prior):
    family = GaussianPatches.random(classes=4, strength=0.8, seed=1)
    pictures = IndependentPatches(family, rows=2, columns=2, prior=prior)
    images, labels = pictures.draw(3000, seed=3)
    options = {"view": view, "regions": grid(images, 2, 2), "prior": prior or [0.25] * 4}
    options |= {"crop_size": "native"} if view == "crop" else {}
    true = bits_reliability(InfoMask(pictures.network(), prior=prior), images, labels, **options)
    is_within = (true.lower <= true.said) & (true.said <= true.upper)
    assert len(is_within) >= 8
    assert is_within.mean() >= 0.8
    assert true.excess.low - 0.01 <= 0 <= true.excess.high + 0.01
    assert true.error.mean < 0.08
    too_sure = InfoMask(pictures.network(), prior=prior, temperature=0.5)
    found = bits_reliability(too_sure, images, labels, **options)
    assert found.excess.low > 0.05
    assert found.error.low > 3 * true.error.mean


# What is counted


class Linear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((1, 2, 3))
        return torch.stack([means * k for k in (-3.0, 0.0, 2.0)], dim=1)


def test_sums_are_those_of_the_triples():
    generator = torch.Generator().manual_seed(0)
    bits = 3 * torch.randn(5, 7, 3, generator=generator).double()
    bits[2, 4:] = math.nan  # a picture without three of the regions
    bits[0, 0, 0], bits[0, 1, 0] = 0.25, 0.2500001  # a bin holds its upper edge
    classes, labels = torch.tensor([0, 2, 5]), torch.tensor([0, 2, 5, 0, 2])
    prior, edges = torch.tensor([0.5, 0.3, 0.2]).double(), fine_edges(3.0)
    found = sums_of(bits, classes, labels, prior, edges)
    expected, seen = torch.zeros(5, 4, len(edges), dtype=torch.float64), set()
    for n, r, k in np.ndindex(5, 7, 3):
        b = min(float(bits[n, r, k]), 3.0)
        if not math.isnan(b):
            place = next(e for e, edge in enumerate(edges.tolist()) if b <= edge)
            own = float(classes[k] == labels[n])
            weight = float(prior[k])
            expected[n, 1:, place] += torch.tensor([weight, weight * 2**b, own]).double()
            seen.add((n, r, place))
    for n, _, place in seen:
        expected[n, 0, place] += 1
    torch.testing.assert_close(found, expected)
    assert len(seen) < (~bits.isnan()).sum()  # some regions have several classes in a bin


def test_the_probabilities_of_a_region_and_its_label_count_once_each():
    images = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    found = bits_reliability(
        InfoMask(Linear(), unit="nats"), images, labels, regions=grid(images, 2, 2)
    )
    assert found.expected_count.sum() == pytest.approx(60 * 4)
    assert found.observed_count.sum() == 60 * 4
    bits = bits_reliability(InfoMask(Linear()), images, labels, regions=grid(images, 2, 2))
    np.testing.assert_allclose(found.said, bits.said, rtol=1e-6)


def test_bins_merge_from_the_top_until_five_are_expected_or_seen():
    edges = fine_edges(6.0)  # more than 5 bits: bins of one bit
    sums = torch.zeros(4, len(edges), dtype=torch.float64)
    at = {edge: place for place, edge in enumerate(edges.tolist())}
    sums[2, at[6.0]], sums[2, at[5.0]] = 3.0, 2.5  # together more than 5
    sums[3, at[3.5]] = 7.0  # seen, though nothing was expected
    sums[2, at[2.25]] = 40.0  # expected, though nothing was seen
    sums[3, at[-7.0]] = 1.0  # too few, and the last
    ranges = [
        (edges[start - 1].item() if start else -math.inf, edges[end - 1].item())
        for start, end in shown_bins(sums, edges)
    ]
    assert ranges == [(-math.inf, 3.0), (3.0, 4.0), (4.0, 6.0)]


@pytest.mark.parametrize(("most", "width"), [(2.0, 0.25), (4.0, 0.5), (9.97, 1.0)])
def test_bins_are_narrower_where_there_are_few_bits(most, width):
    edges = fine_edges(most)
    sums = torch.full((4, len(edges)), 10.0, dtype=torch.float64)
    ends = [edges[end - 1].item() for _, end in shown_bins(sums, edges)]
    positive = [end for end in ends if 0 <= end <= most - most % width]
    np.testing.assert_allclose(np.diff(positive), width)
    assert edges[-1] >= most


# Intervals


def test_intervals_are_over_pictures_not_over_regions():
    one = reliability(Lookup(factor=2), *symbols((100, 100)))
    many = reliability(Lookup(factor=2), *symbols((100, 100), cells=6))
    np.testing.assert_allclose(many.observed_count, 6 * one.observed_count)
    for name in ("said", "observed", "lower", "upper"):
        np.testing.assert_allclose(getattr(many, name), getattr(one, name))
    assert many.error.low == pytest.approx(one.error.low)
    # A binomial share of 160 of 170 or so: its own standard error gives the width.
    sides = 2 * 1.96 * math.sqrt(0.8 * 0.2 / 200) / 0.8 / math.log(2)
    assert one.upper[1] - one.lower[1] == pytest.approx(sides, rel=0.1)


def test_clusters_are_drawn_together():
    images, labels = symbols((30, 30))
    alone = reliability(Lookup(factor=2), images, labels, known=[0.5, 0.5])
    copies = torch.arange(60).repeat(4)
    settings = {"known": [0.5, 0.5], "clusters": 7 * copies}
    found = reliability(Lookup(factor=2), images[copies], labels[copies], **settings)
    assert found.pictures == 60
    np.testing.assert_allclose(found.lower, alone.lower)
    np.testing.assert_allclose(found.upper, alone.upper)
    apart = reliability(Lookup(factor=2), images[copies], labels[copies], known=[0.5, 0.5])
    assert ((apart.upper - apart.lower) < 0.7 * (found.upper - found.lower)).all()


def test_a_seed_repeats_the_intervals_and_a_level_widens_them():
    pictures = symbols((100, 100))
    once, again, other, wide = (
        reliability(Lookup(), *pictures, **options)
        for options in ({}, {}, {"seed": 1}, {"level": 0.999})
    )
    np.testing.assert_array_equal(once.lower, again.lower)
    assert (once.lower != other.lower).any()
    assert (wide.lower < once.lower).all()
    assert (wide.upper > once.upper).all()


def test_a_class_that_never_occurs_has_a_bound_and_no_number():
    images = torch.ones(40, 1, 1, 3)  # the network says class 1; all are of class 0
    found = reliability(Lookup(), images, torch.zeros(40).long(), known=[0.5, 0.5])
    assert found.observed[-1] == found.lower[-1] == -math.inf
    events = -math.log(0.025)  # pictures that a count of 0 still allows, each with three regions
    assert found.upper[-1] == pytest.approx(math.log2(3 * events / (120 * 0.5)))
    assert found.gaps[-1] == pytest.approx(found.said[-1] - found.upper[-1])
    assert found.verdict().startswith("says at least 3.1 bits too much where it says 0.7")
    assert math.isfinite(found.error.mean)


def test_few_pictures_have_no_intervals():
    found = reliability(Lookup(), *symbols((5, 4)))
    assert np.isnan(found.lower).all()
    assert np.isnan(found.upper).all()
    assert (found.error.low, found.excess.high) == (None, None)
    assert found.verdict().endswith("bits; too few pictures to tell it from chance")
    assert "[" not in found.verdict()


# Loaders


def test_a_loader_gives_the_same_and_leaves_the_random_state():
    images, labels = symbols((100, 100))
    at_once = reliability(Lookup(factor=2), images, labels)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    before = torch.get_rng_state()
    found = bits_reliability(
        InfoMask(Lookup(factor=2)), loader, regions=grid(images[:1], 1, 1), crop_size="native"
    )
    assert torch.equal(before, torch.get_rng_state())
    assert found.prior == at_once.prior
    np.testing.assert_allclose(found.said, at_once.said)
    np.testing.assert_allclose(found.observed, at_once.observed)
    once = bits_reliability(
        InfoMask(Lookup(factor=2)),
        iter([(images, labels)]),
        prior=[0.5, 0.5],
        regions=grid(images[:1], 1, 1),
        crop_size="native",
    )
    np.testing.assert_allclose(once.said, at_once.said)


def test_labels_can_be_names():
    images, labels = symbols((100, 100))
    names = [("paper", "ink")[label] for label in labels]
    infomask = InfoMask(Lookup(), categories=["paper", "ink"])
    found = bits_reliability(infomask, images, names, regions=grid(images, 1, 1))
    assert found.error.mean < 1e-6


def test_the_features_view_is_read_like_the_others():
    torch.manual_seed(0)
    network = (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        .append(nn.Linear(4, 3))
        .eval()
    )
    images = torch.rand(30, 1, 8, 8)
    found = bits_reliability(
        InfoMask(network), images, torch.arange(30) % 3, view="features", regions=grid(images, 2, 2)
    )
    assert found.view == "features"
    assert found.expected_count.sum() == pytest.approx(120)


@pytest.mark.parametrize("places", [(4,), (2, 1, 2)])
def test_signals_and_volumes_are_read_like_pictures(places):
    images, labels = symbols((50, 50))

    class Same(Lookup):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1)[..., None, None])

    x = images.reshape(-1, 1, *[1] * len(places)).repeat(1, 1, *places)
    regions = grid(x[:1], *(min(2, side) for side in places))
    found = bits_reliability(InfoMask(Same(factor=2)), x, labels, regions=regions, prior=[0.5, 0.5])
    wanted = reliability(Lookup(factor=2), images, labels, known=[0.5, 0.5])
    assert found.name.endswith({1: "2", 3: "1×1×1"}[len(places)])
    assert found.error.mean == pytest.approx(wanted.error.mean, abs=1e-6)
    assert wanted.error.mean > 0.1


# What is refused, before the network runs


def never(x: Tensor) -> Tensor:
    raise AssertionError("the network ran")


X, Y = torch.rand(4, 1, 4, 4), [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("words", "infomask", "pictures", "labels", "options"),
    [
        (("view", "'drop'", "view='keep'"), {}, X, Y, {"view": "drop"}),
        (("view", "'relay'"), {}, X, Y, {"view": "relay"}),
        (("view", "None"), {}, X, Y, {"view": None}),
        (("reference='blank'",), {}, X, Y, {"view": "keep", "reference": "blank"}),
        (("head='raw'", "exclude"), {"head": "raw"}, X, Y, {}),
        (("head='sigmoid'",), {"head": "sigmoid"}, X, Y, {}),
        (("groups",), {"groups": [[0], [1]]}, X, Y, {}),
        (("`labels`", "4 integers"), {}, X, [0, 1], {}),
        (("`labels`", "None"), {}, X, None, {}),
        (("`labels`", "0.5"), {}, X, [0.5] * 4, {}),
        (("`clusters`", "4 integers"), {}, X, Y, {"clusters": [1]}),
        (("`labels`", "tensor"), {}, [(X, torch.tensor(Y))], Y, {}),
        (("`clusters`",), {}, [(X, torch.tensor(Y))], None, {"clusters": Y}),
        (("read twice", "`prior`"), {}, iter([(X, torch.tensor(Y))]), None, {}),
        (("`level`", "below 1"), {}, X, Y, {"level": 1.0}),
        (("`level`",), {}, X, Y, {"level": 0}),
        (("`n_resamples`",), {}, X, Y, {"n_resamples": 0}),
        (("`prior`", "sum"), {}, X, Y, {"prior": [0.5, 0.4]}),
    ],
)
def test_bad_arguments_are_refused_before_the_network_runs(
    words, infomask, pictures, labels, options
):
    asked = InfoMask(never, **infomask)
    refused(words, lambda: bits_reliability(asked, pictures, labels, **options))


def test_what_the_classes_show_is_refused_when_they_are_known():
    infomask = InfoMask(Lookup())
    refused(("`labels`", "2"), lambda: bits_reliability(infomask, X, [0, 1, 2, 0]))
    refused(
        ("`prior`", "2 prob", "got 3"),
        lambda: bits_reliability(infomask, X, Y, prior=[0.5, 0.25, 0.25]),
    )
    refused(("`infomask`",), lambda: bits_reliability(Lookup(), X, Y))
    impossible = InfoMask(Linear(), score=Score(prior=[0.5, 0.5, 0]))
    refused(("`labels`", "2"), lambda: bits_reliability(impossible, X, [0, 1, 2, 0]))
    with pytest.raises(TypeError, match="contrast"):
        bits_reliability(infomask, X, Y, contrast=1)


# The figure and the table


def test_the_figure_draws_what_was_found():
    sure = reliability(Lookup(factor=2), *symbols((100, 100)))
    true = dataclasses.replace(reliability(Lookup(), *symbols((100, 100))), name="after")
    _, (curves, counts) = sure.figure(true, title="bits")
    names = [text.get_text() for text in curves.get_legend().get_texts()]
    assert names == ["crop, 1×1", "after"]
    marks = [line for line in curves.lines if line.get_label() in names]
    for line, one in zip(marks, (sure, true), strict=True):
        np.testing.assert_allclose(line.get_ydata(), one.observed)
        np.testing.assert_allclose(line.get_xdata(), one.said, atol=0.05)
    bars = [bar.get_height() for bar in counts.patches]
    np.testing.assert_allclose(bars[:2], sure.expected_count / sure.expected_count.sum())
    assert curves.get_xlim() == curves.get_ylim()
    assert curves.get_title(loc="left") == "bits"
    own = Figure().subplots()
    same, panels = sure.figure(ax=own)
    assert panels == [own]
    assert same is own.figure


def test_the_figure_draws_a_bound_as_an_arrow():
    images = torch.ones(40, 1, 1, 3)
    found = reliability(Lookup(), images, torch.zeros(40).long(), known=[0.5, 0.5])
    curves = found.figure()[1][0]
    assert len(curves.texts) == 1  # the arrow
    assert any(line.get_ydata()[0] == found.upper[-1] for line in curves.lines)


def test_the_table_has_a_row_per_bin():
    pytest.importorskip("pandas")
    found = reliability(Lookup(), *symbols((100, 100)))
    table = found.to_pandas()
    assert table["observed_count"].tolist() == [40, 160]
    assert list(table.columns)[:4] == ["said", "observed", "lower", "upper"]


def test_curve_of_joins_what_nobody_expects():
    edges = fine_edges(1.0)
    rows = torch.zeros(12, 4, len(edges), dtype=torch.float64)
    rows[:, :, 3] = torch.tensor([1.0, 0.1, 0.01, 0.0]).double()
    told = {"view": "crop", "prior": "given", "name": "one"}
    found = curve_of(rows, edges, level=0.9, n_resamples=50, seed=0, **told)
    assert len(found.said) == 1
    assert found.said[0] == pytest.approx(math.log2(0.1))
    assert found.error.mean == 0  # the bound allows what was said


def test_keep_is_read_from_the_prior_not_from_the_blank():
    images = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    settings = {"view": "keep", "regions": grid(images, 2, 2), "imputer": Constant(1)}
    found = bits_reliability(InfoMask(Linear()), images, torch.arange(60) % 3, **settings)
    assert found.expected_count.sum() == pytest.approx(60 * 4)  # the probabilities sum to 1
    counted = bits_reliability(
        InfoMask(Linear()), images, torch.arange(60) % 3, reference="prior", **settings
    )
    np.testing.assert_array_equal(found.said, counted.said)


def test_the_verdict_finds_the_bin_that_is_off_beside_a_heavy_one_that_is_not():
    arrays = {
        "said": [-2.0, 1.0, 3.0],
        "observed": [-4.0, 2.5, 2.8],
        "lower": [-4.1, 2.0, 2.5],
        "upper": [-3.9, 3.0, 3.1],
        "expected_count": [50.0, 10.0, 1000.0],
        "observed_count": [12.0, 30.0, 900.0],
    }
    error = BitsEstimate(0.5, 0.4, 0.6)
    found = BitsReliability(
        **{name: np.array(values) for name, values in arrays.items()},
        error=error,
        excess=error,
        pictures=100,
        view="crop",
        prior="given",
        name="crop",
    )
    words = "says 1.5 bits too little where it says 1.0; error 0.50 [0.40, 0.60] bits"
    assert found.verdict() == words
    assert repr(found) == f"BitsReliability(crop, 100 pictures: {words})"
    wide = dataclasses.replace(found, lower=np.array([-4.1, 1.2, 2.5]))
    assert wide.verdict() == "error 0.50 [0.40, 0.60] bits, nowhere by more than chance"


@pytest.mark.parametrize("title", ["", "says 0.7 bits too much where it says 1.9"])
def test_both_panels_of_the_figure_have_the_same_places_for_the_same_bits(title: str) -> None:
    said = np.array([-1.0, 2.0])
    curve = BitsCurve("crop", said, said, said - 0.1, said + 0.1, np.array([20.0, 80.0]))
    figure, (panel, counts) = bits_figure([curve], title=title)
    figure.canvas.draw()
    above, below = panel.get_window_extent(), counts.get_window_extent()
    np.testing.assert_allclose([above.x0, above.x1], [below.x0, below.x1], atol=0.5)
