# Windows of a volume: the incremental engine beside Captum's Occlusion, and the memory of engines.
#
#     OMP_NUM_THREADS=1 python examples/benchmarks/volumes.py speed --write
#     OMP_NUM_THREADS=1 python examples/benchmarks/volumes.py memory --write
#
# Both run in turn in one process, in an order that turns around every round; times are of the
# processor, with one thread, and ratios are taken within rounds. What was measured is added to the
# JSON file of its part, so a page can be made in several runs.
from __future__ import annotations

import argparse
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captum.attr import Occlusion
from interleave import Call, by_clock, interleaved, spread
from machine import machine, memory
from records import add, load
from subjects import TARGET, drawn
from torch import Tensor, nn

from captum_infomask import InfoMask, sliding_windows
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.engines.incremental.incremental_engine import Incremental
from captum_infomask.regions.box_regions import BoxRegions

WINDOW, STRIDE, TILE = 8, 4, 2
SETTINGS = (1, 2, 4, 8)
PAGE = Path(__file__).parents[2] / "docs/results/volumes.md"


def resnet18() -> nn.Module:
    """MONAI's: a stem of 7³ and stride 1, a pool, four stages at 32³, 16³, 8³ and 4³ of 64³."""
    from monai.networks.nets import resnet18 as made

    return made(spatial_dims=3, n_input_channels=1, num_classes=5)


def r3d_18() -> nn.Module:
    """torchvision's for video, with one channel: four stages at 64 × 32², 32 × 16² and so on."""
    from torchvision.models.video import r3d_18 as made

    network = made(num_classes=5)
    network.stem[0] = nn.Conv3d(1, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {"resnet18": resnet18, "r3d_18": r3d_18}
ENGINES: dict[str, str | Engine] = {
    "incremental": "incremental",
    "no Winograd": Incremental(winograd=False),
    "batched": "batched",
}


def subject(name: str, side: int) -> tuple[nn.Module, Tensor]:
    """A network whose batch norms have the statistics of random volumes, and a volume."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None
            module.reset_running_stats()
            module.train()
    with torch.no_grad():
        network(torch.randn(2, 1, *[min(side, 64)] * 3))
    return network.eval().requires_grad_(False), torch.randn(1, 1, side, side, side)


def windows(x: Tensor, count: int | None = None) -> BoxRegions:
    """All windows of a volume, or so many of them, drawn at random."""
    every = sliding_windows(x, (1, *[WINDOW] * 3), (1, *[STRIDE] * 3))
    return every if count is None or count >= len(every) else drawn(every, count)


def occlusion(network: nn.Module, x: Tensor, views: int) -> Call:
    """Captum's Occlusion of eight windows that tile the volume: nine forward passes."""
    method, shape = (
        Occlusion(lambda shown: network(shown).log_softmax(1)),
        (1, *[x.shape[-1] // TILE] * 3),
    )
    return lambda: method.attribute(
        x, target=TARGET, sliding_window_shapes=shape, strides=shape, perturbations_per_eval=views
    )


def scored(network: nn.Module, x: Tensor, regions: BoxRegions, engine: str | Engine) -> Any:
    return InfoMask(network).score_regions(
        x, target=TARGET, view="drop", regions=regions, engine=engine
    )


def speed(options: Namespace) -> None:
    network, x = subject(options.network, options.side)
    total, passes = len(windows(x)), TILE**3 + 1
    trials = interleaved([occlusion(network, x, views) for views in SETTINGS], 2)
    each = [min(seconds) for seconds in by_clock(trials, "processor")]
    views = SETTINGS[each.index(min(each))]
    few = windows(x, TILE**3)
    found = scored(network, x, few, "incremental")
    wanted = scored(network, x, few, Batched(folded=False))
    for count in options.counts:
        regions = windows(x, count)
        calls = [
            occlusion(network, x, views),
            lambda regions=regions: scored(network, x, regions, "incremental"),
        ]
        captums, ours = by_clock(interleaved(calls, options.rounds), "processor")
        record = {
            "network": options.network,
            "machine": machine(),
            "side": options.side,
            "windows": total,
            "count": len(regions),
            "views": views,
            "engine": found.engine,
            "off": float((found.scores - wanted.scores).abs().max()),
            "largest": float(wanted.scores.abs().max()),
            "captum": [second / passes for second in captums],
            "incremental": [second / len(regions) for second in ours],
        }
        add(options.json, "volumes_speed", record, ("network", "side", "count"))


def peaks(options: Namespace) -> None:
    """Measure the peak of a process of its own for every engine."""
    for engine in options.engines:
        count = options.counts[0] if engine != "batched" else options.batched_count
        command = [sys.executable, __file__, "peak", "--network", options.network]
        command += ["--engines", engine, "--side", str(options.side), "--counts", str(count)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        record = json.loads(said.splitlines()[-1])
        add(options.json, "volumes_memory", record, ("network", "side", "asked"))


def peak(options: Namespace) -> None:
    """Print the most memory of this process that was resident."""
    network, x = subject(options.network, options.side)
    before = memory("VmHWM")
    (asked,) = options.engines
    regions = windows(x, options.counts[0])
    engine = scored(network, x, regions, ENGINES[asked]).engine
    record = {
        "network": options.network,
        "side": options.side,
        "asked": asked,
        "engine": engine,
        "count": len(regions),
        "before": round(before),
        "peak": round(memory("VmHWM")),
    }
    print(json.dumps(record))


def tables(folder: Path) -> str:
    """What was measured so far, as Markdown."""
    lines = [
        "| network | volume | windows timed, of all | Occlusion, ms per window | views at a time | "
        "incremental, ms per window | times faster | largest difference, bits | largest score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in load(folder, "volumes_speed"):
        captums, ours = ([1000 * s for s in row[key]] for key in ("captum", "incremental"))
        ratios = [a / b for a, b in zip(captums, ours, strict=True)]
        lines.append(
            f"| {row['network']} | {row['side']}³ | {row['count']:,} of {row['windows']:,} | "
            f"{spread(captums, 0)} | {row['views']} | {spread(ours, 0)} | {spread(ratios, 1)} | "
            f"{row['off']:.1e} | {row['largest']:.3f} |"
        )
    peaks = load(folder, "volumes_memory")
    if peaks:
        lines += [
            "",
            "| network | volume | engine | windows | before the call, MiB | peak, MiB |",
            "|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {row['network']} | {row['side']}³ | {row['asked']} | {row['count']} | "
        f"{row['before']:,} | {row['peak']:,} |"
        for row in peaks
    ]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Put the tables into the page of results, between its two marks."""
    start, end = "<!-- measured -->\n", "\n<!-- end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(start)
    after = rest.split(end)[1]
    where = {row["machine"] for row in load(folder, "volumes_speed")}
    measured = "\n".join([*(f"`{one}`" for one in sorted(where)), "", tables(folder)])
    PAGE.write_text(f"{before}{start}{measured}{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure engines on volumes.")
    parser.add_argument("part", choices=("speed", "memory", "peak", "tables"))
    parser.add_argument("--network", choices=NETWORKS, default="resnet18")
    parser.add_argument("--side", type=int, help="default: 64, or 96 for memory")
    parser.add_argument("--counts", type=int, nargs="+", help="windows, drawn at random")
    parser.add_argument("--batched-count", type=int, default=12)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("build/volumes"))
    parser.add_argument("--write", action="store_true", help="write the page of results")
    options = parser.parse_args()
    of_memory = options.part in ("memory", "peak")
    options.side = options.side or (96 if of_memory else 64)
    options.counts = options.counts or [200 if of_memory else 256]
    torch.set_num_threads(1)
    if options.part != "tables":
        {"speed": speed, "memory": peaks, "peak": peak}[options.part](options)
    if options.part != "peak":
        print(tables(options.json))
    if options.write:
        write(options.json)


if __name__ == "__main__":
    main()
