# The batched engine measured: against Captum's Occlusion, by chunk size, and in memory.
#
#     python examples/benchmarks/batched.py                 # everything
#     python examples/benchmarks/batched.py speed           # InfoMask drop against Occlusion
#     python examples/benchmarks/batched.py chunks          # how many views in a forward pass
#     python examples/benchmarks/batched.py memory          # ten times as many windows
#
# What is compared runs interleaved in one process, in an order that turns around every round, and
# the ratios are taken within rounds: whatever else the machine does strikes all sides alike.
from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import captum
import torch
import torchvision
from captum.attr import Occlusion
from torch import Tensor, nn

from captum_infomask import InfoMask, __version__, sliding_windows

Call = Callable[[], Tensor]
TARGET = 1


def calibrated(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Give a network of random weights the batch statistics of random data, as training would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(inputs)
    return network.eval().requires_grad_(False)


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return calibrated(torchvision.models.resnet18(weights=None), torch.randn(16, 3, 224, 224))


def small_network() -> nn.Module:
    """The size of network that two-digit pictures of 28 × 56 pixels need."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inside, outside in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    return network.eval().requires_grad_(False)


def no_network(pictures: Tensor) -> Tensor:
    """Leaves only what the methods themselves cost."""
    return pictures[:, :2, 0, 0]


def info_mask(
    network: Callable[[Tensor], Tensor], x: Tensor, side: int, stride: int, views: int | None
) -> Call:
    def call() -> Tensor:
        return InfoMask(network).attribute(
            x,
            target=TARGET,
            view="drop",
            sliding_window_shapes=(x.shape[1], side, side),
            strides=(x.shape[1], stride, stride),
            perturbations_per_eval=views,
        )

    return call


def occlusion(
    network: Callable[[Tensor], Tensor], x: Tensor, side: int, stride: int, views: int
) -> Call:
    method = Occlusion(lambda pictures: torch.log_softmax(network(pictures), dim=1))

    def call() -> Tensor:
        return method.attribute(
            x,
            target=TARGET,
            sliding_window_shapes=(x.shape[1], side, side),
            strides=(x.shape[1], stride, stride),
            perturbations_per_eval=views,
        )

    return call


def interleaved(calls: Sequence[Call], rounds: int) -> list[list[tuple[float, float]]]:
    """Wall and processor seconds of every call in every round: [round][call]."""
    calls[0]()  # the machine is warm before anything counts
    table = []
    for turn in range(rounds):
        seconds = [(0.0, 0.0)] * len(calls)
        order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
        for k in order:
            wall, used = time.perf_counter(), time.process_time()
            calls[k]()
            seconds[k] = time.perf_counter() - wall, time.process_time() - used
        table.append(seconds)
    return table


def spread(values: Sequence[float], digits: int = 3) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def speed(rounds: int) -> None:
    network, x = resnet(), torch.randn(1, 3, 224, 224)
    sizes = (1, 4, 8, 16, 32, 64)
    calls = [occlusion(network, x, 28, 28, size) for size in sizes]
    trial = interleaved(calls, max(3, rounds // 2))
    print("\nOcclusion by perturbations_per_eval: ms per window (64 windows), median [range]")
    least = {}
    for k, size in enumerate(sizes):
        wall, used = ([seconds[k][clock] * 1000 / 64 for seconds in trial] for clock in (0, 1))
        least[size] = min(wall)  # what the machine can do when nothing else disturbs
        print(f"  {size:3d}  {spread(wall, 1)}, of processor time {spread(used, 1)}")
    best = min(least, key=least.__getitem__)
    print(f"Occlusion's best: {best}")
    table = interleaved(
        [
            occlusion(no_network, x, 16, 16, best),
            info_mask(no_network, x, 16, 16, best),
        ],
        5 * rounds,
    )
    print("\nWithout a network: ms per window (196 windows) of processor time")
    for k, name in enumerate((f"Occlusion({best})", f"InfoMask({best})")):
        print(f"  {name:15s} {spread([seconds[k][1] * 1000 / 196 for seconds in table])}")
    for side, stride, turns in ((16, 16, rounds), (16, 8, max(3, rounds // 3))):
        count = len(sliding_windows(x, (3, side, side), (3, stride, stride)))
        names = (f"Occlusion({best})", f"InfoMask({best})", "InfoMask(None)")
        table = interleaved(
            [
                occlusion(network, x, side, stride, best),
                info_mask(network, x, side, stride, best),
                info_mask(network, x, side, stride, None),
            ],
            turns,
        )
        print(f"\nResNet-18, 224², {side}/{stride}: {count} windows, {turns} rounds")
        for k, name in enumerate(names):
            walls = spread([seconds[k][0] for seconds in table], 2)
            ratios = spread([seconds[k][0] / seconds[0][0] for seconds in table])
            used = spread([seconds[k][1] / seconds[0][1] for seconds in table])
            print(f"  {name:15s} {walls} s; ratio {ratios}; of processor time {used}")


def chunks(rounds: int) -> None:
    cases = (
        ("ResNet-18, 3 × 224 × 224", resnet(), torch.randn(1, 3, 224, 224), 28, 28),
        ("small network, 1 × 28 × 56", small_network(), torch.randn(1, 1, 28, 56), 7, 1),
    )
    for name, network, x, side, stride in cases:
        count = len(sliding_windows(x, (x.shape[1], side, side), (x.shape[1], stride, stride)))
        sizes = [1, 2, 4, 8, 16, 32, 64]
        sizes += [128, 256, 512] if count > 64 else []
        settings = [*sizes, None]
        table = interleaved(
            [info_mask(network, x, side, stride, size) for size in settings], rounds
        )
        print(f"\n{name}: ms per view by views in a pass ({count} windows, {rounds} rounds)")
        for k, size in enumerate(settings):
            label = "default" if size is None else str(size)
            wall, used = ([row[k][clock] * 1000 / (count + 1) for row in table] for clock in (0, 1))
            print(f"  {label:>7s}  {spread(wall)}, of processor time {spread(used)}")


def memory() -> None:
    print("\nPeak resident memory, a process each, ResNet-18, 224², 16 views in a forward pass:")
    for strides in ("0,0", "28,56", "16,16", "4,5"):
        command = [sys.executable, str(Path(__file__)), "peak", "--strides", strides]
        command += ["--threads", str(torch.get_num_threads())]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(f"  {said.rstrip()}")


def peak(strides: tuple[int, int]) -> None:
    """Print this process's peak; with strides of 0 nothing is attributed."""
    network, x = resnet(), torch.randn(1, 3, 224, 224)
    windows = 0
    if all(strides):
        infomap = InfoMask(network).score_regions(
            x,
            target=TARGET,
            view="drop",
            sliding_window_shapes=(3, *(max(16, stride) for stride in strides)),
            strides=(3, *strides),
            perturbations_per_eval=16,
        )
        infomap.attributions()
        windows = infomap.scores.shape[1]
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{windows:5d} windows: {kilobytes / 1024:.0f} MiB")


def processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the batched engine.")
    parser.add_argument(
        "part", nargs="?", default="all", choices=("all", "speed", "chunks", "memory", "peak")
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--strides", default="0,0", help="for peak: rows,columns")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.part == "peak":
        rows, columns = map(int, arguments.strides.split(","))
        peak((rows, columns))
        return
    print(
        f"{processor()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, captum "
        f"{captum.__version__}, captum_infomask {__version__}"
    )
    if arguments.part in ("all", "speed"):
        speed(arguments.rounds)
    if arguments.part in ("all", "chunks"):
        chunks(arguments.rounds)
    if arguments.part in ("all", "memory"):
        memory()


if __name__ == "__main__":
    main()
