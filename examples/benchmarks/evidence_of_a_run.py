# The evidence of a run over 10,000 small pictures: what it finds, its memory, and a kill.
#
#     OMP_NUM_THREADS=1 python examples/benchmarks/evidence_of_a_run.py --page run.html
#
# Pictures of ten classes have an object in the middle, whose colour tells the class. Those of two
# classes also have a watermark in a corner. A small network learns from other pictures of the same
# kind. The memory of the evidence is the growth of the peak resident memory of a fresh process,
# from before it adds up the rows to after. Another process runs over the pictures, and is killed in
# the middle; the run goes on, and must have the evidence of an unbroken run, to the bit.
from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from machine import machine, memory
from torch import Tensor, nn

from captum_infomask import CombinedEvidence, DatasetRun, grid, load_run, run_dataset
from captum_infomask.dataset_run.shards import shards_done
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.report.page import run_html

SIDE, CLASSES, CELLS = 32, 10, 4
MARKED = {3: (0, 0), 7: (SIDE - 6, SIDE - 6)}  # the classes with a watermark, and its place
NAMES = tuple(f"class {k}{' (watermark)' * (k in MARKED)}" for k in range(CLASSES))
SHARD, BATCH = 128, 64
PAGE = Path(__file__).parents[2] / "docs" / "results" / "evidence_of_a_run.md"


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) and labels (N,); the first ones do not depend on how many follow."""
    generator = torch.Generator().manual_seed(seed)
    made, labels = [], torch.arange(count) % CLASSES
    for label in labels.tolist():
        x = 0.3 * torch.rand(3, SIDE, SIDE, generator=generator)
        angle = 2 * torch.pi * (label / CLASSES + 0.03 * torch.randn((), generator=generator))
        colour = 0.5 + 0.5 * torch.cos(angle - 2 * torch.pi * torch.arange(3) / 3)
        top, left = torch.randint(9, 14, (2,), generator=generator).tolist()
        x[:, top : top + 9, left : left + 9] = 0.4 * x[:, top : top + 9, left : left + 9] + (
            0.6 * colour[:, None, None]
        )
        if label in MARKED:
            row, column = MARKED[label]
            x[:, row : row + 6 : 2, column : column + 6] = 1.0
        made.append(x)
    return torch.stack(made), labels


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """The pictures as a data set, made when it is made."""

    classes = NAMES

    def __init__(self, count: int) -> None:
        self.pictures, self.labels = pictures(count, seed=1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return self.pictures[k], int(self.labels[k])


def network() -> nn.Sequential:
    """A small network that has learned from crops of other pictures; the same in each process."""
    made = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)),
    )
    return made


def learned(folder: Path, steps: int) -> None:
    """Train a network on crops, and write its parameters."""
    torch.manual_seed(0)
    made, (x, labels) = network(), pictures(4000, seed=0)
    optimiser = torch.optim.Adam(made.parameters(), 3e-3)
    for step in range(steps):
        rows = torch.randint(len(x), (64,))
        size = [SIDE, SIDE // 2, SIDE // 4][step % 3]
        top, left = (torch.randint(SIDE - size + 1, (2,))).tolist()
        shown = nn.functional.interpolate(
            x[rows, :, top : top + size, left : left + size], SIDE, mode="bilinear", antialias=True
        )
        loss = nn.functional.cross_entropy(made(shown), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(made.state_dict(), folder / "network.pt")


def run(folder: Path, out: Path, count: int) -> DatasetRun:
    """Run over so many pictures, or go on."""
    made = network()
    made.load_state_dict(torch.load(folder / "network.pt"))
    places = grid(torch.zeros(1, 3, SIDE, SIDE), CELLS, CELLS)
    return run_dataset(
        Pictures(count),
        made,
        out,
        target="label",
        view="crop",
        regions=places,
        batch_size=BATCH,
        shard_size=SHARD,
        workers=0,
    )


class Pass(NamedTuple):
    """What adding up the rows of a run took."""

    seconds: float
    megabytes: float


def measured(out: Path) -> Pass:
    """Add up the evidence of a run in a fresh process."""
    words = [sys.executable, __file__, "--add-up", str(out)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return Pass(*map(float, said.split()))


def add_up(out: Path) -> None:
    """Print the seconds of the evidence, and how much the peak memory grew, in MB."""
    whole = load_run(out)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, start = memory("VmRSS"), time.perf_counter()
    whole.evidence()
    print(time.perf_counter() - start, memory("VmHWM") - before)


def killed(folder: Path, out: Path, count: int) -> int:
    """Start a run in a process of its own, kill it in the middle; the shards that it has left."""
    words = [sys.executable, __file__, "--run", str(folder), str(out), "--pictures", str(count)]
    half = count // SHARD // 2
    with subprocess.Popen(words) as process:
        while not out.is_dir() or len(shards_done(out)) < half:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    return len(shards_done(out))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    if options.add_up:
        add_up(options.add_up)
        return
    if options.run:
        run(*options.run, options.pictures)
        return
    counts = [options.pictures // 10, options.pictures // 2, options.pictures]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learned(folder, options.steps)
        outs = [folder / f"run{count}" for count in counts]
        start = time.perf_counter()
        runs = [run(folder, out, count) for out, count in zip(outs, counts, strict=True)]
        seconds = (time.perf_counter() - start) / sum(counts)
        passes = [measured(out) for out in outs]
        left = killed(folder, folder / "killed", counts[-1])
        resumed = run(folder, folder / "killed", counts[-1])
        evidence, other = runs[-1].evidence(), resumed.evidence()
        if not torch.equal(evidence.log2_e_values, other.log2_e_values):
            raise SystemExit("The resumed run has other evidence.")
        if options.page:
            options.page.write_text(run_html(run_content(runs[-1])), encoding="utf-8")
        words = page(options, counts, seconds, passes, left, resumed, evidence)
    print(words)
    if options.write:
        PAGE.write_text(words, encoding="utf-8")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=900, help="steps of the network's training")
    parser.add_argument("--page", type=Path, help="where the run's page is written")
    parser.add_argument("--write", action="store_true", help="write the page of results")
    parser.add_argument("--add-up", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def page(
    options: argparse.Namespace,
    counts: Sequence[int],
    seconds: float,
    passes: Sequence[Pass],
    left: int,
    resumed: DatasetRun,
    evidence: CombinedEvidence,
) -> str:
    """The page of results."""
    found = evidence.discoveries(0.05)
    corners = [0, CELLS - 1, CELLS * (CELLS - 1), CELLS**2 - 1]
    rows = [
        f"| {count:,} | {one.seconds:.2f} | {one.megabytes:.1f} |"
        for count, one in zip(counts, passes, strict=True)
    ]
    strongest = [
        f"| {evidence.describe(entry)} | {float(evidence.log2_e_values.flatten()[entry]):.1f} | "
        f"{float(evidence.mean_bits.flatten()[entry]):.2f} |"
        for entry in evidence.ranked().tolist()
        if entry % CELLS**2 in corners
    ]
    marks = sum(name in line for line in strongest[:2] for name in ("3 (w", "7 (w"))
    shards = -(-counts[-1] // SHARD)
    said = "the two strongest" if marks == 2 else "not the two strongest"
    parts = (
        f"We score {counts[-1]:,} pictures of {SIDE} × {SIDE} pixels, of {CLASSES} classes, with "
        f"`crop` and a grid of {CELLS} × {CELLS} places. An object in the middle has the colour of "
        f"its class. Pictures of class 3 also have a watermark in the top left corner, and those "
        f"of class 7 in the bottom right one. A small network has learned from other pictures of "
        f"the same kind. A picture takes {1000 * seconds:.1f} ms.",
        f"`run.evidence()` reads the rows shard by shard ({SHARD} pictures each). A fresh process "
        f"adds up each run. Its peak memory grows by this much:",
        f"A second process ran over the same pictures. It was killed (SIGKILL) when {left} of "
        f"{shards} shards were written. The same call went on and scored {resumed.scored:,} "
        f"pictures. All {evidence.log2_e_values.numel()} e-values are those of the unbroken run, "
        f"to the bit.",
        f"{int(found.sum())} of {found.numel()} pairs of a class and a place are beyond chance at "
        f"rate 0.05. In the middle lie the objects. The watermarks are {said} pairs of a class "
        f"and one of the four corners:",
        "The other pairs are weak, and true: a corner without the watermark says that the picture "
        "is not of the class that has it, which makes the others likelier. So the table is read "
        "from the top.",
        "The pictures are synthetic, and the watermark is the same in all pictures of a class. "
        "Evidence says that a place tells the class. It does not say whether that is a fault. The "
        "machine is shared, so times vary.",
    )
    scored, memory_of, kill, finds, weak, limits = (textwrap.fill(part, 100) for part in parts)
    tables = "\n".join(rows), "\n".join(strongest[:6])
    return f"""# The evidence of a run

```console
$ OMP_NUM_THREADS=1 python examples/benchmarks/evidence_of_a_run.py --write
```

The machine: {machine()}.

{scored}

## Memory

{memory_of}

| pictures | seconds | growth of the peak, MB |
| --: | --: | --: |
{tables[0]}

## Killed and resumed

{kill}

## What it finds

{finds}

| class and place | evidence, bits | mean bits |
| -- | --: | --: |
{tables[1]}

{weak}

## Limits

{limits}
"""


if __name__ == "__main__":
    main()
