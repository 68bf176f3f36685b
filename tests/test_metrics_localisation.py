# Metrics with ground truth, against slow counts, scikit-learn and Quantus.
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from metric_samples import sample
from reference_shapes import box, box_overlap, parts
from refused import refused

from captum_infomask import (
    AveragePrecision,
    BestBoxIoU,
    MaskIoU,
    MaxBoxAcc,
    PointingGame,
    RelevanceMass,
    RelevanceRank,
    max_box_acc,
)

SHAPE = (4, 5)
# Few different values, so that ties are many.
PLANES = arrays("float64", SHAPE, elements=st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0]))
TRUTHS = arrays("bool", SHAPE).filter(np.any)


def known(plane, truth, **given):
    return sample(plane, truth=torch.as_tensor(truth), **given)


@given(PLANES, TRUTHS, st.sampled_from([0, 1, 1.5, 3]))
@settings(deadline=None, max_examples=60)
def test_pointing_game_looks_at_every_largest_pixel(plane, truth, tolerance):
    right = [place for place in np.ndindex(SHAPE) if truth[place]]
    largest = [place for place in np.ndindex(SHAPE) if plane[place] == plane.max()]
    hits = [min(math.dist(place, one) for one in right) <= tolerance for place in largest]
    want = sum(hits) / len(hits)
    assert PointingGame(tolerance)(known(plane, truth)).value == pytest.approx(want, abs=1e-12)


@given(PLANES, TRUTHS)
@settings(deadline=None, max_examples=60)
def test_relevance_mass_and_rank_are_the_slow_counts(plane, truth):
    positive = sum(max(float(value), 0) for value in plane.flat)
    inside = sum(max(float(plane[p]), 0) for p in np.ndindex(SHAPE) if truth[p])
    found = RelevanceMass()(known(plane, truth)).value
    assert found == pytest.approx(inside / positive if positive else 0, abs=1e-6)
    count = int(truth.sum())
    # The mean over all orders of equal pixels, by drawing none of them: place by place.
    share, left = 0.0, count
    for value in sorted(set(plane.flat), reverse=True):
        level = [p for p in np.ndindex(SHAPE) if plane[p] == value]
        taken = min(left, len(level))
        share += taken * sum(bool(truth[p]) for p in level) / len(level)
        left -= taken
    assert RelevanceRank()(known(plane, truth)).value == pytest.approx(share / count, abs=1e-6)


def test_relevance_rank_is_the_mean_over_the_orders_of_equal_pixels():
    plane, truth = [2.0, 1.0, 1.0, 1.0], [True, False, True, False]
    shares = []
    for order in itertools.permutations(range(4)):
        ranked = sorted(order, key=lambda place: -plane[place])
        shares.append(sum(truth[place] for place in ranked[:2]) / 2)
    found = RelevanceRank()(known(torch.tensor([plane]), torch.tensor([truth]))).value
    assert found == pytest.approx(sum(shares) / len(shares), abs=1e-7)
    assert found == pytest.approx(2 / 3, abs=1e-7)


@given(arrays("bool", SHAPE), TRUTHS)
@settings(deadline=None, max_examples=30)
def test_iou_counts_pixels_of_the_mask(mask, truth):
    made = known(np.zeros(SHAPE), truth, mask=torch.from_numpy(mask))
    assert MaskIoU()(made).value == (mask & truth).sum() / (mask | truth).sum()


def test_average_precision_is_scikit_learns_where_no_two_pixels_are_equal():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    plane = torch.randperm(72, generator=generator).reshape(8, 9) - 30.0
    truth = torch.rand(8, 9, generator=generator) < 0.3
    want = metrics.average_precision_score(truth.flatten().numpy(), plane.flatten().numpy())
    found = AveragePrecision()(known(plane, truth)).value
    assert found == pytest.approx(want, abs=1e-6)
    jaccard = metrics.jaccard_score(truth.flatten().numpy(), (plane > 0).flatten().numpy())
    assert MaskIoU()(known(plane, truth)).value == pytest.approx(jaccard, abs=1e-12)


def literal_precision(ranked):
    """Average precision of one order of right and wrong pixels."""
    precisions = [sum(ranked[: k + 1]) / (k + 1) for k, one in enumerate(ranked) if one]
    return sum(precisions) / len(precisions)


@given(arrays("int64", 6, elements=st.integers(0, 2)), arrays("bool", 6).filter(np.any))
@settings(deadline=None, max_examples=30)
def test_average_precision_is_the_mean_over_the_orders_of_equal_pixels(plane, truth):
    found = [
        literal_precision([truth[k] for k in sorted(order, key=lambda k: -plane[k])])
        for order in itertools.permutations(range(6))
    ]
    got = AveragePrecision()(known(plane[None], truth[None])).value
    assert got == pytest.approx(sum(found) / len(found), abs=1e-6)


def test_average_precision_does_not_reward_what_breaks_ties_at_random():
    generator = torch.Generator().manual_seed(1)
    plane = torch.randperm(16, generator=generator).reshape(4, 4) / 15
    plane = plane.repeat_interleave(8, 0).repeat_interleave(8, 1)
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[5:20, 3:17] = True
    noise = 1e-2 * torch.rand(50, 32, 32, generator=generator)
    broken = [AveragePrecision()(known(plane + each, truth)).value for each in noise]
    found = AveragePrecision()(known(plane, truth)).value
    assert found == pytest.approx(sum(broken) / 50, abs=2e-3)
    metrics = pytest.importorskip("sklearn.metrics")
    last = metrics.average_precision_score(truth.flatten().numpy(), plane.flatten().numpy())
    assert abs(found - last) > 1e-2


@given(PLANES, TRUTHS, st.sampled_from([np.flipud, np.fliplr, np.rot90, np.transpose]))
@settings(deadline=None, max_examples=30)
def test_a_picture_turned_with_its_map_keeps_its_numbers(plane, truth, turned):
    for metric in (PointingGame(), PointingGame(1), RelevanceRank(), AveragePrecision()):
        want = metric(known(plane, truth)).value
        got = metric(known(turned(plane).copy(), turned(truth).copy())).value
        assert got == pytest.approx(want, abs=1e-6)


@given(PLANES, st.sampled_from([(0, 0, 2, 2), (1, 1, 4, 3), (0, 0, 5, 4)]))
@settings(deadline=None, max_examples=60)
def test_best_box_is_the_best_over_all_thresholds(plane, right):
    low, span = plane.min(), (plane.max() - plane.min()) or 1.0
    best = 0.0
    for step in range(10):
        mask = [[(value - low) / span >= step / 10 for value in line] for line in plane]
        for part in parts(mask, corners=True):
            best = max(best, box_overlap(box(part), right))
    made = sample(plane, boxes=torch.tensor([right], dtype=torch.float64))
    assert BestBoxIoU(10)(made).value == pytest.approx(best, abs=1e-12)


def test_boxes_of_several_objects_count_by_the_best():
    plane = torch.zeros(8, 8)
    plane[1:3, 1:5] = 1.0
    boxes = torch.tensor([[6, 6, 8, 8], [1, 1, 5, 3]], dtype=torch.float64)
    assert BestBoxIoU()(sample(plane, boxes=boxes)).value == 1
    assert BestBoxIoU()(sample(plane, boxes=boxes[:1])).value < 0.1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (PointingGame(), "PointingGame"),
        (RelevanceMass(), "RelevanceMassAccuracy"),
        (RelevanceRank(), "RelevanceRankAccuracy"),
    ],
)
def test_quantus_says_the_same(ours, theirs):
    quantus = pytest.importorskip("quantus")
    metric = getattr(quantus, theirs)(abs=False, normalise=False, disable_warnings=True)
    values = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        plane = torch.rand(8, 8, generator=generator, dtype=torch.float64)
        truth = torch.rand(8, 8, generator=generator) < 0.4
        (found,) = metric(
            model=torch.nn.Flatten().eval(),
            x_batch=np.ones((1, 1, 8, 8), np.float32),
            y_batch=np.array([0]),
            a_batch=plane[None, None].numpy(),
            s_batch=truth[None, None].numpy(),
            channel_first=True,
        )
        values.append(ours(known(plane, truth)).value)
        assert values[-1] == pytest.approx(float(found), abs=1e-6)
    assert len(set(values)) > 1


def test_settings():
    for tolerance in (-1, math.nan, "15", None):
        refused(("`tolerance`",), lambda tolerance=tolerance: PointingGame(tolerance))
    for count in (0, 1.5, None):
        refused(("`thresholds`",), lambda count=count: BestBoxIoU(count))
    assert "15 pixels" in PointingGame(15).note
    assert "50 thresholds" in BestBoxIoU(50).note


def test_max_box_acc_is_that_of_all_pictures_together():
    generator = torch.Generator().manual_seed(5)
    planes = torch.randn(6, 1, 12, 12, generator=generator, dtype=torch.float64)
    planes = torch.nn.functional.avg_pool2d(planes, 3, 1, 1)
    boxes = [torch.tensor([[2 + k % 3, 1, 8 + k % 4, 9 + k % 2]]) for k in range(6)]
    metric = MaxBoxAcc()
    found = [metric(sample(plane[0], boxes=box)) for plane, box in zip(planes, boxes, strict=True)]
    values = metric.over(torch.stack([each.overlaps for each in found]))
    expected = max_box_acc(planes, boxes)
    assert float(values.mean()) == pytest.approx(expected.mean, abs=1e-12)
    assert 0.2 < expected.mean < 0.9
    # Alone, a picture has the best thresholds to itself.
    alone = [max_box_acc(plane[None], [box]).mean for plane, box in zip(planes, boxes, strict=True)]
    assert [each.value for each in found] == pytest.approx(alone, abs=1e-12)
    assert sum(alone) / 6 > expected.mean + 0.05
