# The incremental engine leaves the user's network, pictures and random state as they were.
from types import SimpleNamespace

import pytest
import torch
from incremental_networks import opaque, scatter
from state import unchanged
from torch import nn

from captum_infomask import InfoMask, grid

RUNS = SimpleNamespace(at=10**9, error=RuntimeError, count=0)


@opaque
def fragile(x):
    """The same, as long as it is not its turn to fail; no tracer looks into it."""
    RUNS.count += 1
    if RUNS.count >= RUNS.at:
        raise RUNS.error("in the middle")
    return x * 1


class Net(nn.Module):
    """In-place layers, buffers that move, some state, and the operation that fails."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(4, 5)
        self.register_buffer("count", torch.zeros(()))
        self.seen = []

    def forward(self, x):
        self.count += 1
        x = self.act(self.norm(self.first(x.mul_(2))))
        self.seen.append(x)
        return self.last(fragile(x).mean((2, 3)))


@pytest.fixture
def net():
    made = scatter(Net().eval()).float()
    made.first.weight.data = made.first.weight.data.contiguous(memory_format=torch.channels_last)
    made.norm.weight.requires_grad_(False)
    made.last.bias.grad = torch.ones(5)
    vars(RUNS).update(at=10**9, count=0)
    return made


def layout(net):
    """What ``unchanged`` does not look at: memory, modules, flags."""
    tensors = {name: (t.stride(), t.data_ptr()) for name, t in net.state_dict().items()}
    modules = {name: (id(m), m.training) for name, m in net.named_modules()}
    return tensors, modules, net.act.inplace, net.norm.momentum


@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
def test_after_success(net, view):
    x = torch.randn(2, 3, 9, 8)
    before = layout(net)
    with unchanged(net, x):
        found = InfoMask(net).score_regions(
            x, target=1, view=view, regions=grid(x, 3, 3), engine="incremental"
        )
    assert found.engine == "incremental"
    assert found.scores.abs().max() > 0.01
    assert layout(net) == before
    assert all(type(seen) is torch.Tensor for seen in net.seen)


@pytest.mark.parametrize(
    ("view", "error", "at"),
    [
        *(("drop", RuntimeError, at) for at in (1, 2, 3, 4, 5, 7)),
        *((view, RuntimeError, at) for view in ("keep", "chain") for at in (5, 7)),
        *(("drop", KeyboardInterrupt, at) for at in (3, 7)),
    ],
)
def test_after_an_exception_in_the_middle(net, view, error, at):
    x = torch.randn(2, 3, 9, 8)
    before = layout(net)
    vars(RUNS).update(at=at, error=error)
    with unchanged(net, x), pytest.raises(error, match="in the middle"):
        InfoMask(net).score_regions(
            x, target=1, view=view, regions=grid(x, 3, 3), engine="incremental",
            perturbations_per_eval=2,
        )  # fmt: skip
    assert RUNS.count >= at
    assert layout(net) == before
    assert all(type(seen) is torch.Tensor for seen in net.seen)


def test_the_engine_was_at_work_when_it_failed(net):
    """Of the runs above, the first are of the whole pictures, the trace and the comparison."""
    x = torch.randn(2, 3, 9, 8)
    log, plain = SimpleNamespace(shapes=[]), nn.Linear.forward

    def spy(layer, pooled):
        log.shapes.append(len(pooled))
        return plain(layer, pooled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "forward", spy)
        InfoMask(net).score_regions(
            x, target=1, view="drop", regions=grid(x, 3, 3), engine="incremental",
            perturbations_per_eval=2,
        )  # fmt: skip
    pictures, sample, base, own, same, *rest = log.shapes
    assert (pictures, sample, base, own, same) == (2, 1, 1, 1, 1)
    assert rest.count(1) >= 4  # what is left over of the nine windows, and the other picture's
    assert sum(rest) == 3 + 18


def test_the_network_can_be_trained_afterwards(net):
    x = torch.randn(2, 3, 9, 8)
    InfoMask(net).attribute(x, target=1, view="drop", engine="incremental", regions=grid(x, 3, 3))
    net.train()(x.clone()).sum().backward()
    assert net.first.weight.grad.abs().max() > 0
    assert not any(seen.is_inference() for seen in net.seen)


def test_pictures_that_ask_for_gradients_and_modes_of_the_users(net):
    x = torch.randn(2, 3, 9, 8)
    arguments = {"target": 1, "view": "drop", "engine": "incremental", "regions": grid(x, 3, 3)}
    wanted = InfoMask(net).score_regions(x, **arguments)
    with torch.inference_mode():
        found = InfoMask(net).score_regions(x, **arguments)
    assert found.engine == wanted.engine == "incremental"
    torch.testing.assert_close(found.scores.clone(), wanted.scores, rtol=0, atol=1e-6)
    asking = x.clone().requires_grad_()
    found = InfoMask(net).score_regions(asking, **arguments)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-6)
    assert asking.grad is None
    assert torch.equal(asking, x)
