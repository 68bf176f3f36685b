"""Small windows on the two-digit pictures: a network, and a critic fitted to views of it.

Run from the repository's root, e.g.

    python examples/fit_critic.py
    python examples/fit_critic.py --mnist data --target 3 --checkpoint NET --count 500
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
from experiments.two_digit_figure import KeptRow, two_digit_figure
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from two_digits import TEST_PICTURES, TRAIN_PICTURES, accuracy, train

from captum_infomask import (
    ArgumentError,
    FittedCritic,
    InfoMap,
    InfoMask,
    MaxFraction,
    fit_critic,
    threshold_mask,
)
from captum_infomask.critics.random_views import VIEWS
from captum_infomask.datasets import (
    HOLDS_TARGET,
    INK_THRESHOLD,
    TwoDigits,
    mnist,
    sklearn_digits,
    two_digits,
)
from captum_infomask.evaluation.ground_truth import bootstrap, ink_iou
from captum_infomask.models.two_digits import load_two_digit_network

WINDOWS = ((7, 2), (10, 2), (20, 4))  # sides and strides, in pixels
SHOWN_BY = {"keep": "windows", "drop": "rest", "crop": "crops"}
OVERLAPS = ("mean", "mixture", "max")
SMALLEST_CROP = 8  # the network halves a picture's sides three times


@dataclasses.dataclass(frozen=True)
class Measured:
    """One setting, before and after the fit: maps in the order of the pictures."""

    view: str
    window: str
    reference: str
    before: InfoMap
    after: InfoMap


def fit(network: nn.Module, pictures: TwoDigits, options: argparse.Namespace) -> FittedCritic:
    """Fit a critic to the pictures that the network was trained on; labels are not needed."""
    return fit_critic(
        network,
        DataLoader(TensorDataset(pictures.images), batch_size=64),
        views=options.views,
        window_shapes=options.sizes,
        crop_size="native",
        steps=options.steps,
        learning_rate=options.learning_rate,
        seed=options.seed,
        checkpoint=options.resume,
        show_progress=sys.stderr.isatty(),
    )


def measure(
    network: nn.Module, critic: nn.Module, pictures: TwoDigits, views: Sequence[str]
) -> list[Measured]:
    """Score every view that was fitted, with every window, by the network and by the critic."""
    found = []
    for view, (side, stride) in itertools.product(SHOWN_BY, WINDOWS):
        if SHOWN_BY[view] not in views or (view == "crop" and side < SMALLEST_CROP):
            continue
        before, after = (
            InfoMask(model).score_regions(
                pictures.images,
                target=HOLDS_TARGET,
                view=view,
                sliding_window_shapes=(1, side, side),
                strides=(1, stride, stride),
                crop_size="native" if view == "crop" else None,
                reference=None if view == "drop" else "blank",
            )
            for model in (network, critic)
        )
        window = f"{side}/{stride}"
        if before.blank is None:
            found.append(Measured(view, window, "–", before, after))
            continue
        found.append(Measured(view, window, "blank", before, after))
        found.append(Measured(view, window, "prior", from_prior(before), from_prior(after)))
    return found


def from_prior(infomap: InfoMap) -> InfoMap:
    """The map that counts from the prior, without running the network again."""
    return dataclasses.replace(infomap, scores=infomap.scores + infomap.blank, blank=None)


def kept_iou(infomap: InfoMap, pictures: TwoDigits, overlap: str) -> tuple[Tensor, Tensor]:
    """The 20%-of-maximum masks, and the ink IoU of each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The mask of example")  # they count as an IoU of 0
        masks = threshold_mask(
            dataclasses.replace(infomap, overlap=overlap).attributions(), MaxFraction(0.2)
        )
    return masks, ink_iou(masks, pictures.images > INK_THRESHOLD, pictures.ink)


def table(found: Sequence[Measured], pictures: TwoDigits) -> str:
    """Ink IoU before and after, counted from the blank, for the mean over windows."""
    lines = ["| view | windows | ink IoU before | ink IoU after |", "|---|---|---|---|"]
    for row in found:
        if row.reference != "prior":
            before, after = (
                bootstrap(kept_iou(infomap, pictures, "mean")[1])
                for infomap in (row.before, row.after)
            )
            lines.append(f"| {row.view} | {row.window} | {before} | {after} |")
    return "\n".join(lines)


def settings_table(found: Sequence[Measured], pictures: TwoDigits) -> str:
    """The critic's mean ink IoU for every reference and every rule for windows that overlap."""
    lines = [f"| view | windows | reference | {' | '.join(OVERLAPS)} |", "|---" * 6 + "|"]
    for row in found:
        cells = [f"{kept_iou(row.after, pictures, rule)[1].mean():.3f}" for rule in OVERLAPS]
        lines.append(f"| {row.view} | {row.window} | {row.reference} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(found: Sequence[Measured], pictures: TwoDigits, title: str) -> Figure:
    """What the masks of the smallest windows keep of six pictures, before and after."""
    rows = []
    for row in found:
        if row.view == "keep" and row.window != "20/4" and row.reference == "blank":
            for name, infomap in (("network", row.before), ("critic", row.after)):
                masks, iou = kept_iou(infomap, pictures, "mean")
                label = f"{row.window.split('/')[0]} pixels, {name}"
                rows.append(KeptRow(label, f"ink IoU {iou.mean():.3f}", masks[:6, 0].numpy()))
    return two_digit_figure(pictures.images[:6, 0].numpy(), rows, title=title)[0]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", metavar="ROOT", help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--target", type=int, default=0, choices=range(10))
    parser.add_argument("--checkpoint", metavar="NET", help="a network of examples/two_digits.py")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS[:3])
    parser.add_argument("--sizes", nargs="+", type=int, default=[7, 10, 14, 20], help="in pixels")
    parser.add_argument("--steps", type=int, default=3000, help="of the fit, 64 views each")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="two-digit test pictures to mask")
    parser.add_argument("--resume", metavar="PATH", help="keep the state of the fit here")
    parser.add_argument("--out", type=Path, default=Path("build/fit_critic"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    options = parse(arguments)
    try:
        parts = [
            sklearn_digits(part) if options.mnist is None else mnist(options.mnist, part)
            for part in (True, False)
        ]
        trained_on, tested_on = (
            two_digits(*part, target=options.target, count=count, seed=place)
            for place, (part, count) in enumerate(
                zip(parts, (TRAIN_PICTURES, TEST_PICTURES), strict=True)
            )
        )
        packaged = options.mnist is None and options.target == 0
        if options.checkpoint is not None or packaged:
            network = load_two_digit_network(options.checkpoint)
        else:
            network = train(trained_on, steps=1000, seed=0)
        start = time.perf_counter()
        critic = fit(network, trained_on, options)
    except ArgumentError as error:
        sys.exit(f"error: {error}")
    report = [
        f"Target {options.target}: fitted in {time.perf_counter() - start:.0f} s on "
        f"{torch.get_num_threads()} threads; accuracy on {TEST_PICTURES} test pictures "
        f"{accuracy(network, tested_on):.4f} before, {accuracy(critic, tested_on):.4f} after.",
        f"```text\n{critic.report}\n```",
    ]
    print("\n\n".join(report), flush=True)
    pictures = tested_on.holding_target_beside_another()
    pictures = pictures.select(torch.arange(min(options.count, len(pictures.images))))
    found = measure(network, critic, pictures, options.views)
    tables = [table(found, pictures), settings_table(found, pictures)]
    print("\n".join(["", tables[0], "", tables[1]]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"fit_critic_{options.target}"
    (options.out / f"{name}.md").write_text("\n\n".join([*report, *tables]) + "\n", "utf-8")
    critic.save(options.out / f"{name}.safetensors")
    if "windows" in options.views:
        title = f"Does the picture hold a {options.target}? What masks of small windows keep"
        draw(found, pictures, title).savefig(options.out / f"{name}.png", dpi=150)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
