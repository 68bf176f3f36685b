"""What every rule of masks promises: one row a rule, and one more for each of its ways.

To add a rule is to add a row to ``RULES``; ``test_every_rule_has_a_row`` fails until it is there.
"""

import dataclasses
import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import captum_infomask
from captum_infomask import (
    AtLeast,
    FalseDiscoveries,
    Hysteresis,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    masks,
    threshold_mask,
)
from captum_infomask.masks import Rule


def max_fraction(values, rule):
    return values >= rule.fraction * values.max()


def at_least(values, rule):
    return values >= rule.bits


def top_fraction(values, rule):
    count = max(1, round(rule.fraction * values.size))
    return (values >= np.sort(values)[::-1][count - 1]) & (values > 0)


def between_groups(values, kept):
    low, high = values[~kept], values[kept]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2


@dataclasses.dataclass(frozen=True)
class Row:
    """What is expected of a rule besides the promises that all make.

    Attributes:
        words: The rule in words of numpy, on one example's values; None where another test has it.
        relative: Values times a number are cut at the same places.
        pixelwise: A place is kept by its value alone, wherever it lies.
    """

    rule: Rule
    words: Callable | None = None
    relative: bool = True
    pixelwise: bool = True


RULES = {
    "max fraction: default": Row(MaxFraction(), max_fraction),
    "max fraction: all of it": Row(MaxFraction(1.0), max_fraction),
    "top fraction": Row(TopFraction(0.3), top_fraction),
    "top fraction: all": Row(TopFraction(1.0), top_fraction),
    "at least": Row(AtLeast(1.5), at_least, relative=False),
    "otsu": Row(Otsu()),  # tests/test_masks.py: it leaves the most variance between its groups
    "hysteresis": Row(Hysteresis(), pixelwise=False),  # tests/test_mask_shapes.py
}
MAPS = arrays(
    "float64",
    array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5),
    elements=st.floats(-5, 5, width=16),
    fill=st.nothing(),  # every value is drawn, so that few are equal
)
pytestmark = pytest.mark.filterwarnings("ignore:The mask of example")
each = pytest.mark.parametrize("row", RULES.values(), ids=RULES)


def test_every_rule_has_a_row():
    kinds = {
        kind
        for kind in map(masks.__dict__.get, masks.__all__)
        # FalseDiscoveries cuts no attributions, only InfoMaps: test_e_values.py.
        if inspect.isclass(kind) and kind not in (Rule, FalseDiscoveries)
    }
    assert {type(row.rule) for row in RULES.values()} == kinds
    assert {kind.__name__ for kind in kinds} <= set(captum_infomask.__all__)


@each
@given(attributions=MAPS)
@settings(deadline=None, max_examples=50)
def test_the_mask_has_the_maps_form_and_its_words(row, attributions):
    given_ = torch.from_numpy(attributions)
    mask = threshold_mask(given_, row.rule)
    assert mask.dtype == torch.bool
    assert mask.shape == attributions.shape
    shown = given_ if row.pixelwise else given_.amax(1, keepdim=True).expand_as(given_)
    assert not mask[shown <= 0].any()
    for example, values in enumerate(attributions):
        if values.max() <= 0:
            assert not mask[example].any()
        elif row.words:
            assert (mask[example].numpy().ravel() == row.words(values.ravel(), row.rule)).all()
        # Each example is cut by itself.
        alone = threshold_mask(given_[example : example + 1], row.rule)
        assert torch.equal(mask[example : example + 1], alone)
    assert torch.equal(threshold_mask(given_, row.rule, invert=True), ~mask)


@each
@given(attributions=MAPS, factor=st.sampled_from([0.25, 4.0, 1024.0]))
@settings(deadline=None, max_examples=50)
def test_what_is_larger_is_kept_and_what_is_equal_is_kept_together(row, attributions, factor):
    given_ = torch.from_numpy(attributions)
    mask = threshold_mask(given_, row.rule)
    if row.pixelwise:
        for values, kept in zip(given_, mask, strict=True):
            if kept.any():
                assert values[kept].min() > values[~kept].max() if (~kept).any() else True
        turned = threshold_mask(given_.flip(2, 3), row.rule)
        assert torch.equal(turned.flip(2, 3), mask)
    if row.relative:
        assert torch.equal(threshold_mask(given_ * factor, row.rule), mask)


@each
def test_rules_are_values_that_say_what_they_are(row):
    assert isinstance(row.rule, Rule)
    names = {name: getattr(captum_infomask, name) for name in captum_infomask.__all__}
    again = eval(repr(row.rule), names)
    assert again == row.rule
    assert hash(again) == hash(row.rule)
    for name in vars(row.rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(row.rule, name, 0.5)


@each
def test_masks_of_infomask_and_of_its_maps_are_the_threshold_of_its_attributions(row, net, images):
    infomask, options = InfoMask(net), {"target": [1, 0], "view": "drop"}
    attributions = infomask.attribute(images, **options)
    mask = threshold_mask(attributions, row.rule)
    assert mask.any() or not row.relative
    assert torch.equal(infomask.mask(images, rule=row.rule, **options), mask)
    assert torch.equal(infomask.mask(images, rule=row.rule, invert=True, **options), ~mask)
    assert torch.equal(infomask.score_regions(images, **options).mask(row.rule), mask)
    (tuple_of_one,) = infomask.mask((images,), rule=row.rule, **options)
    assert torch.equal(tuple_of_one, mask)
