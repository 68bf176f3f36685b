"""The view `chain` against exact Shapley values, Captum's own, and its stated error."""

import itertools
import math

import pytest
import reference
import torch
from captum.attr import ShapleyValues, ShapleyValueSampling
from tiny import Net, two_inputs

from captum_infomask import ArgumentError, InfoMask, from_feature_mask, grid, sliding_windows
from captum_infomask.views.chain import draw_orders

FILL = 0.3


def game(net, x, y, spots):
    """i(y; x_S) for every subset S of the regions of one image (1, ...), in bits."""
    values = {}
    for size in range(len(spots) + 1):
        for chosen in itertools.combinations(range(len(spots)), size):
            picture = torch.full_like(x, FILL)
            for region in chosen:
                where = (slice(None), *spots[region])
                picture[where] = x[where]
            with torch.no_grad():
                values[frozenset(chosen)] = reference.information(net(picture)[0].tolist(), y)
    return values


def gains(values, order):
    """What each region adds when regions are added in this order."""
    added, found = frozenset(), {}
    for region in order:
        found[region] = values[added | {region}] - values[added]
        added |= {region}
    return [found[region] for region in range(len(order))]


def shapley(values, count):
    """Exact Shapley values by subsets."""
    exact = []
    for region in range(count):
        total = 0.0
        rest = [other for other in range(count) if other != region]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for chosen in itertools.combinations(rest, size):
                total += weight * (values[frozenset({*chosen, region})] - values[frozenset(chosen)])
        exact.append(total)
    return exact


def tiles(rows, columns, shape):
    height, width = shape[1] // rows, shape[2] // columns
    return reference.windows(shape, (shape[0], height, width), (shape[0], height, width))


@pytest.fixture
def picture():
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(5)).double()


def chain(net, x, y=2, **options):
    return InfoMask(net).score_regions(x, FILL, y, view="chain", **options)


@pytest.mark.parametrize("n_samples", [2, 6, 20])
def test_the_mean_over_its_orders(net, picture, n_samples):
    infomap = chain(net, picture, regions=grid(picture, 2, 3), n_samples=n_samples, seed=4)
    values = game(net, picture, 2, tiles(2, 3, (3, 12, 12)))
    orders = draw_orders(6, n_samples, 4).tolist()
    assert len(orders) == n_samples
    assert all(b == a[::-1] for a, b in zip(orders[::2], orders[1::2], strict=True))
    found = torch.tensor([gains(values, order) for order in orders], dtype=torch.float64)
    torch.testing.assert_close(infomap.scores[0], found.mean(0))
    pairs = found.reshape(-1, 2, 6).mean(1)
    errors = infomap.standard_errors[0]
    if n_samples == 2:
        assert errors.isnan().all()
    else:
        torch.testing.assert_close(errors, pairs.std(0) / math.sqrt(len(pairs)))
        assert errors.max() > 0.01


def test_within_its_error_of_the_exact_shapley_values(net, picture):
    """Nine regions: 512 subsets against 40 of 362,880 orders."""
    exact = torch.tensor(shapley(game(net, picture, 2, tiles(3, 3, (3, 12, 12))), 9))
    infomap = chain(net, picture, regions=grid(picture, 3, 3), n_samples=40)
    error = (infomap.scores[0] - exact).abs()
    assert bool((error < 4 * infomap.standard_errors[0]).all())
    assert float(infomap.standard_errors.max()) < 0.2 * float(exact.abs().mean())


def test_all_orders_are_the_exact_shapley_values(net, picture):
    """Four regions have 24 orders: each is taken once, and nothing is left to chance."""
    exact = shapley(game(net, picture, 2, tiles(2, 2, (3, 12, 12))), 4)
    infomap = chain(net, picture, regions=grid(picture, 2, 2), n_samples=24)
    assert infomap.scores[0].tolist() == pytest.approx(exact, abs=1e-9)
    assert infomap.standard_errors.tolist() == [[0.0] * 4]
    low, high = infomap.interval()
    assert torch.equal(low, high)
    fewer = chain(net, picture, regions=grid(picture, 2, 2), n_samples=22)
    assert fewer.scores[0].tolist() != pytest.approx(exact, abs=1e-4)


def test_captums_shapley_values(net, picture):
    labels = torch.arange(4).reshape(2, 2).repeat_interleave(6, 0).repeat_interleave(6, 1)
    labels = labels.expand(1, 3, 12, 12).contiguous()

    def bits(x):
        return net(x).log_softmax(1) / math.log(2)

    exact = ShapleyValues(bits).attribute(picture, FILL, target=2, feature_mask=labels)
    ours = InfoMask(net).attribute(
        picture, FILL, 2, feature_mask=labels, view="chain", n_samples=24
    )
    torch.testing.assert_close(ours, exact.to(ours), rtol=0, atol=1e-5)
    assert float(exact.abs().min()) > 0.01


def test_captums_shapley_value_sampling(net, picture):
    labels = torch.arange(9).reshape(3, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    labels = labels.expand(1, 3, 12, 12).contiguous()

    def bits(x):
        return net(x).log_softmax(1) / math.log(2)

    runs = []
    for _ in range(8):
        sampling = ShapleyValueSampling(bits)
        sampled = sampling.attribute(
            picture, FILL, target=2, feature_mask=labels, n_samples=10, perturbations_per_eval=8
        )
        runs.append(sampled[0, 0, ::4, ::4].flatten().double())
    theirs = torch.stack(runs)
    their_error = theirs.std(0) / math.sqrt(len(runs))
    infomap = chain(net, picture, regions=grid(picture, 3, 3), n_samples=40)
    error = (infomap.scores[0] - theirs.mean(0)).abs()
    both = (infomap.standard_errors[0].square() + their_error.square()).sqrt()
    assert bool((error < 4 * both).all())
    assert float(both.max()) < 0.2 * float(infomap.scores.abs().mean())


def test_intervals_cover_the_exact_value(net, picture):
    """Over 200 seeds, 95% intervals cover the exact values of six regions 90 to 99% of the time."""
    spots = tiles(2, 3, (3, 12, 12))
    values = game(net, picture, 2, spots)
    exact = torch.tensor(shapley(values, 6), dtype=torch.float64)
    pictures = {}

    def looked_up(x):
        """The network's answers, computed once for each of the 64 pictures."""
        rows = []
        for row in x:
            key = row.numpy().tobytes()
            if key not in pictures:
                pictures[key] = net(row[None])[0]
            rows.append(pictures[key])
        return torch.stack(rows)

    covered = []
    for seed in range(200):
        infomap = chain(looked_up, picture, regions=grid(picture, 2, 3), n_samples=20, seed=seed)
        low, high = infomap.interval(0.95)
        covered.append((low[0] <= exact) & (exact <= high[0]))
    share = torch.stack(covered).double().mean(0)
    assert bool(((share >= 0.90) & (share <= 0.99)).all()), share
    assert len(pictures) <= 64 + 1


@pytest.mark.parametrize("n_samples", [2, 4, 16])
@pytest.mark.parametrize("regions", ["grid", "labels"])
def test_a_partition_sums_to_the_total(net, images, n_samples, regions):
    labels = torch.arange(99).reshape(1, 1, 11, 9) // 8
    made = grid(images, 4, 3) if regions == "grid" else from_feature_mask(images, labels)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        x = images.to(dtype)
        infomap = chain(net.to(dtype), x, regions=made, n_samples=n_samples)
        want = infomap.total - infomap.blank[:, 0]
        torch.testing.assert_close(infomap.scores.sum(1), want, rtol=0, atol=tolerance)
        assert float(want.abs().min()) > 0.1


def test_overlapping_windows_sum_to_what_they_cover(net, images):
    windows = sliding_windows(images, (3, 5, 4), (3, 2, 3))
    infomap = chain(net, images, regions=windows, n_samples=4)
    torch.testing.assert_close(infomap.scores.sum(1), infomap.total - infomap.blank[:, 0])
    keep = InfoMask(net).score_regions(images, FILL, 2, view="keep", regions=windows)
    assert not torch.allclose(infomap.scores, keep.scores, atol=0.01)


def test_draws_depend_on_the_seed_only(net, images):
    regions = grid(images, 3, 3)
    state = torch.get_rng_state()
    base = chain(net, images, regions=regions, seed=1)
    torch.manual_seed(99)
    again = chain(net, images[1:], regions=regions, seed=1, perturbations_per_eval=5)
    torch.testing.assert_close(again.scores[0], base.scores[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(again.standard_errors[0], base.standard_errors[1])
    other = chain(net, images, regions=regions, seed=2)
    assert not torch.allclose(other.scores, base.scores, atol=1e-3)
    torch.set_rng_state(state)
    chain(net, images, regions=regions, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_with_different_labels_score_as_they_do_alone(net, images):
    """Three labels have six orders, all of them taken; ten labels have more than sixteen."""
    labels = torch.arange(99).reshape(1, 1, 11, 9)
    first, second = labels // 33, 50 + labels // 10
    both = chain(net, images, regions=None, feature_mask=torch.cat([first, second]))
    for image, own in enumerate((first, second)):
        alone = chain(net, images[image : image + 1], feature_mask=own)
        names = both.scores[image].isfinite()
        torch.testing.assert_close(both.scores[image][names], alone.scores[0])
        torch.testing.assert_close(both.standard_errors[image][names], alone.standard_errors[0])
    assert both.scores.isnan().sum(1).tolist() == [10, 3]
    assert both.attributions().isfinite().all()


def test_several_inputs():
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    infomap = InfoMask(two_inputs).score_regions((x, y), target=1, view="chain", n_samples=24)
    assert infomap.scores.shape == (3, 4)
    assert infomap.standard_errors.eq(0).all()
    torch.testing.assert_close(infomap.scores.sum(1), infomap.total - infomap.blank[:, 0])
    assert float(infomap.scores.abs().min(0).values.max()) > 0.01


def test_the_last_step_is_taken_once():
    net, x, seen = Net(), torch.rand(1, 3, 8, 8), []

    def forward(x):
        seen.extend(x)
        return net(x)

    chain(forward, x, regions=grid(x, 4, 2), n_samples=6)
    assert len(seen) == 1 + 1 + 6 * 7 + 1
    assert sum(torch.equal(picture, x[0]) for picture in seen) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_samples": 5}, "`n_samples` to be even for view='chain'.*got 5"),
        ({"n_samples": 0}, "`n_samples` to be an integer of at least 1; got 0"),
        ({"n_samples": 2.0}, "`n_samples` to be an integer of at least 1; got 2.0"),
        ({"seed": -1}, "`seed` to be an integer from 0.*got -1"),
        ({"seed": 2**63}, "`seed` to be an integer from 0"),
        ({"seed": True}, "`seed` to be an integer from 0"),
        ({"reference": "blank"}, "`reference` with view='crop' or view='keep'; view='chain'"),
        ({"crop_size": (4, 4)}, "`crop_size` with view='crop' only"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(ArgumentError, match=words):
        chain(Net(), torch.rand(1, 3, 8, 8), **options)


def test_intervals_want_something_random(net, images):
    keep = InfoMask(net).score_regions(images, target=0, view="keep", regions=grid(images, 2, 2))
    with pytest.raises(ArgumentError, match=r"view='chain'.*got view='keep'"):
        keep.interval()
    infomap = chain(net, images, regions=grid(images, 3, 3))
    for level in (0, 1, -0.5, math.nan, "95%"):
        with pytest.raises(ArgumentError, match="`level`"):
            infomap.interval(level)
    low, high = infomap.interval(0.9)
    wide_low, wide_high = infomap.interval(0.99)
    assert bool(((wide_low < low) & (high < wide_high)).all())
