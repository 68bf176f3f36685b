# Traced networks: the same numbers, no writes, the user's own parameters, or a reason why not.
import warnings

import pytest
import torch
from incremental_networks import DTYPE, Layer, scatter
from state import differences, take_down, unchanged
from torch import nn
from torch.nn import functional as F

from captum_infomask import keep_dropout
from captum_infomask.engines.traced import folded, traced
from captum_infomask.engines.traced_network import StandsAside


def run_watched(network, *inputs):
    """Run a traced network, and fail if a value is written to after it was made."""
    made = {}

    def note(node, values):
        if isinstance(values[node], torch.Tensor):
            made[node] = values[node], values[node].clone()

    result = network(*inputs, seen=note)
    for node, (value, before) in made.items():
        assert torch.equal(value, before), node
    return result


def _plus(x):
    x += 1
    return x


def _read_later(a):
    b = a * 2
    torch.relu_(a)
    return a + b


def _read_before_and_after(a):
    before = a.tanh()
    F.relu(a, inplace=True)
    return before + a.sigmoid() + a.clamp_(max=0.1) * a


def _chain_of_writes(a):
    b = a.mul_(0.5).add_(1).sub_(0.1).div_(2)
    return b * 0.3 + a.tanh()


def _positional(a):
    F.hardtanh(a, -0.2, 0.4, True)
    return a * 3


def _into(a):
    b = a.exp()
    b.add_(a, alpha=0.5)
    return b * a


IDIOMS = {
    "nn": nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True), nn.Hardswish(inplace=True)),
    "nn on the input": nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(inplace=True)),
    "+=": Layer("", _plus),
    "read later": Layer("", _read_later),
    "read before and after": Layer("", _read_before_and_after),
    "chain of writes": Layer("", _chain_of_writes),
    "positional": Layer("", _positional),
    "written into": Layer("", _into),
    "dropout": Layer("", lambda a: F.dropout(a, 0.5, False, True) * 2),
    "operator.and_": Layer("", lambda a: a * ((a > 0.1) & (a < 0.5))),
    "parameter": Layer(
        "", lambda a, last: a.mul_(last.weight[0, 0]).add_(last.bias), nn.Linear(1, 1)
    ),
}


@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize("fold", [False, True])
def test_in_place_operations_become_plain_ones(idiom, fold):
    net = scatter(nn.Sequential(nn.Conv2d(3, 4, 3), IDIOMS[idiom]).eval().to(DTYPE))
    for network in (net, net[1]):
        x = torch.randn(2, 3, 8, 8, dtype=DTYPE)
        wanted = network(x.clone())
        assert wanted.std() > 0.01
        made = traced(network)
        made = folded(made) if fold else made
        with unchanged(network, x):
            for _ in range(2):
                torch.testing.assert_close(run_watched(made, x), wanted, rtol=0, atol=1e-12)


def test_an_aliased_write_is_what_tracing_cannot_see():
    """So that the engines must compare; test_incremental_aside.py shows that they do."""

    def aliased(a):
        b = a
        a += 1
        return a * b

    made = traced(Layer("", aliased).eval())
    x = torch.rand(2, 3)
    assert (made(x) - Layer("", aliased)(x.clone())).abs().min() > 0.5


class Block(nn.Module):
    """A convolution with two norms, one that is read twice, shared layers, and Python state."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, bias=False)
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        self.untracked = nn.BatchNorm2d(4, track_running_stats=False)
        self.act = nn.ReLU(inplace=True)
        self.seen, self.calls = None, 0

    def forward(self, x, mask=None, scale=1.0, twice=False):
        self.calls += 1
        self.seen = self.one(x)
        if mask is not None:
            x = x * mask
        if twice:
            x = x * 2
        y = self.act(self.norm(self.seen)) + self.seen * scale
        y = self.act(self.other(self.two(y)))
        return self.untracked(self.two(y))


@pytest.fixture
def block():
    made = scatter(Block().eval().to(DTYPE))
    made.one.weight.data = made.one.weight.data.contiguous(memory_format=torch.channels_last)
    made.two.weight.requires_grad_(False)
    return made


def test_folding(block):
    x = torch.randn(2, 3, 9, 8, dtype=DTYPE)
    with torch.no_grad():
        wanted = block(x)
    made = folded(traced(block))
    torch.testing.assert_close(made(x), wanted, rtol=0, atol=1e-12)
    left = [type(each) for each in made.modules.values()]
    # `one` is also read without its norm; `two` is folded into `other`, and once runs without.
    assert left.count(nn.BatchNorm2d) == 2
    assert left.count(nn.Conv2d) == 3
    assert wanted.std() > 0.1


def test_nothing_of_the_users_is_changed(block):
    strides = {name: value.stride() for name, value in block.state_dict().items()}
    modules = {name: id(module) for name, module in block.named_modules()}
    x = torch.randn(1, 3, 8, 8, dtype=DTYPE)
    with torch.no_grad():
        block(x)
    calls, seen = block.calls, block.seen
    with unchanged(block, x):
        made = folded(traced(block))
        made(x).sum().backward()
        for parameter in block.parameters():
            parameter.grad = None
    assert {name: value.stride() for name, value in block.state_dict().items()} == strides
    assert {name: id(module) for name, module in block.named_modules()} == modules
    assert block.calls == calls
    assert block.seen is seen
    assert block.act.inplace


def test_the_parameters_are_the_users_own(block):
    own = {id(parameter) for parameter in block.parameters()}
    made = traced(block)
    used = {id(p) for module in made.modules.values() for p in module.parameters()}
    assert used == own
    x = torch.randn(1, 3, 8, 8, dtype=DTYPE)
    before = made(x)
    with torch.no_grad():
        block.two.weight.neg_()
    assert (made(x) - before).abs().max() > 0.1


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def _with_hook(register):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    register(net[1])
    return net


def _scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Linear(3, 3).eval())


def _with_forward():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval()
    net[1].forward = torch.tanh
    return net


def _partly_training():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    net[1].train()
    return net


REASONS = {
    "the forward function is no torch.nn.Module": lambda: lambda x: x,
    "Branching.* in training mode|^Branching is in training": Branching,
    "^BatchNorm1d '1' is in training mode$": _partly_training,
    "^ReLU '1' has hooks$": lambda: _with_hook(lambda m: m.register_forward_hook(print)),
    "^ReLU '1' has": lambda: _with_hook(lambda m: m.register_forward_pre_hook(print)),
    "^Linear '0' has hooks$": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3))).eval(),
    "^torch.fx cannot trace it: symbolically traced": lambda: Branching().eval(),
    "^torch.fx cannot trace it: Proxy object cannot be iterated": lambda: Layer(
        "", lambda x: torch.stack(list(x))
    ).eval(),
    "^RecursiveScriptModule is TorchScript$": _scripted,
    "^ReLU has a forward function of its own$": _with_forward,
    "^torch.fx cannot trace it": lambda: Layer("", lambda x: x[: int(x.sum())]).eval(),
    "^it calls .*sigmoid_": lambda: Layer("", lambda x: torch.sigmoid_(x + 1)).eval(),
    "^it calls Tensor.zero_$": lambda: Layer("", lambda x: (x + 1).zero_()).eval(),
}


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_to_stand_aside(reason):
    with pytest.raises(StandsAside, match=reason):
        traced(REASONS[reason]())


def _of_three(x):
    if x.shape[1] != 3:
        raise ValueError("three channels")
    return x.mean((2, 3)) * x.shape[3]


def _unpacking(x):
    n, channels, _, width = x.shape
    return x.reshape(n, channels, -1).sum(2) * width if channels == 3 else x


@pytest.mark.parametrize("check", [_of_three, _unpacking])
def test_code_may_check_the_number_of_channels(check):
    network = Layer("", check).eval()
    made = traced(network, (torch.rand(1, 3, 5, 5),))
    for x in (torch.rand(2, 3, 4, 6), torch.rand(3, 3, 7, 2)):
        torch.testing.assert_close(made(x), network(x))
    assert made(x).std() > 0
    with pytest.raises(StandsAside, match="symbolically traced"):
        traced(Layer("", lambda x: x if x.shape[2] == 5 else -x).eval(), (torch.rand(1, 3, 5, 5),))


def test_one_dropout_layer_that_drops():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).eval()
    with keep_dropout(net), pytest.raises(StandsAside, match="Dropout '1' is in training mode"):
        traced(net)
    traced(net)


def test_global_hooks():
    net = nn.Sequential(nn.Linear(3, 3)).eval()
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        with pytest.raises(StandsAside, match="global module hooks"):
            traced(net)
    finally:
        handle.remove()
    traced(net)


@pytest.mark.parametrize("make", [Branching, lambda: Layer("", lambda x: x.zero_())])
def test_nothing_is_changed_where_it_fails(make):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), make()).eval()
    before = take_down(net)
    with pytest.raises(StandsAside):
        traced(net)
    assert differences(before, take_down(net)) == []
