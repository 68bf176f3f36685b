# A run over a data set on this machine: the local engine, and Ray with one worker and with more.
#
#     python examples/benchmarks/ray_scaling.py --pictures 2000 --rounds 5 --json ray_scaling.json
#
# Start-up is left out: processes start and workers warm up while the first quarter of the shards
# is computed. What counts is the pictures finished after it ÷ the seconds from its end to the
# end of the last shard, by the times at which the shards' files were written. The end of a run,
# where a worker may wait for another's last shard, counts. Engines take turns, in an order that
# turns around every round, and ratios are taken within rounds. All must give the same bits.
from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from digit_pictures import save_two_digits
from interleave import spread
from machine import machine

from captum_infomask import load_run, run_dataset

LOCAL = "local"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    engines = [LOCAL, *(f"ray, {k} worker{'s' * (k > 1)}" for k in options.workers)]
    workers = dict(zip(engines, [None, *options.workers], strict=True))
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        pictures = Path(name, "pictures")
        save_two_digits(pictures, options.pictures)
        for turn in range(options.rounds):
            order = engines if turn % 2 == 0 else engines[::-1]
            found: dict[str, tuple[dict[str, float], pa.Table]] = {}
            for engine in order:
                found[engine] = measure(options, pictures, Path(name, f"{turn}"), workers[engine])
                print(f"round {turn + 1}, {engine}: {json.dumps(found[engine][0])}", flush=True)
            if not all(rows.equals(found[LOCAL][1]) for _, rows in found.values()):
                raise SystemExit("The engines' numbers differ.")
            rounds.append({engine: found[engine][0] for engine in engines})
    about = (
        f"{machine()}, ray {ray.__version__}; {options.pictures} pictures, shards of "
        f"{options.shard_size}, {options.rounds} rounds: median [range]"
    )
    print(f"\n{about}\n\n{table(rounds)}")
    if options.json:
        record = {"about": about, "rounds": rounds}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(
    options: Namespace, pictures: Path, folder: Path, workers: int | None
) -> tuple[dict[str, float], pa.Table]:
    """One run, on Ray if there are workers: its speed, its start-up, and its rows."""
    out = folder / f"{workers}"
    engine: Any = LOCAL if workers is None else "ray"
    start = time.time()
    run_dataset(
        pictures, "two_digits", out, engine=engine, workers=workers, shard_size=options.shard_size
    )
    ends = sorted(os.stat(file).st_mtime for file in out.glob("part-*.parquet"))
    skipped = math.ceil(len(ends) / 4)
    # The last shard may hold fewer pictures, and may not be the last to end: one shard in all.
    counted = options.pictures - skipped * options.shard_size
    speed = counted / (ends[-1] - ends[skipped - 1])
    rows = load_run(out).table.drop_columns(["seconds"])
    return {"pictures per second": speed, "seconds to the first shard": ends[0] - start}, rows


def table(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    lines = [
        "| engine | pictures/s | ratio to local | seconds to the first shard |",
        "| --- | ---: | ---: | ---: |",
    ]
    for engine in rounds[0]:
        speeds = [found[engine]["pictures per second"] for found in rounds]
        locals_ = [found[LOCAL]["pictures per second"] for found in rounds]
        ratios = [speed / local for speed, local in zip(speeds, locals_, strict=True)]
        firsts = [found[engine]["seconds to the first shard"] for found in rounds]
        cells = (engine, spread(speeds, 1), spread(ratios, 2), spread(firsts, 1))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parsed(arguments: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description="Compare the engines of data set runs.")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=32, help="pictures")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="of Ray")
    parser.add_argument("--threads", type=int, default=2, help="of the local engine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file of what was measured")
    options = parser.parse_args(arguments)
    if options.pictures < 4 * options.shard_size:
        parser.error("--pictures: at least four shards")
    return options


if __name__ == "__main__":
    main()
