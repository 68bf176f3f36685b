# What calls leave behind: no graphs, no folded weights, no generated source.
from __future__ import annotations

import gc
import linecache
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import images
from torch import Tensor, nn
from torchvision import models

from captum_infomask import InfoMask, compare, grid
from captum_infomask.comparison import costs
from captum_infomask.engines import engine_protocol, pooled_features

CALLS: dict[str, dict[str, Any]] = {
    "drop": {"view": "drop", "engine": "incremental"},
    "chain": {"view": "chain", "engine": "incremental", "n_samples": 2},
    "crop": {"view": "crop"},
    "features": {"view": "features"},
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def held(outside: set[int]) -> int:
    """Numbers in tensors that are alive, other than the network's."""
    alive = (thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter))
    return sum(tensor.numel() for tensor in alive if id(tensor) not in outside)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("call", CALLS)
def test_calls_leave_no_tensors_to_the_collector(call: str) -> None:
    net = models.resnet18(num_classes=7).eval()
    x = images(1, height=32, width=32)
    regions = grid(x, 2, 2)
    outside = {id(t) for t in [x, *net.parameters(), *net.buffers()]}

    def attribute() -> None:
        InfoMask(net).attribute(x, target=1, regions=regions, **CALLS[call])

    attribute()
    gc.collect()
    before, sources = held(outside), len(linecache.cache)
    attribute()
    assert held(outside) - before < 1000  # ResNet-18 has 11 million weights
    assert gc.collect() < 200  # a graph of it has thousands of objects
    assert len(linecache.cache) == sources


@pytest.mark.parametrize("call", CALLS)
def test_a_network_is_traced_once_in_a_call(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count, trace = [], engine_protocol.traced

    def counted(*args: Any, **options: Any) -> Any:
        count.append(args)
        return trace(*args, **options)

    for room in (engine_protocol, pooled_features):
        monkeypatch.setattr(room, "traced", counted)
    net = models.resnet18(num_classes=7).eval()
    x = torch.rand(1, 3, 224, 224)  # enough for a folded copy
    InfoMask(net).attribute(x, target=1, regions=grid(x, 9, 9), **{**CALLS[call], "engine": "auto"})
    assert len(count) == 1


@pytest.mark.usefixtures("no_collector")
def test_a_comparison_leaves_no_copy_of_the_network_to_the_collector() -> None:
    net = models.resnet18(num_classes=7).eval()
    x = images(1, height=32, width=32)

    def convolutions() -> int:
        return sum(type(thing) is nn.Conv2d for thing in gc.get_objects())

    compare(net, x, 1, metrics=[])
    gc.collect()
    before = convolutions()
    compare(net, x, 1, metrics=[])
    assert convolutions() == before


@pytest.mark.skipif(not costs._STATUS.exists(), reason="Linux alone tells of memory")
def test_a_comparison_does_not_lower_the_processs_record_of_its_memory() -> None:
    def record() -> float:
        return costs._held(torch.device("cpu"))[1]

    gc.collect()
    torch.ones(256 << 18)  # 256 MiB, and gone
    before = record()
    net, x = models.resnet18(num_classes=7).eval(), images(1, height=32, width=32)

    def holds(model: Any, x: Tensor, target: int) -> Tensor:
        held = torch.ones(128 << 18)  # more than the C library keeps, or the collector frees
        time.sleep(0.05)
        return x * held[0]

    found = compare(net, x, 1, methods={"it": holds, "none": lambda m, x, y: x}, metrics=[])
    assert record() >= before - 1e6  # the kernel counts pages to within its batches
    assert found["it"].peak_bytes[0] > 60e6 > found["none"].peak_bytes[0]
    assert costs._WATCH not in {thread.name for thread in threading.enumerate()}
