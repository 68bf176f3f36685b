# Networks that hold parts of themselves where copies cannot follow, or buffers of every kind.
from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop, LayerGradCam
from state import differences, take_down
from tiny import images, randomise
from torch import Tensor, fx, nn

from captum_infomask import Batched, InfoMask, compare, grid
from captum_infomask.engines import batched
from captum_infomask.engines.isolation import Isolation, alias, own_weight
from captum_infomask.engines.traced import traced
from captum_infomask.engines.traced_network import StandsAside


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 6, 3), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(6, 6, 3), nn.ReLU()
        self.fc = nn.Linear(6, 4)

    def first(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu2(self.conv2(self.first(x))).mean((2, 3)))


class Closure(Body):
    def __init__(self) -> None:
        super().__init__()
        self.first = lambda x: self.relu(self.conv(x))


class Patched(Body):
    def __init__(self) -> None:
        super().__init__()
        own = self.forward
        self.forward = lambda x: own(x) + 0


class Weak(Body):
    class Child(nn.Module):
        def __init__(self, parent: nn.Module) -> None:
            super().__init__()
            self.parent = weakref.ref(parent)

        def forward(self, x: Tensor) -> Tensor:
            self.parent().last = x
            return self.parent().relu(self.parent().conv(x))

    def __init__(self) -> None:
        super().__init__()
        self.first = Weak.Child(self)


class Proxied(Body):
    def __init__(self) -> None:
        super().__init__()
        self.held = types.MappingProxyType({"relu": self.relu})

    def first(self, x: Tensor) -> Tensor:
        return self.held["relu"](self.conv(x))


class Locked(Body):
    class Holder:
        def __init__(self, relu: nn.Module) -> None:
            self.relu, self.lock = relu, threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        self.holder = Locked.Holder(self.relu)

    def first(self, x: Tensor) -> Tensor:
        return self.holder.relu(self.conv(x))


class Slots(Body):
    __slots__ = ("gain",)

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "gain", 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Keyed(Body):
    def __init__(self) -> None:
        super().__init__()
        self.scale = {self.conv: 2.0}

    def first(self, x: Tensor) -> Tensor:
        return super().first(x) * self.scale[self.conv]


pytestmark = pytest.mark.filterwarnings("ignore:Setting ", "ignore:Input Tensor")

NETWORKS = [Body, Closure, Patched, Weak, Proxied, Locked, Slots, Keyed]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("method", [GuidedBackprop, DeepLift])
def test_captums_methods_have_their_own_numbers(kind: type[nn.Module], method: Any) -> None:
    net, x = randomise(kind()), images(1)
    before = take_down(net)
    found = compare(net, x, 1, methods={"it": method(net)}, metrics=[])["it"]
    assert differences(before, take_down(net)) == []
    want = method(net).attribute(x.clone().requires_grad_(), target=1).detach()
    assert found.error == ""
    np.testing.assert_allclose(found.planes[0], want.mean(1)[0].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_run_where_a_function_runs_the_network(kind: type[nn.Module]) -> None:
    net, x = randomise(kind()), images(1)
    methods = {
        "function": LayerGradCam(lambda x: 1 * net(x), net.conv2),
        "network": LayerGradCam(net, net.conv2),
    }
    found = compare(net, x, 1, methods=methods, metrics=[])
    own = LayerGradCam(net, net.conv2).attribute(x, 1).detach()
    want = nn.functional.interpolate(own, (8, 8), mode="bilinear")[0, 0].numpy()
    assert np.abs(want).max() > 0.01
    for outcome in found.outcomes:
        assert outcome.error == ""
        np.testing.assert_allclose(outcome.planes[0], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("view", ["drop", "crop"])
def test_no_stand_in_reaches_the_users_network(kind: type[nn.Module], view: str) -> None:
    net, x = randomise(kind()), images(1, height=24, width=24)
    given = {"target": 1, "view": view, "regions": grid(x, 3, 3)}
    found = InfoMask(net).score_regions(x, **given)
    own = InfoMask(lambda x: 1 * net(x)).score_regions(x, **given)
    torch.testing.assert_close(found.scores, own.scores, rtol=1e-4, atol=1e-5)
    assert type(getattr(net, "last", x)) is Tensor


def test_two_objects_that_hold_layers_are_both_copied() -> None:
    class Held:
        __slots__ = ("__dict__", "layer")

        def __init__(self, layer: nn.Module) -> None:
            self.layer = layer

    net = Body()
    net.holders = {k: Held(layer) for k, layer in enumerate([net.relu, net.relu2] * 50)}
    made = Isolation(alias).copy(net)
    for k, holder in made.holders.items():
        assert holder.layer is [made.relu, made.relu2][k % 2]


def set_in_forward(net: nn.Module) -> None:
    net.register_buffer("mean", None)


def sparse(net: nn.Module) -> None:
    net.register_buffer("adjacency", torch.eye(4).to_sparse())


def not_a_number(net: nn.Module) -> None:
    net.register_buffer("nan", torch.tensor([float("nan"), 1.0]))


def on_meta(net: nn.Module) -> None:
    net.register_buffer("shape", torch.empty(3, device="meta"))


@pytest.mark.parametrize("add", [set_in_forward, sparse, not_a_number, on_meta])
@pytest.mark.filterwarnings("ignore:Sparse", "ignore:The network's answers change")
def test_buffers_of_every_kind_are_put_back(add: Callable[[nn.Module], None]) -> None:
    class Buffered(Body):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(6)
            add(self)

        def forward(self, x: Tensor) -> Tensor:
            if add is set_in_forward and self.mean is None:
                self.mean = x.mean()
                self.register_buffer("late", torch.ones(1))
            self.norm(self.first(x))
            return super().forward(x)

    net, x = randomise(Buffered()).train(), images(2)
    keys, moved = list(net.state_dict()), net.norm.running_mean.clone()
    versions = {name: buffer._version for name, buffer in net.named_buffers()}
    InfoMask(net).attribute(x, target=1)
    assert list(net.state_dict()) == keys
    assert torch.equal(net.norm.running_mean, moved)
    assert int(net.norm.num_batches_tracked) == 0
    if add is set_in_forward:
        assert net.mean is None
    for name in ("nan", "adjacency"):
        if name in versions:
            assert dict(net.named_buffers())[name]._version == versions[name]


SEEN: list[Any] = []
BY_SIZE: dict[Any, Any] = {}


@lru_cache
def table(size: int) -> Tensor:
    return torch.ones(int(size)) if isinstance(size, int) else size


def helper(x: Tensor) -> None:
    SEEN.append(x)


class Last:
    value: Any = None


LAST = Last()


def appends(net: nn.Module, x: Tensor) -> None:
    helper(x)


def by_size(net: nn.Module, x: Tensor) -> None:
    BY_SIZE[x.shape[1]] = x.mean()


def cached(net: nn.Module, x: Tensor) -> None:
    table(x.shape[1])


def in_its_class(net: Any, x: Tensor) -> None:
    net.seen.append(x)


def counts(net: Any, x: Tensor) -> None:
    global COUNT  # noqa: PLW0603 - what is tested
    COUNT = x


def last(net: Any, x: Tensor) -> None:
    LAST.value = x


COUNT: Any = None
KEEPS = {f.__name__: f for f in (appends, by_size, cached, in_its_class, counts)}


def keeping(keep: Callable[[Any, Tensor], None]) -> nn.Module:
    class Keeps(Body):
        seen: Any = []  # noqa: RUF012 - what is tested

        def forward(self, x: Tensor) -> Tensor:
            keep(self, x)
            return super().forward(x)

    Keeps.seen.clear()
    return randomise(Keeps())


@pytest.fixture
def _worth_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)


@pytest.mark.usefixtures("_worth_a_copy")
@pytest.mark.parametrize("name", KEEPS)
@pytest.mark.parametrize("engine", ["batched", "incremental"])
def test_no_stand_in_is_left_in_globals_caches_and_classes(
    name: str, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="captum_infomask")
    SEEN.clear(), BY_SIZE.clear(), table.cache_clear()
    net, x = keeping(KEEPS[name]), images(1, height=24, width=24)
    given = {"target": 1, "view": "drop", "regions": grid(x, 3, 3), "engine": engine}
    InfoMask(net).score_regions(x, perturbations_per_eval=1, **given)
    left = [*SEEN, *BY_SIZE, *BY_SIZE.values(), *net.seen, COUNT]
    assert [kept for kept in left if isinstance(kept, fx.Proxy)] == []
    assert table.cache_info().misses <= 1
    assert any(words in caplog.text for words in ("may change for all", "which others share"))


FACTORS = {"all": [1.0, 2.0]}


class Reads(Body):
    scales: Any = [0.5]  # noqa: RUF012 - what is tested

    def forward(self, x: Tensor) -> Tensor:
        parts, sums = [], {}
        for factor in FACTORS["all"]:
            parts.append(x * factor)
        sums["x"] = parts[0].add(parts[1]) / 3
        return super().forward(sums["x"] + self.scales[0])


def test_shared_lists_that_are_only_read_do_not_keep_a_network_from_its_engine() -> None:
    net, x = randomise(Reads()), images(1, height=24, width=24)
    given = {"target": 1, "view": "drop", "regions": grid(x, 3, 3)}
    found = InfoMask(net).score_regions(x, engine="incremental", **given)
    assert found.engine == "incremental"
    own = InfoMask(net).score_regions(x, engine=Batched(folded=False), **given)
    torch.testing.assert_close(found.scores, own.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_worth_a_copy")
def test_a_stand_in_that_is_left_where_nobody_looked_is_told() -> None:
    net, x = keeping(last), images(1, height=24, width=24)
    given = {"target": 1, "view": "drop", "regions": grid(x, 3, 3)}
    with pytest.warns(UserWarning, match=r"Pass engine=Batched\(folded=False\)"):
        found = InfoMask(net).score_regions(x, engine="incremental", **given)
    assert found.engine == "batched (it keeps what it computes outside of itself)"
    LAST.value = None
    InfoMask(net).score_regions(x, engine=Batched(folded=False), **given)
    assert type(LAST.value) is Tensor


@pytest.mark.usefixtures("_worth_a_copy")
@pytest.mark.parametrize("kind", [list, dict, tuple])
def test_further_arguments_that_can_be_changed_meet_no_stand_in(kind: type) -> None:
    class Takes(Body):
        def forward(self, x: Tensor, given: Any) -> Tensor:
            if kind is list:
                given.append(x.mean())
            elif kind is dict:
                given[len(given)] = x.mean()
            else:
                given[0].add_(1)
            return super().forward(x)

    net, x = randomise(Takes()), images(1, height=24, width=24)
    given = (torch.zeros(1), torch.zeros(1)) if kind is tuple else kind()
    options = {"target": 1, "view": "drop", "regions": grid(x, 3, 3)}
    InfoMask(net).score_regions(
        x, additional_forward_args=(given,), perturbations_per_eval=1, **options
    )
    held = list(given.values()) if kind is dict else list(given)
    assert {type(each) for each in held} == {Tensor}
    assert (float(given[0]) if kind is tuple else len(held)) == 10


class Table(Body):
    """Holds a table that is no parameter and no buffer, in three places."""

    def __init__(self, writes: bool = False) -> None:
        super().__init__()
        self.writes, self.table = writes, torch.zeros(70_000, 4)
        self.holder, self.tables = types.SimpleNamespace(table=torch.zeros(70_000, 4)), [self.table]
        self.register_buffer("grid", torch.zeros(70_000, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.writes:
            self.table.add_(1)
        made = x.mean() + self.table + self.tables[0] + self.holder.table + self.grid
        return super().forward(x) + made[0]


def test_tensors_are_not_copied_for_a_trace_and_not_written_by_it() -> None:
    net = Table()
    made = traced(net.eval())
    held = {tensor.untyped_storage().data_ptr() for tensor in made.attributes.values()}
    own = [net.table, net.holder.table, net.grid]
    assert {tensor.untyped_storage().data_ptr() for tensor in own} <= held
    writing = Table(writes=True).eval()
    with pytest.raises(StandsAside, match="writes to a tensor of the network's own"):
        traced(writing)
    assert writing.table.sum() == 0


class Kept(nn.Parameter):
    pass


@pytest.mark.parametrize("weights", [alias, own_weight])
def test_parameters_of_other_kinds_and_with_attributes_are_copied_whole(
    weights: Callable[[nn.Parameter], Tensor],
) -> None:
    class Tagged(Body):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.shift = Kept(torch.ones(4)), nn.Parameter(torch.zeros(4))
            self.gain.scale, self.shift.layer = 3.0, self.conv

        def forward(self, x: Tensor) -> Tensor:
            assert type(self.gain) is Kept
            assert self.shift.layer is self.conv
            return super().forward(x) * self.gain * self.gain.scale + self.shift

    net, x = randomise(Tagged()), images(1)
    made = Isolation(weights).copy(net)
    assert torch.equal(made(x), net(x))
    assert (made.gain.data_ptr() == net.gain.data_ptr()) == (weights is alias)
    assert made.gain is not net.gain
    assert compare(net, x, 1, methods={"it": DeepLift(net)}, metrics=[])["it"].error == ""


SIZES = {"kernel": 3}


def test_code_that_reads_a_constant_of_all_is_traced() -> None:
    class Reads(Body):
        scales = [1.0, 2.0]  # noqa: RUF012 - what is tested

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scales[1] / SIZES["kernel"]

    traced(Reads().eval())
