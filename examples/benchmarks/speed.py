# The speed of InfoMask's engines, beside Captum's and others' methods.
#
#     python examples/benchmarks/speed.py speed --models resnet18 --windows 16/8
#     python examples/benchmarks/speed.py growth      # by picture size, and by number of windows
#     python examples/benchmarks/speed.py linear      # are a few windows as dear as all, each?
#     python examples/benchmarks/speed.py memory      # a process each
#     python examples/benchmarks/speed.py exactness   # against float64 forward passes
#     python examples/benchmarks/speed.py gradcam     # pytorch-grad-cam's methods
#     python examples/benchmarks/speed.py tables      # all that was measured so far
#     python examples/benchmarks/speed.py plot
#
# What is compared runs interleaved in one process, in an order that turns around every round, and
# ratios are taken within rounds. A run adds to the JSON file of its part, so a table can be made
# in several.
from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import speed_parts
import speed_tables
import torch
from contenders import contenders
from interleave import CLOCKS
from machine import machine
from networks import NETWORKS
from records import load
from speed_figures import draw_growth, draw_speed

# Views in a forward pass that are tried where a method cannot choose: an accelerator takes more.
SETTINGS = {"cpu": (1, 2, 4, 8, 16), "cuda": (16, 32, 64, 128, 256)}
PARTS = {
    "speed": (speed_parts.speed, speed_tables.speed_table),
    "growth": (speed_parts.growth, speed_tables.growth_table),
    "linear": (speed_parts.linear, speed_tables.linear_table),
    "memory": (speed_parts.memory, speed_tables.memory_table),
    "exactness": (speed_parts.exact, speed_tables.exactness_table),
    "gradcam": (speed_parts.gradcam, speed_tables.cam_table),
}
FIGURES = {"speed": draw_speed, "growth": draw_growth}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    if options.part == "peak":
        speed_parts.one_peak(options)
    elif options.part == "plot":
        plot(options)
    else:
        print(f"{machine(options.device)}; {options.clock} time\n")
        if options.part in PARTS:
            PARTS[options.part][0](options)
        show(options)


def show(options: Namespace) -> None:
    """Print the table of the part that ran, or of all that was measured."""
    for part, (_, table) in PARTS.items():
        records = load(options.json, part)
        if records and options.part in (part, "tables"):
            print(f"{table(records)}\n")


def plot(options: Namespace) -> None:
    for part, draw in FIGURES.items():
        records = load(options.json, part)
        if records:
            draw(records, options.out / f"{part}.png")


def parsed(arguments: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description="Measure the speed of InfoMask's engines.")
    parser.add_argument("part", choices=(*PARTS, "peak", "tables", "plot"))
    parser.add_argument("--models", nargs="+", choices=NETWORKS, help="default: all, or resnet18")
    parser.add_argument("--windows", nargs="+", type=_windows, help="side/stride in pixels")
    parser.add_argument("--contenders", nargs="+", choices=contenders(()), help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of an engine's call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=SETTINGS, default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, help="default: processor for one CPU thread")
    parser.add_argument("--side", type=int, default=224, help="pixels of a picture's side")
    parser.add_argument("--sides", nargs="+", type=int, default=[112, 160, 224, 320, 448])
    parser.add_argument("--counts", nargs="+", type=int, default=[4, 16, 64, 256, 729])
    parser.add_argument("--json", type=Path, default=Path("build/speed"), help="folder of results")
    parser.add_argument("--out", type=Path, default=Path("docs/_static"), help="folder of figures")
    options = parser.parse_args(arguments)
    few = options.part in ("growth", "linear", "gradcam")
    sizes = [(8, 4), (16, 8), (32, 16)] if options.part == "speed" else [(16, 8)]
    compared = contenders(())
    if options.part in ("growth", "linear"):
        compared = ["Occlusion", "plain"]
        compared += ["batched", "incremental"] if options.part == "growth" else []
    options.contenders = options.contenders or list(compared)
    if options.part == "speed" and speed_tables.BASE not in options.contenders:
        parser.error(f"--contenders: the table is of ratios to {speed_tables.BASE}; add it")
    options.models = options.models or (["resnet18"] if few else list(NETWORKS))
    options.windows = options.windows or sizes
    options.settings = SETTINGS[options.device]
    one_thread = options.device == "cpu" and options.threads == 1
    options.clock = options.clock or ("processor" if one_thread else "wall")
    return options


def _windows(text: str) -> tuple[int, int]:
    window, stride = map(int, text.split("/"))
    return window, stride


if __name__ == "__main__":
    main()
