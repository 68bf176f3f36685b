"""How far are a trained network's bits from the truth, before and after calibration and fitting?

Pictures of independent patches, whose information is known in closed form (docs/calibration.md).
Run from the repository's root, e.g.

    python examples/known_truth.py --out build/known_truth
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from captum_infomask import FittedTemperature, InfoMask, fit_critic, fit_temperature, grid
from captum_infomask.datasets import CategoricalPatches, IndependentPatches
from captum_infomask.evaluation.ground_truth import bootstrap

SIDE, ROWS, COLUMNS, CLASSES = 4, 2, 3, 6
VIEWS = {
    "crop": {"view": "crop", "crop_size": "native"},
    "keep": {"view": "keep"},
    "drop": {"view": "drop"},
    "chain": {"view": "chain", "n_samples": 720},  # all orders of six patches
}
# Name, training pictures, training steps.
NETWORKS = (("20,000 pictures", 20_000, 3000), ("1,000 pictures, for too long", 1000, 3000))
HELD_OUT, UNLABELLED = 2000, 20_000


@dataclass(frozen=True)
class Row:
    """Errors of one way of reading the bits: the distance to the closed form, in bits.

    Attributes:
        name: What was done to the network.
        errors: Mean over an image's patches, (N,), for each view; ``total`` for whole images.
        scores: What was read, (N, R), for each view.
    """

    name: str
    errors: dict[str, Tensor]
    scores: dict[str, Tensor]


def pictures_of_symbols() -> IndependentPatches:
    """Six classes, 2 × 3 patches, each one of eight symbols; one distribution in all places."""
    patches = CategoricalPatches.random(classes=CLASSES, alphabet=8, side=SIDE, strength=1.2)
    return IndependentPatches(patches, ROWS, COLUMNS)


def small_network() -> nn.Sequential:
    """A small CNN that takes pictures of any size."""
    return nn.Sequential(
        nn.Conv2d(1, 128, SIDE, stride=SIDE),
        nn.ReLU(),
        nn.Conv2d(128, 128, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )


def train(images: Tensor, labels: Tensor, *, steps: int, seed: int = 0) -> nn.Sequential:
    """Fit the network by softmax cross-entropy; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = small_network().train()
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in tqdm(range(steps), desc="Training", disable=not sys.stderr.isatty()):
            chosen = torch.randint(len(images), (128,))
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def closed_form(pictures: IndependentPatches, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The exact information in bits: (N, R) for each view, and (N, 1) for whole images."""
    exact = {view: pictures.information(images, labels, view) for view in VIEWS}
    return exact | {"total": pictures.total(images, labels)[:, None]}


def row_of(name: str, scores: dict[str, Tensor], exact: dict[str, Tensor]) -> Row:
    """Errors of scores against the closed form."""
    errors = {view: (scores[view] - exact[view]).abs().mean(1) for view in exact}
    return Row(name, errors, scores)


def read_bits(
    name: str,
    network: nn.Module,
    temperature: FittedTemperature | float,
    images: Tensor,
    labels: Tensor,
    exact: dict[str, Tensor],
) -> Row:
    """Read every view's information off a network."""
    infomask = InfoMask(network, temperature=temperature)
    regions = grid(images, ROWS, COLUMNS)
    maps = {
        view: infomask.score_regions(images, target=labels, regions=regions, **options)
        for view, options in VIEWS.items()
    }
    scores = {view: infomap.scores.double() for view, infomap in maps.items()}
    scores["total"] = maps["keep"].total[:, None].double()
    return row_of(name, scores, exact)


def fitted_rows(
    network: nn.Module,
    held_out: tuple[Tensor, Tensor],
    unlabelled: Tensor,
    test: tuple[Tensor, Tensor],
    exact: dict[str, Tensor],
    steps: int,
) -> tuple[list[Row], FittedTemperature]:
    """The network as it is, with a temperature, with a fitted critic, and with both."""
    fitted = fit_temperature(network, [held_out])
    loader = DataLoader(TensorDataset(unlabelled), batch_size=128, shuffle=True)
    critics = [
        fit_critic(
            network,
            loader,
            held_out=[held_out],
            window_shapes=[SIDE],
            strides=SIDE,
            crop_size="native",
            temperature=temperature,
            steps=steps,
            show_progress=sys.stderr.isatty(),
        )
        for temperature in (1.0, fitted)
    ]
    readings = (
        ("as trained", network, 1.0),
        (f"fit_temperature: τ = {float(fitted):.2f}", network, fitted),
        ("fit_critic", critics[0], 1.0),
        ("fit_temperature, then fit_critic", critics[1], 1.0),
    )
    return [read_bits(*reading, *test, exact) for reading in readings], fitted


def control_rows(
    pictures: IndependentPatches, images: Tensor, labels: Tensor, exact: dict[str, Tensor]
) -> list[Row]:
    """What needs no training: the optimal network, nothing at all, and equal shares of i(y; x)."""
    count = ROWS * COLUMNS
    nothing = {view: torch.zeros_like(values) for view, values in exact.items()}
    shares = {view: (exact["total"] / count).expand(-1, count) for view in VIEWS}
    return [
        read_bits("Bayes-optimal network", pictures.network(), 1.0, images, labels, exact),
        row_of("control: 0 bits everywhere", nothing, exact),
        row_of("control: the exact i(y; x) / 6", shares | {"total": exact["total"]}, exact),
    ]


def table(rows: Sequence[Row]) -> str:
    """Mean absolute errors with 95% bootstrap intervals over images."""
    views = [*VIEWS, "total"]
    lines = [
        "| | " + " | ".join(f"`{view}`" if view in VIEWS else "i(y; x)" for view in views) + " |",
        "|---" * (len(views) + 1) + "|",
    ]
    for row in rows:
        cells = " | ".join(str(bootstrap(row.errors[view])) for view in views)
        lines.append(f"| {row.name} | {cells} |")
    return "\n".join(lines)


def scatter(rows: Sequence[Row], exact: dict[str, Tensor]) -> Figure:
    """The closed form against the network: a row per reading, a column per view."""
    figure = Figure(figsize=(9.6, 2.4 * len(rows) + 0.5), facecolor="white", layout="compressed")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), len(VIEWS), squeeze=False, sharex=True, sharey=True)
    low = min(float(exact[view].min()) for view in VIEWS) - 1.0
    high = max(float(exact[view].max()) for view in VIEWS) + 1.0
    for row, line in zip(rows, panels, strict=True):
        for axes, view in zip(line, VIEWS, strict=True):
            x, y = exact[view].flatten().numpy(), row.scores[view].flatten().numpy()
            off = (y < low) | (y > high)
            axes.plot([low, high], [low, high], color="#1b1f24", linewidth=0.8)
            style = {"s": 6, "alpha": 0.25, "linewidths": 0, "zorder": 2}
            axes.scatter(x[~off], y[~off], color="#3d6fb0", **style)
            axes.scatter(
                x[off],
                np.clip(y[off], low, high),
                color="#c4553b",
                marker="D",
                clip_on=False,
                **style,
            )
            words = f"error {row.errors[view].mean():.2f} bits"
            if off.any():
                words += f"\n{off.sum()} of {off.size} beyond"
            axes.text(0.04, 0.96, words, transform=axes.transAxes, fontsize=8.5, va="top")
            axes.set_xlim(low, high)
            axes.set_ylim(low, high)
            axes.set_aspect("equal")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=2, labelsize=8.5, color="#69707a")
            axes.xaxis.set_major_locator(MultipleLocator(2))
            axes.yaxis.set_major_locator(MultipleLocator(2))
        line[0].set_ylabel(f"{row.name}\nread, bits", fontsize=9)
    for axes, view in zip(panels[0], VIEWS, strict=True):
        axes.set_title(view, fontsize=11, loc="left", color="#1b1f24")
    for axes in panels[-1]:
        axes.set_xlabel("closed form, bits", fontsize=9)
    return figure


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400, help="test pictures")
    parser.add_argument("--steps", type=int, default=3000, help="fit_critic's steps of 128")
    parser.add_argument("--out", type=Path, default=Path("build/known_truth"))
    options = parser.parse_args(arguments)
    if options.count < 1 or options.steps < 1:
        parser.error("--count and --steps: expected at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of_symbols()
    held_out = pictures.draw(HELD_OUT, seed=2)
    test = pictures.draw(options.count, seed=3)
    unlabelled, _ = pictures.draw(UNLABELLED, seed=4)
    exact = closed_form(pictures, *test)
    report = [table(control_rows(pictures, *test, exact))]
    print(report[0], flush=True)
    for number, (name, count, steps) in enumerate(NETWORKS):
        start = time.perf_counter()
        network = train(*pictures.draw(count, seed=1), steps=steps)
        seconds = time.perf_counter() - start
        rows, fitted = fitted_rows(network, held_out, unlabelled, test, exact, options.steps)
        with torch.no_grad():
            right = (network(held_out[0]).argmax(1) == held_out[1]).float().mean()
            best = (pictures.network()(held_out[0]).argmax(1) == held_out[1]).float().mean()
        report += [
            f"{name}: accuracy {right:.3f} (optimal {best:.3f}), {seconds:.0f} s of training, "
            f"{time.perf_counter() - start:.0f} s in all; {fitted}",
            table(rows),
        ]
        print("\n\n".join(report[-2:]), flush=True)
        scatter([rows[0], rows[-1]], exact).savefig(options.out / f"scatter_{number}.png", dpi=130)
        fitted.figure()[0].savefig(options.out / f"reliability_{number}.png", dpi=130)
    (options.out / "known_truth.md").write_text("\n\n".join(report) + "\n", encoding="utf-8")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
