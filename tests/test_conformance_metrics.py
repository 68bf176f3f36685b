"""What every metric promises: one row a metric.

To add a metric is to add a row to ``ROWS``; ``test_every_metric_has_a_row`` fails until it is
there.
"""

import dataclasses
import math
from typing import get_args

import pytest
import torch
from metric_samples import sample
from refused import refused
from state import unchanged

import captum_infomask
from captum_infomask.evaluation.choose_metrics import METRICS
from captum_infomask.evaluation.metric_protocol import CommonThreshold, Metric
from captum_infomask.report.page_content import Better

SIDE = 12


@dataclasses.dataclass(frozen=True)
class Row:
    """What is expected of a metric besides the promises that all make.

    Attributes:
        better: Which end is better.
        places: It knows the right pixels and asks no network.
        draws: Another seed gives another number.
        order: Only the order of a map's values counts, and not their size.
        worst: It tells a map from its opposite: it looks at the map, and not at the method.
    """

    better: str = "higher"
    places: bool = True
    draws: bool = False
    order: bool = True
    worst: bool = True


ROWS = {
    "deletion": Row("lower", places=False),
    "insertion": Row(places=False),
    "infidelity": Row("lower", places=False, draws=True, order=False),
    "sensitivity": Row("lower", places=False, draws=True, order=False, worst=False),
    "pointing_game": Row(),
    "iou": Row(),
    "relevance_mass": Row(order=False),
    "relevance_rank": Row(),
    "average_precision": Row(),
    "box_iou": Row(order=False),
    "max_box_acc": Row(order=False),
}
each = pytest.mark.parametrize("name", ROWS)


def made(net, plane, seed=0, **given):
    """A sample of a photograph of noise, of which the upper left is right."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(1, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    truth = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    truth[1:6, 2:7] = True
    boxes = torch.tensor([[2, 1, 7, 6]], dtype=torch.float64)
    known = {"truth": truth, "boxes": boxes} | given
    ask = {"inputs": inputs, "attribute": lambda x: x * plane, "seed": seed}
    return sample(plane, net, **ask, **known)


@pytest.fixture
def plane():
    """A smooth map, largest in the upper left, of both signs."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    values = torch.exp(-((y - 3) ** 2 + (x - 4) ** 2) / 8.0) - 0.2
    return values.double() + 1e-3 * torch.arange(SIDE**2).reshape(SIDE, SIDE) / SIDE**2


def test_every_metric_has_a_row():
    assert list(METRICS) == list(ROWS)
    assert {kind.__name__ for kind in METRICS.values()} <= set(captum_infomask.__all__)


@each
def test_it_says_what_it_is(name):
    kind, row = METRICS[name], ROWS[name]
    metric = kind()
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert metric.better == row.better
    assert metric.better in get_args(Better)
    assert metric.needs_truth == row.places
    assert metric.note.endswith(".")
    assert metric == kind()
    assert hash(metric) == hash(kind())


@each
def test_it_is_a_number_by_the_seed_and_changes_nothing(name, net, plane):
    metric, given = METRICS[name](), made(net, plane)
    tensors = [value for value in vars(given).values() if isinstance(value, torch.Tensor)]
    with unchanged(net, *tensors):
        first = metric(given).value
    torch.manual_seed(99)
    assert metric(made(net, plane)).value == first
    assert (metric(made(net, plane, seed=1)).value != first) == ROWS[name].draws
    assert isinstance(first, float)
    assert math.isfinite(first)


@each
def test_the_unit_of_a_map_does_not_count(name, net, plane):
    """Nor, where only the order counts, how its values are spread."""
    metric = METRICS[name]()
    first = metric(made(net, plane)).value
    assert metric(made(net, 4 * plane)).value == pytest.approx(first, rel=1e-9)
    bent = metric(made(net, plane.sign() * plane.abs() ** 0.5)).value
    assert not ROWS[name].order or bent == first


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.worst])
def test_a_right_map_is_better_than_its_opposite(name, plane):
    """Of a network that adds up what it sees in the right place, and knows two classes."""

    def forward(pictures):
        logit = 4 * pictures[:, :, 1:6, 2:7].mean((1, 2, 3)) - 2
        return torch.stack([logit, -logit], 1)

    seen = {"inputs": torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64)}
    metric, row = METRICS[name](), ROWS[name]
    known = made(None, plane)
    places, truth = {"truth": known.truth, "boxes": known.boxes}, known.truth.double()
    right, wrong = (
        metric(sample(each_map, forward, **seen, **places)).value for each_map in (truth, 1 - truth)
    )
    assert (right > wrong + 0.1) if row.better == "higher" else (right < wrong - 1e-3)
    if row.places:
        assert right == 1


@each
def test_where_no_place_is_known_it_asks_for_it_or_needs_none(name, net, plane):
    metric, given = METRICS[name](), made(net, plane, truth=None, boxes=None)
    if ROWS[name].places:
        refused(("known",), lambda: metric(given))
    else:
        assert metric(given).value == metric(made(net, plane)).value


@each
def test_what_it_found_besides_is_on_the_cpu_in_double(name, net, plane):
    found = METRICS[name]()(made(net, plane))
    for besides in (found.curve, found.overlaps):
        assert besides is None or (besides.dtype, besides.device.type) == (torch.float64, "cpu")
    assert (found.overlaps is not None) == isinstance(METRICS[name](), CommonThreshold)
