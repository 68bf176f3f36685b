# The batched engine's copy of a network: what it saves, in chunks of which size, and autocast.
#
#     python examples/benchmarks/copies.py engine     # the network as it is, and its copy
#     python examples/benchmarks/copies.py chunks     # views in a pass, and the C library's memory
#     python examples/benchmarks/copies.py autocast   # how far bfloat16 is off
from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import torch
from interleave import by_clock, interleaved, spread
from machine import machine
from networks import NETWORKS, network
from subjects import TARGET
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask import InfoMask, sliding_windows
from captum_infomask.datasets import sample_photo
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import keep_freed_blocks
from captum_infomask.engines.traced import folded, traced
from captum_infomask.engines.verified_copy import fast_copy
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.models.two_digits import load_two_digit_network

ESPRESSO = 967
ENGINES = {"as it is": Batched(folded=False), "with the copy": Batched()}


@cache
def subject(name: str) -> tuple[nn.Module, Tensor, int]:
    """A network, its pictures, and the side of the windows."""
    if name == "two_digits":
        pictures = F.pad(torch.rand(64, 1, 12, 12), (8, 36, 8, 8))
        return load_two_digit_network(), pictures, 3
    if name == "lite0":
        return efficientnet_lite0().network, coffee(), 32
    return network(name), torch.randn(1, 3, 224, 224), 16


def coffee() -> Tensor:
    photo = torch.from_numpy(sample_photo("coffee").copy()).permute(2, 0, 1)[None].float()
    return (F.interpolate(photo, size=(224, 224), mode="bilinear", antialias=True) - 127) / 128


def scored(name: str, view: str, engine: Batched, target: int = TARGET) -> Tensor:
    model, x, side = subject(name)
    shape = (x.shape[1], side, side)
    regions = sliding_windows(x, shape, shape)
    return (
        InfoMask(model)
        .score_regions(x, target=target, view=view, regions=regions, engine=engine)
        .scores
    )


def engine(names: Sequence[str], rounds: int) -> None:
    print("| network | views | as it is | with the copy | ratio | largest difference |")
    for name in names:
        calls = [partial(scored, name, "drop", engine) for engine in ENGINES.values()]
        own, copied = by_clock(interleaved(calls, rounds), "processor")
        ratio = spread([a / b for a, b in zip(own, copied, strict=True)], 2)
        seconds = " | ".join(f"{statistics.median(each):.2f} s" for each in (own, copied))
        as_it_is, with_the_copy = (call() for call in calls)
        off, most = float((as_it_is - with_the_copy).abs().max()), float(as_it_is.abs().max())
        print(
            f"| {name} | {as_it_is.numel()} | {seconds} | {ratio} | {off:.1e} of {most:.2g} bits |"
        )


@torch.no_grad()
def chunks(names: Sequence[str], rounds: int, sizes: Sequence[int]) -> None:
    for name in names:
        model, x, _ = subject(name)
        began = time.process_time()
        copied = fast_copy(Call(model), (x,), (), model(x))
        used = time.process_time() - began
        views = copied.views_on_cpu(x.numel())
        print(f"\n{name}: copied in {used:.2f} s, {views} views at a time by itself")
        print("views, and per view: ms, of which of the system, and page faults")
        plain = replace(copied, network=folded(traced(model)))
        ways = {"as it is": model, "copy, nothing in place": plain, "copy": copied}
        for size in sizes:
            for way, run in ways.items():
                measured = [pass_of(run, x.repeat(size, 1, 1, 1)) for _ in range(rounds)]
                ms, system, faults = map(statistics.median, zip(*measured, strict=True))
                print(f"  {size:3d} {way:24s} {ms:7.1f} {system:6.1f} {faults:7.0f}")


def pass_of(run: Callable[[Tensor], Tensor], views: Tensor) -> tuple[float, float, float]:
    """Processor time, that of the system (ms), and page faults, per view."""
    run(views)
    passes = max(3, 12 // len(views))
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(passes):
        run(views.clone())
    after = resource.getrusage(resource.RUSAGE_SELF)
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    count = passes * len(views)
    faults = after.ru_minflt - before.ru_minflt
    return 1000 * (user + system) / count, 1000 * system / count, faults / count


def autocast() -> None:
    settings = {**ENGINES, "bfloat16": Batched(autocast=torch.bfloat16)}
    for view in ("drop", "crop"):
        own = scored("lite0", view, ENGINES["as it is"], ESPRESSO)
        span = float(own.max() - own.min())
        for name, setting in settings.items():
            began = time.process_time()
            off = (scored("lite0", view, setting, ESPRESSO) - own).abs()
            used = time.process_time() - began
            middle, most = float(off.median()), float(off.max())
            print(
                f"{view} {name}: {used:.1f} s, off by {middle:.2g} (median), {most:.2g} (largest)"
            )
        print(f"{view}: {len(own[0])} values span {span:.3g} bits")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("engine", "chunks", "autocast"))
    parser.add_argument("--models", nargs="+", choices=("lite0", "two_digits", *NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--views", nargs="+", type=int, default=(4, 6, 8))
    parser.add_argument("--free-no-block", action="store_true", help="leave glibc as it starts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine())
    names = options.models or ("resnet18", "mobilenet_v2", "efficientnet_b0")
    if options.part == "engine":
        engine(names, options.rounds)
    elif options.part == "chunks":
        if not options.free_no_block:
            keep_freed_blocks()
        chunks(names, options.rounds, options.views)
    else:
        autocast()


if __name__ == "__main__":
    main()
