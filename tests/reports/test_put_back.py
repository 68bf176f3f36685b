# What is put back of a user's network: after functions that change it, and after interrupts.
from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Net, images
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from captum_infomask import InfoMask, compare, grid
from captum_infomask.engines import untouched
from captum_infomask.evaluation.model_as_it_was import as_it_was

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def hook(*args: Any, **kwargs: Any) -> None:
    pass


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 2


class Kept(Net):
    """A network with attributes of every kind, hooks, a gradient and a parametrisation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))
        self.gain, self.sizes, self.names, self.cache = 1.0, [1, 2], {"a": 1}, torch.ones(3)
        self.first = nn.Conv2d(3, 3, 1)
        parametrize.register_parametrization(self.first, "weight", Twice())
        prune.l1_unstructured(self.head, "bias", amount=1)
        self.conv.register_forward_hook(hook, with_kwargs=True)
        self.conv.register_full_backward_hook(hook)
        self.conv.weight.register_hook(hook)
        self.conv.weight.grad = torch.ones_like(self.conv.weight)
        self.conv.bias.requires_grad_(False)
        self.eval()


def contents(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, id(each)) for key, each in value.items()]
    return [id(each) for each in value] if isinstance(value, list | set) else None


def all_of(net: nn.Module) -> dict[str, Any]:
    """All that a function may change of a network: identities, order, values, flags, hooks."""
    state: dict[str, Any] = {}
    for name, module in net.named_modules():
        state[f"{name} class"] = type(module)
        for key, value in vars(module).items():
            state[f"{name}.{key}"] = id(value), contents(value)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers()), "cache": net.cache}
    for name, tensor in tensors.items():
        grad = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
        flags = tensor.requires_grad, tensor.data_ptr(), tensor.dtype, tensor.tolist(), grad
        hooks = [list(getattr(tensor, kind, None) or ()) for kind in HOOKS]
        state[f"{name} tensor"] = *flags, hooks
    return state


def replace_all(net: Any) -> None:
    net.head, net.more = nn.Linear(24, 5), nn.ReLU()
    del net.dropout


CHANGES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda net: setattr(net, "gain", 2.0),
    "attribute of a layer": lambda net: setattr(net.conv, "padding", (0, 0)),
    "new attribute": lambda net: setattr(net, "secret", 3),
    "list": lambda net: net.sizes.append(3),
    "dict": lambda net: net.names.update(a=2, b=3),
    "tensor": lambda net: net.cache.add_(1),
    "layers": replace_all,
    "order of layers": lambda net: net._modules.update(conv=net._modules.pop("conv")),
    "parametrised": lambda net: parametrize.register_parametrization(net.conv, "weight", Twice()),
    "not parametrised": lambda net: parametrize.remove_parametrizations(net.first, "weight"),
    "pruned": lambda net: prune.l1_unstructured(net.conv, "weight", amount=0.5),
    "not pruned": lambda net: prune.remove(net.head, "bias"),
    "forward hooks": lambda net: net.conv.register_forward_hook(
        hook, with_kwargs=True, always_call=True, prepend=True
    ),
    "forward hooks taken": lambda net: [h.clear() for h in (net.conv._forward_hooks,)],
    "hooks before": lambda net: net.conv.register_forward_pre_hook(hook, with_kwargs=True),
    "hooks of gradients": lambda net: net.norm.register_full_backward_hook(hook),
    "hooks before gradients": lambda net: net.norm.register_full_backward_pre_hook(hook),
    "hooks of state": lambda net: net.register_state_dict_pre_hook(hook),
    "hooks after state": lambda net: net._register_state_dict_hook(hook),
    "hooks of loading": lambda net: net._register_load_state_dict_pre_hook(hook),
    "hooks after loading": lambda net: net.register_load_state_dict_post_hook(hook),
    "hooks of a parameter": lambda net: net.conv.weight.register_hook(hook),
    "first hook of a parameter": lambda net: net.norm.weight.register_hook(hook),
    "hooks after a gradient": lambda net: net.conv.weight.register_post_accumulate_grad_hook(hook),
    "hooks of a buffer": lambda net: net.count.requires_grad_().register_hook(hook),
    "values": lambda net: [p.data.mul_(2) for p in net.parameters()],
    "memory": lambda net: setattr(net.conv.weight, "data", torch.zeros(6, 3, 3, 3)),
    "type": lambda net: net.double(),
    "parameter": lambda net: setattr(net.conv, "weight", nn.Parameter(torch.zeros(6, 3, 3, 3))),
    "flags": lambda net: net.requires_grad_(not net.conv.bias.requires_grad),
    "gradients": lambda net: net(images(1).requires_grad_()).sum().backward(),
    "mode": lambda net: net.train(),
    "buffer": lambda net: setattr(net, "count", torch.ones(2)),
    "buffer gone": lambda net: delattr(net, "count"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_that_a_function_makes_to_the_network_are_put_back(change: str) -> None:
    net, x = Kept(), images(1)
    before = all_of(net)
    CHANGES[change](net)
    assert all_of(net) != before  # so the comparison sees it

    net = Kept()
    before = all_of(net)

    def method(model: Any, inputs: Tensor, target: int) -> Tensor:
        CHANGES[change](model.network)
        return inputs

    found = compare(net, x, 1, methods={"mine": method}, metrics=[])["mine"]
    assert found.errors == ("",)
    assert all_of(net) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_all_changes_of_a_function_that_fails_are_put_back(error: type[BaseException]) -> None:
    net, x = Kept(), images(1)
    before = all_of(net)

    def metric(sample: Any) -> float:
        for name in ("attribute", "layers", "parametrised", "values", "hooks of a parameter"):
            CHANGES[name](net)
        raise error("stop")

    methods = {"mine": lambda model, inputs, target: metric(None)}
    others = {"methods": ["Occlusion"], "metrics": {"m": metric}}
    for wrong in ({"methods": methods, "metrics": []}, others):
        try:
            compare(net, x, 1, **wrong)
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
        assert all_of(net) == before


def test_a_hook_that_is_put_back_is_still_called() -> None:
    net, x, seen = Kept(), images(1), []
    net.norm.weight.register_hook(seen.append)

    def method(model: Any, inputs: Tensor, target: int) -> Tensor:
        net.norm.weight._backward_hooks.clear()
        net.conv.weight.register_post_accumulate_grad_hook(lambda p: seen.append("not mine"))
        return inputs

    compare(net, x, 1, methods={"mine": method}, metrics=[])
    net(x.requires_grad_()).sum().backward()
    assert [type(each) for each in seen] == [Tensor]


# --- networks in functions -----------------------------------------------------------------------


class Counting(Net):
    """Whose answers hang on what it has counted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return super().forward(x) * (1 + self.count)


GLOBAL = Counting()


class Holder:
    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)

    def run(self, x: Tensor) -> Tensor:
        return self.net(x)


class Slotted:
    __slots__ = ("net",)

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)


class Hiding(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net]

    def forward(self, x: Tensor) -> Tensor:
        return self.nets[0](x)


def wrapped(net: nn.Module) -> Callable[..., Any]:
    @wraps(net.forward)
    def function(*args: Any) -> Any:
        return function.__wrapped__(*args)

    return function


def nested(net: nn.Module) -> Callable[..., Any]:
    def inner(x: Tensor) -> Tensor:
        return net(x)

    def outer(x: Tensor) -> Tensor:
        return inner(x)

    return outer


def first(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)


def names_a_global(x: Tensor) -> Tensor:
    return GLOBAL(x)


HIDDEN: dict[str, Callable[[nn.Module], Callable[..., Any]]] = {
    "partial": lambda net: partial(first, net),
    "partial by name": lambda net: partial(lambda x, net: 1 * net(x), net=net),
    "closure": lambda net: lambda x: 1 * net(x),
    "closure in a closure": nested,
    "object": Holder,
    "method of an object": lambda net: Holder(net).run,
    "slots": Slotted,
    "default": lambda net: lambda x, net=net: net(x),
    "keyword default": lambda net: lambda x, *, net=net: net(x),
    "wrapped": wrapped,
    "cached": lambda net: lru_cache(lambda x: 1 * net(x)),
    "list": Hiding,
    "dict in an object": lambda net: Holder({"net": net}["net"].forward),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_buffers_of_a_network_in_a_function_are_put_back(way: str) -> None:
    net, x = Counting(), images(1)
    function = HIDDEN[way](net)
    InfoMask(function).attribute(x, target=1, regions=grid(x, 1, 2))
    compare(function, x, 1, methods=["Occlusion"], metrics=[])
    assert float(net.count) == 0


def test_buffers_of_a_global_network_are_put_back() -> None:
    x = images(1)
    InfoMask(lambda x: 1 * GLOBAL(x)).attribute(x, target=1, regions=grid(x, 1, 2))
    InfoMask(names_a_global).attribute(x, target=1, regions=grid(x, 1, 2))
    assert float(GLOBAL.count) == 0


def test_looking_for_networks_runs_nothing_of_the_users() -> None:
    class Lazy(Holder):
        @property
        def data(self) -> Any:
            raise AssertionError("a property was run")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None

    net, x = Counting(), images(1)
    InfoMask(Lazy(net)).attribute(x, target=1, regions=grid(x, 1, 2))
    assert float(net.count) == 0


# --- interrupts ----------------------------------------------------------------------------------


FILES = (
    "untouched.py",
    "as_it_was.py",
    "_process.py",
    "_random.py",
    "contextlib.py",
    "grad_mode.py",
)


def interrupted(run: Callable[[], Any], at: int, watch: Callable[[Any], None]) -> int:
    """Ctrl-C where Python looks for it: where a function begins, and where one of C's is over.

    Of a trace function, which leaves room for a profile function of ours, the former alone.
    Returns how many such moments there are.
    """
    seen = 0

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal seen
        if event in ("call", "c_return") and frame.f_code.co_filename.endswith(FILES):
            seen += 1
            if seen == at:
                raise KeyboardInterrupt

    watch(look)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        watch(None)
    return seen


def blocks(net: nn.Module) -> dict[str, Callable[[], Any]]:
    return {
        "untouched": lambda: untouched.untouched(net),
        "as_it_was": lambda: as_it_was(net, seed=0, writes=True),
    }


# Python itself swallows one that comes while it ends a generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("watch", [sys.setprofile, sys.settrace])
@pytest.mark.parametrize("block", ["untouched", "as_it_was"])
def test_an_interrupt_leaves_nothing_behind_at_any_moment(
    block: str, watch: Callable[[Any], None]
) -> None:
    net: Any = nn.Sequential(nn.BatchNorm1d(2))
    net.register_buffer("count", torch.zeros(()))
    make = blocks(net)[block]

    def run() -> None:
        with make():
            net.count += 1
            net.train(block == "untouched")
            if watch is sys.settrace:  # beside another profile function seeds are not seen
                torch.manual_seed(3)

    def state() -> Any:
        flags = net.training, torch.is_grad_enabled(), torch._C._len_torch_dispatch_stack()
        numbers = str(np.random.get_state()), len(warnings_now()), torch.is_inference_mode_enabled()
        drawn = sys.getprofile(), torch.get_rng_state().tolist()
        return float(net.count), len(untouched._at_work), *flags, *numbers, *drawn

    before = state()
    moments = interrupted(run, -1, watch)
    assert state() == before
    assert moments > 50
    for at in range(1, moments + 1, 1 + moments // 150):
        interrupted(run, at, watch)
        assert state() == before, at


def warnings_now() -> list[Any]:
    return list(sys.modules["warnings"].filters)
