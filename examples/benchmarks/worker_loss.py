# What losing workers costs a run on a cluster, and which shard_size it asks for: a simulation.
#
#     python examples/benchmarks/worker_loss.py --table worker_loss.md --figure worker_loss.png
#
# A shard that is lost is done again from its beginning, so long shards lose more; short ones pay
# more for what each shard costs its worker and the process that hands them out; and at the end,
# workers wait for the last shard.
from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from worker_loss_cases import LOSSES, SIZES, Case, done_twice, often, run_case, select
from worker_loss_figure import draw
from worker_loss_simulation import Cluster

IMAGENET = 1_281_167


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    clusters = [
        Cluster(workers, each, options.replacement, dispatch=options.dispatch)
        for workers in options.workers
        for each in LOSSES
    ]
    cases = [
        run_case(
            cluster, size, options.pictures, options.seconds, options.shard_cost, options.seeds
        )
        for cluster in clusters
        for size in SIZES
    ]
    text = tables(options, cases)
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8")
    if options.figure:
        draw(cases, options.figure)


def tables(options: Namespace, cases: Sequence[Case]) -> str:
    """What was found, in Markdown."""
    intro = (
        f"{options.pictures:,} pictures of {options.seconds:g} s; a shard costs its worker "
        f"{options.shard_cost:g} s more, and the process that hands out shards "
        f"{options.dispatch:g} s; {options.replacement:g} s until a lost worker is replaced; "
        f"medians of {options.seeds} seeds."
    )
    parts = [intro]
    for workers in options.workers:
        own = select(cases, workers)
        parts += [
            f"Wall time beyond the best ({own[0].best / 3600:.2f} h) on {workers:,} workers, where "
            f"each is lost",
            _table(
                ("shard_size", *map(often, LOSSES)),
                ((f"{size}", *_overheads(select(own, size=size))) for size in SIZES),
            ),
        ]
    parts += [
        "The shard_size with the least wall time, and what it takes beyond the best",
        _table(
            ("workers", *map(often, LOSSES)),
            (
                (f"{workers:,}", *(_best(select(cases, workers, each)) for each in LOSSES))
                for workers in options.workers
            ),
        ),
        "Work done twice, as a share of the work, and the closed form",
        _table(
            ("shard_size", *map(often, LOSSES[1:])),
            (
                (f"{size}", *(_twice(*done_twice(cases, each, size)) for each in LOSSES[1:]))
                for size in SIZES
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _overheads(cases: Sequence[Case]) -> list[str]:
    return [f"{case.overhead():.1%}" for case in cases]


def _best(cases: Sequence[Case]) -> str:
    best = min(cases, key=Case.overhead)
    return f"{best.size} ({best.overhead():.1%})"


def _twice(simulated: float, expected: float) -> str:
    return f"{simulated:.3%} ({expected:.3%})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["--:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parsed(arguments: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description="Simulate runs whose workers are lost.")
    parser.add_argument("--pictures", type=int, default=IMAGENET)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a picture on a worker")
    parser.add_argument("--shard-cost", type=float, default=0.1, help="a worker's seconds")
    parser.add_argument("--dispatch", type=float, default=0.01, help="seconds of handing one out")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--replacement", type=float, default=120.0, help="seconds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", type=Path, help="file of the tables")
    parser.add_argument("--figure", type=Path, help="file of the figure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
