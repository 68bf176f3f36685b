# What removing tokens saves on ViT-B/16, against the network's own forward pass of whole pictures.
#
#     python examples/benchmarks/tokens.py --threads 1
#
# Everything is interleaved in one process; ratios are taken within rounds, of processor time.
from __future__ import annotations

import argparse

import torch
from interleave import Call, by_clock, interleaved, spread
from machine import machine
from networks import network
from torch import Tensor, nn

from captum_infomask import InfoMask, grid, sliding_windows
from captum_infomask.engines import engine_protocol
from captum_infomask.engines.tokens.tokens_engine import Tokens
from captum_infomask.imputers import Constant, RemoveTokens
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.views.region_views import Drop, Keep
from captum_infomask.views.view_plan import Scene, View

CHUNK = 4  # pictures in a plain forward pass
TARGET = 1


def plain(model: nn.Module, x: Tensor) -> Call:
    pictures = x.repeat(CHUNK, 1, 1, 1)
    return lambda: model(pictures)


def views_alone(
    model: nn.Module, x: Tensor, view: View, regions: Regions, imputer: Imputer, chunk: int | None
) -> Call:
    """Every view of a plan, without the whole picture and the blank of a call."""
    plan = view.plan(Scene((x,), regions, imputer.prepare((x,))))
    running = Tokens().start(engine_protocol.Call(model, perturbations_per_eval=chunk))
    return lambda: list(running.run(plan))


def one_call(model: nn.Module, x: Tensor, regions: Regions) -> Call:
    return lambda: InfoMask(model).score_regions(
        x, target=TARGET, view="keep", regions=regions, imputer=RemoveTokens()
    )


@torch.no_grad()
def measured(rounds: int) -> None:
    model, x = network("vit_b_16"), torch.randn(1, 3, 224, 224)
    patches, windows = grid(x, 14, 14), sliding_windows(x, (3, 32, 32), (3, 16, 16))
    half, few = grid(x, 2, 1), grid(x, 7, 1)
    removing = RemoveTokens()
    cases: list[tuple[str, int, Call]] = [
        ("the network's own forward pass", CHUNK, plain(model, x)),
        ("keep, 1 token", 196, views_alone(model, x, Keep(), patches, removing, None)),
        ("keep, 2 × 2 tokens", 169, views_alone(model, x, Keep(), windows, removing, None)),
        *(
            (
                f"  {chunk} views at a time",
                169,
                views_alone(model, x, Keep(), windows, removing, chunk),
            )
            for chunk in (25, 50, 100, 400)
        ),
        ("keep, 7 × 14 tokens", 2, views_alone(model, x, Keep(), half, removing, None)),
        ("drop, 2 × 14 tokens", 7, views_alone(model, x, Drop(), few, removing, None)),
        ("drop, grey pixels", 7, views_alone(model, x, Drop(), few, Constant(0), None)),
        ("a whole call of keep, 2 × 2 tokens", 171, one_call(model, x, windows)),
    ]
    table = by_clock(interleaved([call for _, _, call in cases], rounds), "processor")
    print(f"\nViT-B/16, 224²: ms per view, and how many times faster, {rounds} rounds")
    for (name, views, _), seconds in zip(cases, table, strict=True):
        each = [1000 * second / views for second in seconds]
        ratios = [1000 * a / CHUNK / b for a, b in zip(table[0], each, strict=True)]
        print(f"  {name:36s} {spread(each, 2):24s} {spread(ratios, 2)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the token engine.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine())
    measured(arguments.rounds)


if __name__ == "__main__":
    main()
