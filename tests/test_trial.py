# The trial of two engines on a device whose speed is not known beforehand.
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from captum_infomask.engines.incremental import trial
from captum_infomask.imputers.constant import Constant
from captum_infomask.regions.windows import grid
from captum_infomask.views.in_place import Drop
from captum_infomask.views.plan import Scene, ViewPlan

SLOW, QUICK = 8.0, 1.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only engines take time."""
    Engine.now = 0.0
    monkeypatch.setattr(trial.time, "perf_counter", lambda: Engine.now)


class Engine:
    """Gives every view the number of its region, so many views at a time, in so much time."""

    name = "stub"
    now = 0.0

    def __init__(self, views: int, seconds: float) -> None:
        self.views, self.seconds, self.ran = views, seconds, 0

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(plan)).split(self.views):
            Engine.now += self.seconds
            self.ran += len(rows)
            yield rows, plan.regions[rows][:, None].double()


@pytest.fixture
def plan() -> ViewPlan:
    images = torch.rand(1, 3, 16, 16)
    regions = grid(images, 8, 8)
    return Drop().plan(Scene((images,), regions, Constant().prepare((images,))))


def outcome(own: Engine, batched: Engine, plan: ViewPlan) -> tuple[Tensor, bool]:
    outputs = torch.full((len(plan), 1), torch.nan, dtype=torch.float64)
    running = trial.run_the_faster(own.run(plan), batched, plan)
    while True:
        try:
            rows, chunk = next(running)
        except StopIteration as end:
            return outputs, end.value
        assert outputs[rows].isnan().all(), "a view came twice"
        outputs[rows] = chunk


@pytest.mark.parametrize(("own", "other"), [(QUICK, SLOW), (SLOW, QUICK)])
def test_the_faster_engine_runs_the_rest(plan: ViewPlan, own: float, other: float) -> None:
    boxes, batched = Engine(4, own), Engine(3, other)
    outputs, is_faster = outcome(boxes, batched, plan)
    assert torch.equal(outputs[:, 0], plan.regions.double())
    assert is_faster == (own < other)
    tried = 16
    assert boxes.ran == (len(plan) if is_faster else tried)
    assert batched.ran == (tried if is_faster else len(plan))


def test_few_chunks_end_before_the_trial_does(plan: ViewPlan) -> None:
    boxes, batched = Engine(40, SLOW), Engine(40, QUICK)
    outputs, is_faster = outcome(boxes, batched, plan)
    assert is_faster
    assert torch.equal(outputs[:, 0], plan.regions.double())


def test_a_part_of_a_plan_shows_the_same(plan: ViewPlan) -> None:
    part = plan.part(torch.tensor([5, 2]))
    assert part.regions.tolist() == [plan.regions[5], plan.regions[2]]
    assert len(part) == 2
    assert part.hidden == plan.hidden
