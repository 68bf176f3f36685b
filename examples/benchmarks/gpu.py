# A GPU: the tests that need one, then speed, memory and exactness, written to one page.
#
#     make gpu
#     python examples/benchmarks/gpu.py --device cpu --quick --out build/gpu.md   # tries the script
#
# What does not fit into --minutes is left out, and the page says so; it is written after every
# part, so that a run that is cut off leaves what it has.
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from exactness import exactness
from gpu_contenders import BFLOAT16, Row, compiled_rows, eager_rows, map_rows, tf32_is
from gpu_tables import page
from interleave import by_clock, interleaved, timed
from machine import machine
from measure import Effort, best_settings
from networks import network
from subjects import Subject

from captum_infomask.comparison.costs import measured
from captum_infomask.dataset_run.data.reading import in_one_line
from captum_infomask.engines.engine_protocol import Engine

ROOT = Path(__file__).resolve().parents[2]
MODELS = ["resnet50", "vit_b_16", "resnet18", "mobilenet_v2", "timm/vit_small_patch16_224"]
COMPILED = ["resnet50", "vit_b_16"]
QUICK = ["resnet18", "timm/vit_small_patch16_224"]
# Seconds that must be left before a part begins.
NEEDED = {"maps": 20, "speed": 50, "exactness": 20, "compiled": 100}
PRECISIONS: dict[str, tuple[bool, dict[str, str | Engine]]] = {
    "float32": (False, {"batched": "batched", "incremental": "incremental"}),
    "TF32": (True, {"batched": "batched", "incremental": "incremental"}),
    "bfloat16 autocast": (False, {"batched": BFLOAT16}),
}


class Left:
    """How much of the time is left, and what did not fit into it."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.out: list[str] = []

    def seconds(self) -> float:
        return self.end - time.monotonic()

    def suffices(self, part: str, name: str) -> bool:
        fits = self.seconds() > NEEDED[part]
        if not fits:
            self.out.append(f"{part} of {name}: no time was left")
        return fits


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    left = Left(options.minutes)
    found: dict[str, Any] = {
        "command": "make gpu" if arguments is None and len(sys.argv) == 1 else _command(arguments),
        "machine": machine(options.device),
        "side": options.side,
        "window": options.window,
        "stride": options.stride,
        "sizes": ", ".join(map(str, options.sizes)),
        "backend": options.backend,
        "tests": run_tests(options, left) if options.tests else None,
        "maps": [],
        "speed": [],
        "exactness": [],
        "compiled": [],
        "left_out": left.out,
    }
    write(options.out, found)
    for name, part in order(options):
        if left.suffices(part, name):
            print(f"{part} of {name}, {left.seconds():.0f} s left", file=sys.stderr)
            try:
                found[part] += PARTS[part](options, subject_of(options, name))
            except Exception as error:
                left.out.append(f"{part} of {name}: {in_one_line(error)}")
        write(options.out, found)
    print(options.out.read_text(encoding="utf-8"))


def order(options: Namespace) -> list[tuple[str, str]]:
    """What is measured, the most telling first: networks and parts."""
    parts = ("exactness", "maps", "speed")
    asked = dict.fromkeys(parts, options.models) | {"compiled": options.compiled}
    return [
        (name, part) for name in options.models for part, names in asked.items() if name in names
    ]


def subject_of(options: Namespace, name: str) -> Subject:
    """A network and a random picture on the device."""
    made = network(name, options.side).to(options.device)
    picture = torch.randn(
        1, 3, options.side, options.side, generator=torch.Generator().manual_seed(1)
    )
    return Subject(name, made, picture.to(options.device), options.window, options.stride)


def maps(options: Namespace, subject: Subject) -> list[dict[str, Any]]:
    """Whole maps from features and gradients."""
    rows = map_rows(subject)
    return [timed_rows(subject, rows, dict.fromkeys(rows), options.rounds)]


def speed(options: Namespace, subject: Subject) -> list[dict[str, Any]]:
    """Every contender in every precision, at its best setting."""
    rows = eager_rows(options.sizes, subject)
    effort = Effort(options.rounds, "wall", options.tiles)
    return [timed_rows(subject, rows, best_settings(subject, rows, effort), options.rounds)]


def compiled(options: Namespace, subject: Subject) -> list[dict[str, Any]]:
    """What `torch.compile` gains, and what it takes."""
    rows = compiled_rows(options.sizes, subject, options.backend)
    settings = {name: row.settings[0] for name, row in rows.items()}
    return [timed_rows(subject, rows, settings, options.rounds)]


def timed_rows(
    subject: Subject, rows: Mapping[str, Row], settings: Mapping[str, int | None], rounds: int
) -> dict[str, Any]:
    """Per row: its setting, its first call's seconds and bytes, and its seconds in every round."""
    calls = {name: row.call(subject, settings[name]) for name, row in rows.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, call in calls.items():
        ran: list[str] = []
        if subject.picture.device.type == "cuda":  # so that peaks of any length are seen
            torch.cuda.reset_peak_memory_stats(subject.picture.device)
        with measured(subject.picture.device) as cost:
            first, _ = timed(lambda call=call, ran=ran: ran.append(call()))
        found[name] = {
            "views": settings[name], "ran": ran[0], "first": first, "bytes": cost.peak_bytes
        }  # fmt: skip
    columns = by_clock(interleaved(list(calls.values()), rounds), "wall")
    for row, seconds in zip(found.values(), columns, strict=True):
        row["seconds"] = seconds
    return {"network": subject.name, "windows": len(subject.windows), "rows": found}


def exact(options: Namespace, subject: Subject) -> list[dict[str, Any]]:
    """Errors of logits in every precision, against float64."""
    records = []
    for precision, (tf32, engines) in PRECISIONS.items():
        with tf32_is(tf32):
            record = exactness(subject, engines, count=12)
        if precision.startswith("bfloat16"):
            del record["errors"]["plain"]  # which ran in float32
        records.append({"network": subject.name, "precision": precision, **record})
    return records


PARTS = {"maps": maps, "speed": speed, "exactness": exact, "compiled": compiled}


def run_tests(options: Namespace, left: Left) -> dict[str, Any]:
    """Run the tests that need the device, in a process of their own."""
    words = ["-m", "pytest", "-m", "cuda", *options.tests]
    found: dict[str, Any] = {"command": f"python {' '.join(words)}", "failures": []}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        # The project's own options ask for plug-ins that a machine with a GPU may lack.
        plain = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-q"]
        try:
            ended = subprocess.run(
                [sys.executable, *words, *plain, f"--junitxml={report}"],
                cwd=ROOT,
                env=os.environ | {"TEST_DEVICE": options.device},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(left.seconds() / 2, 60),
                check=False,
            )
            said = ended.stdout.strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            said = ["they took too long, and were stopped"]
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    kinds = {"failed": ("failure", "error"), "skipped": ("skipped",)}
    counts = {
        kind: sum(any(case.find(tag) is not None for tag in tags) for case in cases)
        for kind, tags in kinds.items()
    }
    found |= counts | {"passed": len(cases) - sum(counts.values())}
    found["seconds"] = time.monotonic() - start
    found["failures"] = [
        (f"{case.get('name')}", (problem.get("message") or "").splitlines()[0][:200])
        for case in cases
        for tag in kinds["failed"]
        if (problem := case.find(tag)) is not None
    ]
    if not cases:
        found["failures"] = [("pytest", "".join(said))]
    return found


def write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(found), encoding="utf-8")


def _command(arguments: Sequence[str] | None) -> str:
    words = sys.argv[1:] if arguments is None else arguments
    return " ".join(["python examples/benchmarks/gpu.py", *words])


def parsed(arguments: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description="Test and measure captum_infomask on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small pictures, one round")
    parser.add_argument("--models", nargs="+", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--compiled", nargs="*", help="those of them that are compiled too")
    parser.add_argument("--tests", nargs="*", default=["tests/test_cuda.py"])
    parser.add_argument("--minutes", type=float, default=7.0, help="when no further part begins")
    parser.add_argument(
        "--out", type=Path, help="default: docs/results/gpu.md; build/gpu.md of a CPU"
    )
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --quick tries the script without one")
    on_page = options.device.startswith("cuda") and not options.quick
    options.out = options.out or ROOT / ("docs/results/gpu.md" if on_page else "build/gpu.md")
    options.models = options.models or (QUICK if options.quick else MODELS)
    options.compiled = (
        (QUICK[:1] if options.quick else COMPILED) if options.compiled is None else options.compiled
    )
    options.side, options.window, options.stride = (32, 16, 16) if options.quick else (224, 16, 8)
    options.sizes = (4, 8) if options.quick else (32, 64, 128, 256, 512)
    options.tiles, options.rounds = (4, 1) if options.quick else (256, 5)
    options.backend = "eager" if options.quick else "inductor"
    return options


if __name__ == "__main__":
    main()
