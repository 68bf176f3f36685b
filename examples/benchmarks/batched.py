# The batched engine: what InfoMask costs without a network, and how many views a pass should have.
#
#     python examples/benchmarks/batched.py overhead
#     python examples/benchmarks/batched.py chunks --threads 2 --rounds 5
from __future__ import annotations

import argparse

import torch
from captum.attr import Occlusion
from interleave import CLOCKS, Call, by_clock, interleaved, spread
from machine import machine
from networks import network
from subjects import TARGET
from torch import Tensor, nn

from captum_infomask import InfoMask, sliding_windows


def small_network() -> nn.Module:
    """The size of network that two-digit pictures of 28 × 56 pixels need."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inside, outside in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    return made.eval().requires_grad_(False)


def no_network(pictures: Tensor) -> Tensor:
    """Leaves only what the methods themselves cost."""
    return pictures[:, :2, 0, 0]


def overhead(rounds: int) -> None:
    x, views = torch.randn(1, 3, 224, 224), 4
    windows = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16)}
    log_softmax = Occlusion(lambda pictures: torch.log_softmax(no_network(pictures), dim=1))

    def occluded() -> Tensor:
        return log_softmax.attribute(x, target=TARGET, perturbations_per_eval=views, **windows)

    def dropped() -> Tensor:
        return InfoMask(no_network).attribute(
            x, target=TARGET, view="drop", perturbations_per_eval=views, **windows
        )

    columns = by_clock(interleaved([occluded, dropped], 5 * rounds), "processor")
    print("\nWithout a network: ms per window (196 windows) of processor time")
    for name, seconds in zip(("Occlusion", "InfoMask"), columns, strict=True):
        print(f"  {name:10s} {spread([s * 1000 / 196 for s in seconds])}")


def dropping(model: nn.Module, x: Tensor, side: int, stride: int, views: int | None) -> Call:
    return lambda: InfoMask(model).attribute(
        x,
        target=TARGET,
        view="drop",
        sliding_window_shapes=(x.shape[1], side, side),
        strides=(x.shape[1], stride, stride),
        engine="batched",
        perturbations_per_eval=views,
    )


def chunks(rounds: int) -> None:
    cases = (
        ("ResNet-18, 3 × 224 × 224", network("resnet18"), torch.randn(1, 3, 224, 224), 28, 28),
        ("small network, 1 × 28 × 56", small_network(), torch.randn(1, 1, 28, 56), 7, 1),
    )
    for name, model, x, side, stride in cases:
        count = len(sliding_windows(x, (x.shape[1], side, side), (x.shape[1], stride, stride)))
        settings = [1, 2, 4, 8, 16, 32, 64, *([128, 256, 512] if count > 64 else []), None]
        table = interleaved([dropping(model, x, side, stride, size) for size in settings], rounds)
        columns = [by_clock(table, clock) for clock in CLOCKS]
        print(f"\n{name}: ms per view by views in a pass ({count} windows, {rounds} rounds)")
        for size, *clocks in zip(settings, *columns, strict=True):
            label = "default" if size is None else str(size)
            wall, used = (spread([s * 1000 / (count + 1) for s in seconds]) for seconds in clocks)
            print(f"  {label:>7s}  {wall}, of processor time {used}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the batched engine.")
    parser.add_argument("part", choices=("overhead", "chunks"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine())
    (overhead if arguments.part == "overhead" else chunks)(arguments.rounds)


if __name__ == "__main__":
    main()
