# Measures against masks that are known, against slow counts.
import math

import pytest
import torch

from captum_infomask import ArgumentError
from captum_infomask.evaluation.ground_truth import (
    average_precision,
    bootstrap,
    ink_iou,
    positive_share,
)


def random_masks(*seeds: int) -> tuple[torch.Tensor, ...]:
    made = (torch.rand(6, 1, 5, 7, generator=torch.Generator().manual_seed(s)) for s in seeds)
    return tuple(mask > 0.5 for mask in made)


def test_ink_iou_counts_pixels():
    masks, ink, right = random_masks(0, 1, 2)
    right &= ink
    for place, found in enumerate(ink_iou(masks, ink, right).tolist()):
        kept = {tuple(p) for p in (masks[place] & ink[place]).nonzero().tolist()}
        wanted = {tuple(p) for p in right[place].nonzero().tolist()}
        assert found == pytest.approx(len(kept & wanted) / len(kept | wanted))


def test_positive_share_ignores_negative_values():
    right = random_masks(3)[0]
    values = torch.randn(right.shape, generator=torch.Generator().manual_seed(4))
    for place, found in enumerate(positive_share(values, right).tolist()):
        pairs = list(zip(values[place].flatten().tolist(), right[place].flatten(), strict=True))
        inside = sum(value for value, there in pairs if there and value > 0)
        assert found == pytest.approx(inside / sum(value for value, _ in pairs if value > 0))
    assert positive_share(-values.abs(), right).tolist() == [0.0] * 6


def test_average_precision_is_the_mean_precision_at_each_right_pixel():
    right = random_masks(3)[0]
    generator = torch.Generator().manual_seed(4)
    orders = [torch.randperm(35, generator=generator) for _ in right]
    values = torch.stack(orders).reshape(right.shape) - 17.0
    for place, found in enumerate(average_precision(values, right).tolist()):
        order = values[place].flatten().argsort(descending=True)
        hits = right[place].flatten()[order].tolist()
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        assert found == pytest.approx(sum(precisions) / len(precisions), abs=1e-6)


def test_average_precision_takes_equal_values_together_whatever_their_rounding():
    right = random_masks(3)[0]
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(4))
    # The mean over all orders: at place k one right pixel, and of the others before it their share.
    count = right.flatten(1).sum(1, keepdim=True)
    places = torch.arange(35)
    share = ((1 + places * (count - 1) / 34) / (places + 1)).mean(1)
    torch.testing.assert_close(average_precision(1 + 1e-6 * noise, right), share)
    torch.testing.assert_close(average_precision(torch.zeros(right.shape), right), share)
    assert (average_precision(1 + noise, right) - share).abs().max() > 0.05


def test_bootstrap_interval_is_the_normal_one_for_many_values():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    found = bootstrap(values)
    assert torch.equal(before, torch.get_rng_state())
    half = 1.96 * values.std().item() / math.sqrt(1000)
    assert found.mean == pytest.approx(values.mean().item(), abs=1e-6)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)
    assert bootstrap(values) == found


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        (lambda right: ink_iou(right.float(), right, right), "`masks`"),
        (lambda right: ink_iou(right, right[:, :, :2], right), "`ink`"),
        (lambda right: positive_share(right, right), "`attributions`"),
        (lambda right: average_precision(torch.rand(2, 2), right), "`attributions`"),
        (lambda right: ink_iou(right, right, right & False), "`right`"),
        (lambda right: positive_share(torch.rand(6, 1, 5, 7), right.float()), "`right`"),
        (lambda right: bootstrap(torch.rand(2, 2)), "`values`"),
        (lambda right: bootstrap(torch.rand(0)), "`values`"),
    ],
)
def test_bad_arguments_of_metrics_are_named(measure, named):
    with pytest.raises(ArgumentError, match=named):
        measure(random_masks(3)[0])
