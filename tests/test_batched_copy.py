# The batched engine's copy of a network: used where it says the same, and nowhere else.
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from batched_networks import Block, Branches, Learns, Nan, Noisy, Remembers, Scaled, bits, plan_of
from state import unchanged
from tiny import VIEWS, images
from torch import Tensor, nn

from captum_infomask import Batched
from captum_infomask.engines import (
    batched,
    engine_protocol as base,
    memory as chunks,
    verified_copy as copies,
)
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import MeasuredMemory
from captum_infomask.engines.traced import traced
from captum_infomask.engines.traced_network import StandsAside


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "WORTH_A_COPY", 0)


@pytest.fixture
def runs_of_copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The views of every forward pass of a copy."""
    seen: list[int] = []
    run = copies.FastCopy.__call__

    def counted(self: copies.FastCopy, *inputs: Any) -> Any:
        seen.append(len(inputs[0]))
        return run(self, *inputs)

    monkeypatch.setattr(copies.FastCopy, "__call__", counted)
    return seen


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_copy_says_what_the_network_says(
    view: str, dtype: torch.dtype, tolerance: float, runs_of_copies: list[int]
) -> None:
    net, x = Block().to(dtype), images().to(dtype)
    own = bits(net, x, view, engine=Batched(folded=False))
    assert runs_of_copies == []
    assert (own[:, 1:] - own[:, :-1]).abs().max() > 1000 * tolerance
    with unchanged(net, x):
        for size in (1, 2, 3):
            got = bits(net, x, view, engine=Batched(), perturbations_per_eval=size)
            torch.testing.assert_close(got, own, rtol=0, atol=tolerance)
    assert len(runs_of_copies) > 3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_copy_leaves_memory_formats_and_gradients(
    memory_format: torch.memory_format, runs_of_copies: list[int]
) -> None:
    net = Block().to(memory_format=memory_format)
    x = images().requires_grad_()
    before = [p.stride() for p in net.parameters()]
    flags = [p.requires_grad for p in net.parameters()]
    scores = bits(net, x, engine=Batched())
    assert runs_of_copies
    assert not scores.requires_grad
    assert [p.stride() for p in net.parameters()] == before
    assert [p.requires_grad for p in net.parameters()] == flags
    net(x).sum().backward()
    assert net.first.weight.grad is not None


def test_the_copy_is_folded_and_writes_in_place() -> None:
    net, x = Block(), images()
    with torch.no_grad():
        made = copies.fast_copy(Call(net), (x,), (), net(x))
    kinds = [type(module) for module in made.network.modules.values()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.Conv2d) == 2
    convolutions = [m for m in made.network.modules.values() if isinstance(m, nn.Conv2d)]
    assert all(
        c.weight.is_contiguous(memory_format=torch.channels_last) and not c.weight.requires_grad
        for c in convolutions
    )
    with torch.no_grad():
        plain = MeasuredMemory()
        traced(net)(x, seen=plain.add)
    assert made.alive * x.numel() < plain.alive


@pytest.mark.filterwarnings("ignore:The network's answers change with the size of chunks")
@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Block().forward, "no torch.nn.Module"),
        (Block().train(), "training mode"),
        (Branches(), "cannot trace"),
        (Noisy(), "draws random numbers"),
        (Learns(), "outputs are off by"),
        (Block().bfloat16(), "outputs are torch.bfloat16"),
    ],
)
def test_where_the_network_runs_as_it_is(
    net: Any, reason: str, runs_of_copies: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    x = images().bfloat16() if "bfloat16" in reason else images()
    with caplog.at_level(logging.DEBUG, logger="captum_infomask"):
        got = bits(net, x, engine=Batched())
    assert reason in caplog.text
    assert runs_of_copies == []
    assert torch.equal(got, bits(net, x, engine=Batched(folded=False)))


def test_little_work_and_single_chunks_are_not_worth_a_copy(
    monkeypatch: pytest.MonkeyPatch, runs_of_copies: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    net, x = Block(), images()
    with caplog.at_level(logging.DEBUG, logger="captum_infomask"):
        bits(net, x, engine=Batched(), perturbations_per_eval=100)
        monkeypatch.setattr(batched, "WORTH_A_COPY", 4 * x.numel() + 1)
        bits(net, x, engine=Batched())
        assert runs_of_copies == []
        monkeypatch.setattr(batched, "WORTH_A_COPY", 4 * x.numel())
        bits(net, x, engine=Batched())
    assert len(runs_of_copies) == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (torch.enable_grad, "gradients are recorded"),
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), "autocast is on"),
    ],
)
def test_modes_in_which_there_is_no_copy(context: Callable[[], Any], reason: str) -> None:
    net, x = Block(), images()
    with torch.no_grad(), context(), pytest.raises(StandsAside, match=reason):
        copies.fast_copy(Call(net), (x,), (), net(x).float())


def test_outputs_that_are_not_finite_are_the_networks_own(
    caplog: pytest.LogCaptureFixture, runs_of_copies: list[int]
) -> None:
    running = Batched().start(Call(Nan(), perturbations_per_eval=1))
    with caplog.at_level(logging.DEBUG, logger="captum_infomask"), torch.no_grad():
        outputs = [output for _, output in running.run(plan_of(images()))]
    assert "not finite" in caplog.text
    assert runs_of_copies == []
    assert all(output.isinf().all() for output in outputs)


def test_further_arguments_reach_the_copy(runs_of_copies: list[int]) -> None:
    net, x, scale = Scaled(), images(), torch.tensor([[1.0], [0.1]])
    own = bits(net, x, additional_forward_args=scale, engine=Batched(folded=False))
    assert (own[0] - own[1]).abs().max() > 0.1
    got = bits(net, x, additional_forward_args=scale, engine=Batched())
    assert runs_of_copies
    torch.testing.assert_close(got, own, rtol=0, atol=1e-4)


def test_tracing_leaves_nothing_in_a_network_that_keeps_things() -> None:
    net, x = Remembers(), images()
    bits(net, x, engine=Batched())
    assert type(net.table) is Tensor
    assert type(net.last) is Tensor
    assert net(x).shape == (2, 5)


def test_draws_do_not_depend_on_whether_a_copy_was_tried() -> None:
    class Dropping(Block):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.5, training=True)

    net, x = Dropping(), images()
    own = bits(net, x, engine=Batched(folded=False), seed=3)
    assert torch.equal(bits(net, x, engine=Batched(), seed=3), own)
    assert not torch.equal(bits(net, x, engine=Batched(), seed=4), own)


@pytest.mark.parametrize("at", [1, 2])
def test_an_interruption_in_the_copy_leaves_the_network(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10))

    def interrupted(self: copies.FastCopy, *inputs: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return self.network(*inputs)

    monkeypatch.setattr(copies.FastCopy, "__call__", interrupted)
    net, x = Block(), images()
    with unchanged(net, x), pytest.raises(KeyboardInterrupt):
        bits(net, x, engine=Batched())


def test_where_the_copy_fails_the_network_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: copies.FastCopy, *inputs: Any) -> Any:
        raise RuntimeError("not this size")

    monkeypatch.setattr(copies.FastCopy, "__call__", broken)
    net, x = Block(), images()
    with caplog.at_level(logging.DEBUG, logger="captum_infomask"):
        got = bits(net, x, engine=Batched())
    assert caplog.text.count("given up: it raised not this size") == 1
    assert torch.equal(got, bits(net, x, engine=Batched(folded=False)))


def test_a_chunk_by_memory_stays_within_what_the_allocator_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(copies, "LARGEST_BLOCK", 100 << 10)
    monkeypatch.setattr(copies, "MOST_ALIVE", 200 << 10)
    net, x = Block().double(), images(1, height=16, width=16).double()
    with torch.no_grad():
        made = copies.fast_copy(Call(net), (x,), (), net(x))
        views = made.views_on_cpu(x.numel())
        measured = MeasuredMemory()
        made.network(x.expand(views, -1, -1, -1), seen=measured.add)
    assert made.largest * x.numel() == 6 * 16 * 16 * 8  # a map of six channels
    assert views > 4
    assert measured.largest <= 100 << 10
    assert measured.alive <= 200 << 10
    fuller = (views + 1) / views
    assert measured.largest * fuller > 100 << 10 or measured.alive * fuller > 200 << 10
    assert made.views_on_cpu(100 * x.numel()) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert made.views_on_cpu(100 * x.numel()) == 6
    assert made.views_on_cpu(1) == chunks.MOST_VIEWS_ON_CPU


def test_the_same_call_twice_gives_the_same_bits(runs_of_copies: list[int]) -> None:
    net, x = Block(), images(1, height=32, width=32)
    calls = [
        bits(net, x, engine=Batched(), perturbations_per_eval=None, strides=(3, 2, 2))
        for _ in range(2)
    ]
    assert len(set(runs_of_copies)) <= 2
    assert len(runs_of_copies) >= 2
    assert torch.equal(*calls)


def test_a_copy_is_kept_where_that_is_asked_and_checked_again(
    monkeypatch: pytest.MonkeyPatch, runs_of_copies: list[int]
) -> None:
    net, x, made, kept = Block(), images(), [], {}
    trace = base.traced
    monkeypatch.setattr(
        base, "traced", lambda network, given: made.append(network) or trace(network, given)
    )
    alone = bits(net, x, "crop", engine=Batched(), perturbations_per_eval=1)
    bits(net, x, "crop", engine=Batched(), perturbations_per_eval=1)
    assert made == [net, net]
    for _ in range(3):
        with copies.copies_kept(kept):
            assert bits(net, x, "crop", engine=Batched(), perturbations_per_eval=1).equal(alone)
    assert made == [net] * 3
    assert list(kept) == [net]
    # Against the promise the network changes: its copy no longer says the same, and is not used.
    for weight in net.parameters():
        weight.data.mul_(1.5)
    for buffer in net.buffers():
        buffer.mul_(2)
    own = bits(net, x, "crop", engine=Batched(folded=False), perturbations_per_eval=1)
    runs_of_copies.clear()
    with copies.copies_kept(kept):
        assert bits(net, x, "crop", engine=Batched(), perturbations_per_eval=1).equal(own)
    assert runs_of_copies == [2] * len(runs_of_copies)  # only where it was compared


def test_a_copy_that_takes_too_much_memory_is_given_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = []

    def limited(self: copies.FastCopy, *inputs: Any) -> Any:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.network(*inputs)

    monkeypatch.setattr(copies.FastCopy, "__call__", limited)
    net, x = Block(), images(1)
    with caplog.at_level(logging.DEBUG, logger="captum_infomask"):
        got = bits(net, x, engine=Batched(), perturbations_per_eval=2)
    assert sizes == [2, 1, 1]
    assert "Out of memory with 2 views" in caplog.text
    torch.testing.assert_close(got, bits(net, x, engine=Batched(folded=False)))


@pytest.mark.parametrize("view", VIEWS)
def test_autocast_is_near_float32_and_is_read_in_float32(
    view: str, runs_of_copies: list[int]
) -> None:
    seen = []

    class Seen(Block):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            seen.append((x.dtype, out.dtype))
            return out

    net, x = Seen(), images()
    own = bits(net, x, view, engine=Batched(folded=False))
    seen.clear()
    with unchanged(net, x):
        got = bits(net, x, view, engine=Batched(autocast=torch.bfloat16))
    assert set(seen) == {(torch.float32, torch.bfloat16)}
    assert runs_of_copies == []
    assert got.dtype == torch.float32
    spread = (own.max() - own.min()).item()
    assert 0 < (got - own).abs().max() < 0.1 * spread
