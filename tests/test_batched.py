# The batched engine where there is too little memory, and its settings.
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from batched_networks import bits, plan_of
from tiny import images
from torch import Tensor

from captum_infomask import ArgumentError, Batched
from captum_infomask.engines import memory
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import is_out_of_memory


class Limited:
    """Raises, from a pass on, where there are more views than fit."""

    def __init__(self, error: Exception, fits: int, since: int = 0) -> None:
        self.error, self.fits, self.since = error, fits, since
        self.sizes: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(self.sizes) > self.since and len(x) > self.fits:
            raise self.error
        return x.flatten(2).mean(2)


NO_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_MEMORY)
@pytest.mark.parametrize(
    ("since", "sizes"), [(0, [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]), (1, [8, 8, 4, 2, 2, 2, 2])]
)
def test_chunks_are_halved_until_they_fit(error: Exception, since: int, sizes: list[int]) -> None:
    x, limited = images(1), Limited(error, 3, since)
    plan = plan_of(x)
    got = list(Batched().start(Call(limited, perturbations_per_eval=8)).run(plan))
    assert limited.sizes == sizes
    rows = torch.cat([rows for rows, _ in got])
    assert rows.tolist() == list(range(16))
    alone = Batched().start(Call(lambda x: x.flatten(2).mean(2), perturbations_per_eval=1))
    wanted = torch.cat([output for _, output in alone.run(plan)])
    torch.testing.assert_close(torch.cat([output for _, output in got]), wanted)
    assert (wanted[1:] - wanted[:-1]).abs().max() > 1e-3


@pytest.mark.parametrize("error", NO_MEMORY)
def test_where_not_a_single_view_fits(error: Exception) -> None:
    kind = type(error) if isinstance(error, torch.cuda.OutOfMemoryError) else RuntimeError
    with pytest.raises(kind, match=r"a single view of 192 numbers.* \(1, 3, 8, 8\)") as caught:
        bits(Limited(error, 0), images(), engine=Batched())
    assert caught.value.__cause__ is error


def test_other_errors_pass_through() -> None:
    for error in (RuntimeError("mine"), ValueError("memory"), KeyError("out of memory")):
        assert not is_out_of_memory(error)
        limited = Limited(error, 3, 2)
        with pytest.raises(type(error)) as caught:
            bits(limited, images(), engine=Batched(), perturbations_per_eval=2)
        assert caught.value is error
        assert limited.sizes == [2, 4, 4]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folded": 1}, "`folded` to be True, False or None; got 1"),
        ({"autocast": torch.float32}, "`autocast` to be torch.bfloat16, torch.float16 or None"),
        ({"autocast": "bfloat16"}, "got 'bfloat16'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Batched(**settings)


@pytest.mark.parametrize(
    ("gib", "elements", "views"),
    [
        (141, memory.PICTURE, 512),
        (24, memory.PICTURE, 192),
        (24, 4 * memory.PICTURE, 48),
        (8, memory.PICTURE, 64),
        (24, 784, 4096),
        (24, 2**40, 1),
    ],
)
def test_chunks_on_a_gpu_follow_its_memory(
    gib: int, elements: int, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = SimpleNamespace(total_memory=gib << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: has)
    assert memory.default_views(elements, torch.device("cuda")) == views
    assert memory.default_views(memory.PICTURE, torch.device("mps")) == 128
