# Does the memory of a run over a data set grow with the pictures it has done?
#
#     python examples/benchmarks/run_memory.py --pictures 10000
#
# Resident memory of the process that computes, and of it with the processes that decode (pages that
# they share count once each), sampled while the run goes on; the peak of each quarter of the
# pictures.
from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from digit_pictures import save_two_digits
from machine import machine

from captum_infomask import run_dataset
from captum_infomask.dataset_run.shards import shards_done

EVERY = 0.05  # seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--decoders", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        pictures, out = Path(name, "pictures"), Path(name, "out")
        save_two_digits(pictures, options.pictures)
        samples: list[tuple[int, float, float]] = []
        over = threading.Event()
        watcher = threading.Thread(target=watch, args=(out, samples, over))
        watcher.start()
        try:
            run_dataset(
                pictures,
                "two_digits",
                out,
                workers=options.decoders,
                sliding_window_shapes=(1, 20, 20),
                strides=(1, 8, 8),
            )
        finally:
            over.set()
            watcher.join()
    print(f"{machine()}; {options.pictures} pictures")
    print("\n| quarter | this process, MB | with decoders, MB |\n| -- | --: | --: |")
    last = max(shards for shards, _, _ in samples)
    for quarter in range(4):
        some = [s for s in samples if quarter * last <= 4 * s[0] < (quarter + 1) * last]
        own, together = max(s[1] for s in some), max(s[2] for s in some)
        print(f"| {quarter + 1} | {own / 1e6:.1f} | {together / 1e6:.1f} |")


def watch(out: Path, samples: list[tuple[int, float, float]], over: threading.Event) -> None:
    """Note shards done and resident bytes, from the first shard on."""
    while not over.wait(EVERY):
        done = len(shards_done(out)) if out.is_dir() else 0
        if done:
            own = resident(os.getpid())
            samples.append((done, own, own + sum(map(resident, children(os.getpid())))))


def resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


if __name__ == "__main__":
    main()
