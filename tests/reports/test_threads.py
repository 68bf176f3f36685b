# Other threads of the process: what they compute, draw and see while a network is attributed.
from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from state import differences, take_down
from tiny import Net, images
from torch import Tensor, fx, nn
from torch.nn.modules import module as modules
from torch.utils import _python_dispatch

from captum_infomask import InfoMask, _process, compare, estimate_prior, fit_critic, grid
from captum_infomask._process import numbers_of_libraries, quiet
from captum_infomask.engines.traced import traced
from captum_infomask.evaluation import model_as_it_was

KNOWN: dict[str, nn.Module] = {}  # by other ways than what they hold


def in_another_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class Meanwhile(nn.Module):
    """A network during whose passes something happens in another thread."""

    def __init__(self, happen: Callable[[], Any]) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.happen = happen

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        self.happen(isinstance(x, fx.Proxy))
        return self.head(x.mean((2, 3)))


def test_a_network_predicts_in_another_thread_while_one_is_traced() -> None:
    other, x, found = Net(), images(1), []
    want = other(x)
    patched = [vars(nn.Module)[name] for name in ("__call__", "__getattr__")]

    def predict(is_traced: bool) -> None:
        now = [vars(nn.Module)[name] for name in ("__call__", "__getattr__")]
        found.append((is_traced, in_another_thread(lambda: other(x)), now == patched))

    net = Meanwhile(predict).eval()
    traced(net)
    InfoMask(net).attribute(x, target=1, view="drop", engine="incremental", regions=grid(x, 2, 2))
    assert [is_traced for is_traced, _, _ in found].count(True) == 2
    for _, output, as_before in found:
        assert type(output) is Tensor
        assert torch.equal(output, want)
        assert as_before


def test_the_same_network_predicts_in_another_thread_while_it_is_traced() -> None:
    x, found = images(1), []

    def predict(is_traced: bool) -> None:
        if is_traced:
            found.append(in_another_thread(lambda: KNOWN["net"](x)))

    net = KNOWN["net"] = Meanwhile(predict).eval()
    want = net(x)
    traced(net)
    assert torch.equal(found[0], want)


def drawing_net() -> nn.Module:
    """Draws in evaluation mode, in every way that networks do."""

    class Drawing(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = x + 0.3 * torch.randn_like(x) + 0.1 * torch.rand(1)
            return nn.functional.dropout(super().forward(x), 0.5, training=True)

    return Drawing()


def test_what_another_thread_draws_is_its_own() -> None:
    x, found = images(1), []

    def draw(is_traced: bool) -> None:
        found.append(in_another_thread(lambda: torch.rand(3)))

    class Noisy(Meanwhile):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(100)
            return super().forward(x) + torch.rand(1)

    net = Noisy(draw).eval()
    torch.manual_seed(3)
    want = [torch.rand(3) for _ in range(5)]
    torch.manual_seed(3)
    InfoMask(net).attribute(
        x, target=1, view="drop", engine="batched", regions=grid(x, 2, 2), perturbations_per_eval=1
    )
    assert torch.equal(torch.stack(found), torch.stack(want))


def test_networks_that_draw_give_the_serial_numbers_in_threads() -> None:
    net, x = drawing_net().eval(), images(2)

    def bits(seed: int) -> Tensor:
        return InfoMask(net).attribute(x, target=1, view="keep", regions=grid(x, 3, 3), seed=seed)

    want = [bits(seed) for seed in range(4)]
    assert (want[0] - want[1]).abs().max() > 0.1
    before = take_down(net)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(bits, [0, 1, 2, 3] * 6))
    for k, each in enumerate(found):
        assert torch.equal(each, want[k % 4])
    assert differences(before, take_down(net)) == []


def test_threads_attribute_and_predict_at_once() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()  # fmt: skip
    other, x = Net(), images(1, height=24, width=24)

    def bits(view: str) -> Tensor:
        options = {} if view == "features" else {"engine": "incremental"}
        return InfoMask(net).attribute(x, target=1, view=view, regions=grid(x, 3, 3), **options)

    views = ["drop", "keep", "chain", "features"]
    want = {view: bits(view) for view in views}
    answers = net(x).detach(), other(x).detach()
    before, stop = take_down(net), threading.Event()

    def predict() -> int:
        count = 0
        while not stop.is_set():
            assert torch.equal(net(x), answers[0])
            assert torch.equal(other(x), answers[1])
            count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        try:
            predicting = [pool.submit(predict) for _ in range(2)]
            found = list(pool.map(bits, views * 5))
        finally:
            stop.set()
        assert all(each.result() > 0 for each in predicting)
    for k, each in enumerate(found):
        assert torch.equal(each, want[views[k % 4]])
    assert differences(before, take_down(net)) == []


IN_PYTHONS_HOOK = """
import sys, time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from captum_infomask import InfoMask

layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
net = nn.Sequential(*layers).eval()
x = torch.rand(1, 3, 8, 8)
ask = lambda view: InfoMask(net).attribute(x, target=1, view=view)
views = ["drop", "features", "relay", "keep"]
want = {view: ask(view) for view in views}
changed = []
def hook(event, args):  # threads change here
    if event == "sys.setprofile":
        changed.append(event)
        time.sleep(0.002)
sys.addaudithook(hook)
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(ask, views * 4))
assert all(torch.equal(each, want[views[k % 4]]) for k, each in enumerate(found))
assert changed and sys.getprofile() is None and not torch._C._len_torch_dispatch_stack()
"""


@pytest.mark.slow
def test_threads_attribute_while_an_audit_hook_lets_them_change() -> None:
    """In a process of its own: Python cannot take a hook back."""
    told = subprocess.run(
        [sys.executable, "-c", IN_PYTHONS_HOOK], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.filterwarnings("ignore:The network's answers change")
def test_comparisons_in_threads_leave_a_shared_network_as_it_was(training: bool) -> None:
    net, x = Net().train(training), images(1)
    net.norm.weight.grad = torch.ones(6)
    net.head.register_forward_hook(lambda module, args, output: None)

    def mine(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
        return Saliency(model).attribute(inputs, target=target) * np.random.rand()

    def outcomes(_: object) -> list[np.ndarray]:
        methods = {"Saliency": Saliency(net), "bits": (InfoMask(net), {"view": "drop"})}
        first = compare(net, x, 1, methods={**methods, "mine": mine}, metrics=["deletion"])
        last = compare(net, x, 1, methods=["Grad-CAM"], metrics=[])
        return [outcome.planes for one in (first, last) for outcome in one.outcomes]

    want = outcomes(None)
    before, filters = take_down(net), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(outcomes, range(8)):
            for own, serial in zip(found, want, strict=True):
                np.testing.assert_array_equal(own, serial)
    assert differences(before, take_down(net)) == []
    assert list(warnings.filters) == filters


def test_buffers_that_two_threads_move_are_put_back_as_the_first_found_them() -> None:
    class Counting(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return super().forward(x)

    net, x = Counting(), images(1)
    entered, go_on = threading.Event(), threading.Event()

    def first(x: Tensor) -> Tensor:
        entered.set()
        assert go_on.wait(60)
        return net(x)

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            net.count += 1
            return first(x)

    def both() -> None:
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(InfoMask(Slow().eval()).attribute, x, target=1)
            assert entered.wait(60)
            assert float(net.count) == 1
            InfoMask(net).attribute(x, target=1)
            go_on.set()
            slow.result()

    with pytest.warns(UserWarning, match=r"buffers \(count\) .* another thread's call") as told:
        both()
    assert len(told) == 2  # one for each call: numbers of both may hang on the count
    assert float(net.count) == 0


def test_torchs_flags_for_compiling_are_left_to_other_threads() -> None:
    flags = [name for name in vars(_python_dispatch) if name.startswith("_is_in_")]
    seen = []

    def look(is_traced: bool) -> None:
        seen.append([vars(_python_dispatch)[name] for name in flags])

    x = images(1)
    InfoMask(Meanwhile(look).eval()).attribute(x, target=1)
    assert flags
    assert seen
    assert not any(any(each) for each in seen)


def test_loaders_and_fits_draw_nothing_of_the_processes() -> None:
    data = torch.utils.data.TensorDataset(torch.rand(24, 3, 8, 8), torch.arange(24) % 5)
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
    net = Net()
    before = take_down(net)
    estimate_prior(loader)
    fit_critic(net, loader, steps=2)
    assert differences(before, take_down(net)) == []


def test_filters_of_warnings_and_numpys_numbers_are_put_back_whichever_thread_ends_first() -> None:
    filters, state = list(warnings.filters), np.random.get_state()[1].copy()
    ready, over = threading.Barrier(2), threading.Event()

    def one() -> float:
        ready.wait(60)
        with quiet("a"), numbers_of_libraries(1):
            over.wait(0.05)
            return float(np.random.rand())

    with ThreadPoolExecutor(2) as pool:
        numbers = [each.result() for each in [pool.submit(one), pool.submit(one)]]
    assert numbers[0] == numbers[1]
    assert list(warnings.filters) == filters
    assert (np.random.get_state()[1] == state).all()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "PATIENCE", 0.05)
    monkeypatch.setattr(model_as_it_was, "_PATIENCE", 0.05)


def waiting_for(inner: Callable[[], Any]) -> Callable[..., Tensor]:
    """A method that waits for what another thread does."""

    def method(model: Any, inputs: Tensor, target: int) -> Tensor:
        pool = ThreadPoolExecutor(1)
        try:
            pool.submit(inner).result(20)
        finally:
            pool.shutdown(wait=False)
        return inputs * np.random.rand()

    return method


def test_a_method_that_waits_for_another_threads_comparison_ends() -> None:
    net, x, inside = Net(), images(1), []

    def inner() -> None:
        with quiet("a"):
            inside.append(compare(net, x, 1, methods=["Occlusion", "Grad-CAM"], metrics=[]))

    found = compare(net, x, 1, methods={"mine": waiting_for(inner)}, metrics=[])
    alone = compare(net, x, 1, methods={"mine": waiting_for(lambda: None)}, metrics=[])
    assert found["mine"].errors == ("",)
    assert [outcome.errors for outcome in inside[0].outcomes] == [("",), ("",)]
    np.testing.assert_array_equal(found["mine"].planes, alone["mine"].planes)


@pytest.mark.usefixtures("impatient")
def test_a_function_that_waits_for_another_threads_function_ends() -> None:
    net, other, x, inside = Net(), Net(), images(1), []
    before, filters = take_down(net), list(warnings.filters)

    def inner(network: nn.Module) -> None:
        method = waiting_for(lambda: None)
        inside.append(compare(network, x, 1, methods={"it": method}, metrics=[])["it"])

    def outer(network: nn.Module) -> Any:
        method = waiting_for(lambda: inner(network))
        return compare(net, x, 1, methods={"mine": method}, metrics=[])["mine"]

    with pytest.warns(UserWarning, match="NumPy or random"):
        found = outer(other)
    alone = compare(net, x, 1, methods={"mine": waiting_for(lambda: None)}, metrics=[])["mine"]
    np.testing.assert_array_equal(found.planes, alone.planes)
    np.testing.assert_array_equal(inside[0].planes, alone.planes)
    assert outer(net).errors == ("",)
    assert "on the same network" in inside[1].errors[0]
    assert differences(before, take_down(net)) == []
    assert list(warnings.filters) == filters


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_numpys_numbers_are_put_back_where_two_functions_did_not_wait(order: Any) -> None:
    state = np.random.get_state()[1].copy()
    ends = [threading.Event(), threading.Event()]
    begun = [threading.Event(), threading.Event()]

    def one(k: int) -> None:
        with numbers_of_libraries(k):
            begun[k].set()
            assert ends[k].wait(60)

    def both() -> None:
        with ThreadPoolExecutor(2) as pool:
            running = []
            for k in range(2):
                running.append(pool.submit(one, k))
                assert begun[k].wait(60)
            for k in order:
                ends[k].set()
                running[k].result()

    with pytest.warns(UserWarning, match="NumPy or random"):
        both()
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("is_users_first", [True, False])
def test_filters_of_warnings_are_put_back_where_the_user_sets_some(is_users_first: bool) -> None:
    filters = list(warnings.filters)
    blocks = [warnings.catch_warnings(), quiet("a", "b")]
    first, second = blocks if is_users_first else reversed(blocks)
    first.__enter__()
    second.__enter__()
    warnings.warn("a word", UserWarning, stacklevel=1)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert list(warnings.filters) == filters


def test_module_hooks_of_the_process_are_as_they_were() -> None:
    names = [name for name in vars(modules) if name.startswith("_global_") and "hooks" in name]
    before = {name: dict(getattr(modules, name) or {}) for name in names}
    x = images(1)
    compare(Net(), x, 1, metrics=[])
    assert {name: dict(getattr(modules, name) or {}) for name in names} == before
