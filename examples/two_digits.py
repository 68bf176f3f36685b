"""The paper's two-digit experiment: train, mask, compare, and draw its Figure 2.

Run from the repository's root, e.g.

    python examples/two_digits.py --out build/two_digits
    python examples/two_digits.py --mnist data --download --target all --defaults
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from experiments.two_digit_experiment import (
    TwoDigitRow,
    draw_two_digits,
    two_digit_experiment,
    two_digit_table,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from captum_infomask import ArgumentError, InfoMask, MaxFraction, threshold_mask
from captum_infomask.datasets import (
    HOLDS_TARGET,
    INK_THRESHOLD,
    TwoDigits,
    mnist,
    sklearn_digits,
    two_digits,
)
from captum_infomask.evaluation.ground_truth import ink_iou
from captum_infomask.models.two_digits import load_two_digit_network, two_digit_network

TRAIN_PICTURES = 16_000
TEST_PICTURES = (
    2_000  # for the accuracy; the first --count two-digit ones with the target are masked
)


def train(pictures: TwoDigits, *, steps: int, seed: int) -> nn.Sequential:
    """Fit the two-class network by softmax cross-entropy; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = two_digit_network().train()
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in tqdm(range(steps), desc="Training", disable=not sys.stderr.isatty()):
            chosen = torch.randint(len(pictures.images), (64,))
            loss = F.cross_entropy(network(pictures.images[chosen]), pictures.labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, pictures: TwoDigits) -> float:
    """Share of the pictures for which the network answers right."""
    right = network(pictures.images).argmax(1) == pictures.labels
    return right.float().mean().item()


def defaults_table(network: nn.Module, pictures: TwoDigits) -> str:
    """Ink IoU for every way in which values of overlapping windows can be counted and combined."""
    lines = [
        "| view | windows | reference | mean | mixture | max | mean of positive parts |",
        "|---|---|---|---|---|---|---|",
    ]
    views: list[tuple[str, dict[str, object], Sequence[str | None]]] = [
        ("crop, native", {"view": "crop", "crop_size": "native"}, ("prior", "blank")),
        ("crop, 28 × 56", {"view": "crop"}, ("prior", "blank")),
        ("keep", {"view": "keep"}, ("prior", "blank")),
        ("drop", {"view": "drop"}, (None,)),
    ]
    for (window, stride), (name, view, references) in itertools.product(((20, 4), (10, 2)), views):
        for reference in references:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "More than half of the regions")  # the table says
                infomap = InfoMask(network).score_regions(
                    pictures.images,
                    target=HOLDS_TARGET,
                    sliding_window_shapes=(1, window, window),
                    strides=(1, stride, stride),
                    reference=reference,
                    **view,
                )
            maps = [
                dataclasses.replace(infomap, overlap=overlap)
                for overlap in ("mean", "mixture", "max")
            ]
            maps.append(dataclasses.replace(infomap, scores=infomap.scores.clamp_min(0)))
            cells = " | ".join(_iou_cell(made.attributions(), pictures) for made in maps)
            lines.append(f"| {name} | {window}/{stride} | {reference or '–'} | {cells} |")
    return "\n".join(lines)


def _iou_cell(attributions: Tensor, pictures: TwoDigits) -> str:
    """Mean ink IoU of the 20%-of-maximum masks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The mask of example")  # they count as an IoU of 0
        masks = threshold_mask(attributions, MaxFraction(0.2))
    found = ink_iou(masks, pictures.images > INK_THRESHOLD, pictures.ink)
    return f"{found.mean():.3f}"


def targets_table(results: dict[int, list[TwoDigitRow]]) -> str:
    """Mean ink IoU: a row per method, a column per target."""
    lines = [
        "| ink IoU | " + " | ".join(f"{target}" for target in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for same in zip(*results.values(), strict=True):
        cells = " | ".join(f"{row.ink_iou.mean():.3f}" for row in same)
        lines.append(f"| {same[0].method} | {cells} |")
    return "\n".join(lines)


def pooled(results: dict[int, list[TwoDigitRow]]) -> list[TwoDigitRow]:
    """The rows of all targets' pictures together."""
    rows = []
    for same in zip(*results.values(), strict=True):
        tensors = {
            field.name: torch.cat([getattr(row, field.name) for row in same])
            for field in dataclasses.fields(TwoDigitRow)
            if field.type == "Tensor"
        }
        seconds = sum(row.seconds for row in same)
        rows.append(dataclasses.replace(same[0], seconds=seconds, **tensors))
    return rows


def prepare(
    options: argparse.Namespace, target: int, pictures: TwoDigits
) -> tuple[nn.Sequential, str]:
    """Load or train (and save) the network for a target; say which."""
    if options.checkpoint is not None:
        path = options.checkpoint.format(target=target)
        return load_two_digit_network(path), f"network of {Path(path).name}"
    start = time.perf_counter()
    network = train(pictures, steps=options.steps, seed=options.seed)
    origin = f"trained in {time.perf_counter() - start:.0f} s"
    if options.save_checkpoint is not None:
        save_file(network.state_dict(), options.save_checkpoint.format(target=target))
    return network, origin


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", metavar="ROOT", help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--download", action="store_true", help="fetch MNIST where it is missing")
    parser.add_argument("--target", default="0", help="the digit asked about, or 'all'")
    parser.add_argument("--count", type=int, default=100, help="two-digit pictures to mask")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 64 pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defaults", action="store_true", help="measure overlap and reference too")
    parser.add_argument("--out", type=Path, default=Path("build/two_digits"))
    parser.add_argument(
        "--save-checkpoint", metavar="PATH", help="{target} in it becomes the digit, for 'all'"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="what --save-checkpoint wrote, instead of training"
    )
    options = parser.parse_args(arguments)
    if options.target not in {"all", *map(str, range(10))}:
        parser.error(f"--target: expected 0 to 9 or 'all', got {options.target!r}")
    if options.count < 1 or options.steps < 1:
        parser.error("--count and --steps: expected at least 1")
    if options.download and options.mnist is None:
        parser.error("--download: needs --mnist ROOT, the folder to download to")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    options = parse(arguments)
    try:
        parts = [
            sklearn_digits(train)
            if options.mnist is None
            else mnist(options.mnist, train, options.download)
            for train in (True, False)
        ]
    except ArgumentError as error:
        sys.exit(f"error: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[int, list[TwoDigitRow]] = {}
    report = []
    for target in range(10) if options.target == "all" else [int(options.target)]:
        trained_on, tested_on = (
            two_digits(*part, target=target, count=count, seed=options.seed + place)
            for place, (part, count) in enumerate(
                zip(parts, (TRAIN_PICTURES, TEST_PICTURES), strict=True)
            )
        )
        network, origin = prepare(options, target, trained_on)
        report.append(
            f"Target {target}: {origin}, accuracy {accuracy(network, tested_on):.4f} "
            f"on {TEST_PICTURES} test pictures."
        )
        print(report[-1], flush=True)
        candidates = tested_on.holding_target_beside_another()
        pictures = candidates.select(torch.arange(min(options.count, len(candidates.images))))
        results[target] = two_digit_experiment(network, pictures)
        report.append(two_digit_table(results[target]))
        if options.defaults:
            report.append(defaults_table(network, pictures))
        print("\n\n".join(report[-1 - options.defaults :]), flush=True)
        title = f"Does the picture hold a {target}? What each mask keeps"
        figure, _ = draw_two_digits(pictures, results[target], title=title)
        figure.savefig(options.out / f"two_digits_{target}.png", dpi=150)
    if len(results) > 1:
        report += [targets_table(results), two_digit_table(pooled(results))]
        print("\n\n".join(report[-2:]))
    (options.out / "two_digits.md").write_text("\n\n".join(report) + "\n", encoding="utf-8")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
