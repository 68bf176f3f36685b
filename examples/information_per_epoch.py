"""Watch label information flow into a network's outputs, epoch by epoch (the paper's Figure 1).

Two networks learn digits: one by softmax cross-entropy, one by squared error on one-hot outputs.
Run from the repository's root, e.g.

    python examples/information_per_epoch.py --out build/information_per_epoch
    python examples/information_per_epoch.py --mnist data --download --epochs 8 --seeds 3
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from tqdm import tqdm

from captum_infomask import ArgumentError, ConditionalMutualInformation
from captum_infomask.datasets import mnist, sklearn_digits

CLASSES = 10
CEILING = math.log2(CLASSES)
# What one-hot outputs, read as logits, can say at most: log2(e / (e + 9)) + log2(10).
ONE_HOT_CEILING = CEILING - math.log2(1 + (CLASSES - 1) / math.e)
TEMPERATURES = [2 ** (-k / 4) for k in range(29)]  # from 1 down to 1/128

LOSSES = {
    "cross-entropy": F.cross_entropy,
    "squared error": lambda outputs, y: F.mse_loss(outputs, F.one_hot(y, CLASSES).float()),
}
FITTED = "squared error, fitted τ"
GREY = "#69707a"
COLOURS = {"cross-entropy": "#1f5fa8", "squared error": "#c4571b", FITTED: "#3c8a4e"}

Digits = tuple[Tensor, Tensor]


def network() -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def metrics() -> MetricCollection:
    """Bits at every temperature, and accuracy, from one pass."""
    bits = {
        f"bits {place}": ConditionalMutualInformation(temperature=temperature)
        for place, temperature in enumerate(TEMPERATURES)
    }
    accuracy = MulticlassAccuracy(CLASSES, average="micro")
    return MetricCollection({**bits, "accuracy": accuracy})


@torch.no_grad()
def measure(model: nn.Module, digits: Digits) -> tuple[Tensor, float]:
    """Return one pass' bits at every temperature, and its accuracy."""
    watched = metrics()
    for images, labels in zip(*(part.split(1000) for part in digits), strict=True):
        watched.update(model(images), labels)
    found = watched.compute()
    bits = torch.stack([found[f"bits {place}"] for place in range(len(TEMPERATURES))])
    return bits, found["accuracy"].item()


def watch(loss: str, seed: int, train: Digits, test: Digits, epochs: int) -> dict[str, Tensor]:
    """Train one network.

    Returns:
        For each way to read the outputs, (epochs + 1, 4): bits and accuracy on the training pass,
        bits and accuracy on the validation pass; the untrained network first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        readings: dict[str, list[list[float]]] = {loss: []}
        if loss == "squared error":
            readings[FITTED] = []
        for epoch in range(epochs + 1):
            if epoch > 0:
                for chosen in torch.randperm(len(train[1])).split(64):
                    optimiser.zero_grad()
                    LOSSES[loss](model(train[0][chosen]), train[1][chosen]).backward()
                    optimiser.step()
            (seen, right), (unseen, unseen_right) = measure(model, train), measure(model, test)
            for name, rows in readings.items():
                # The temperature is fitted on the training pass only; the first of them is 1.
                place = int(seen.argmax()) if name == FITTED else 0
                rows.append([seen[place].item(), right, unseen[place].item(), unseen_right])
    return {name: torch.tensor(rows) for name, rows in readings.items()}


def table(curves: dict[str, Tensor]) -> str:
    """Write the last epoch: means over seeds, with the smallest and the largest."""
    lines = [
        "| training, reading | bits, training | bits, validation | accuracy, training "
        "| accuracy, validation |",
        "|---|---|---|---|---|",
    ]
    for name, values in curves.items():
        last = values[:, -1]
        cells = (
            f"{last[:, k].mean():.{places}f} "
            f"[{last[:, k].min():.{places}f}, {last[:, k].max():.{places}f}]"
            for k, places in ((0, 2), (2, 2), (1, 3), (3, 3))
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(curves: dict[str, Tensor], title: str) -> Figure:
    """Bits above, accuracy below, over the same epochs; bands reach over all seeds."""
    figure = Figure(figsize=(7.2, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for name, values in curves.items():
        _band(above, values[..., 0], values[..., 2], name)
        if name in LOSSES:
            _band(below, values[..., 1], values[..., 3], name)
    for height, words in (
        (CEILING, f"log₂ {CLASSES} = {CEILING:.2f}: all there is to know"),
        (ONE_HOT_CEILING, f"perfect one-hot outputs, read as logits: {ONE_HOT_CEILING:.2f}"),
    ):
        above.axhline(height, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        above.annotate(
            words,
            (1, height),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=GREY,
        )
    above.set_ylim(top=CEILING + 0.35)
    above.set_ylabel("information about the label (bits)")
    below.set_ylabel("accuracy")
    below.set_xlabel("epochs")
    below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlim(0, next(iter(curves.values())).shape[1] - 1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e7ec", linewidth=0.6)
    above.legend(
        framealpha=1, edgecolor="white", fontsize=9, loc="center right", bbox_to_anchor=(1, 0.6)
    )
    lines = [
        Line2D([], [], color=GREY, linewidth=1.8, label="validation, band over all seeds"),
        Line2D([], [], color=GREY, linewidth=1, linestyle="--", label="training"),
    ]
    below.legend(handles=lines, framealpha=1, edgecolor="white", fontsize=9, loc="center right")
    above.set_title(title, fontsize=11, loc="left")
    return figure


def _band(axes: Axes, seen: Tensor, unseen: Tensor, name: str) -> None:
    """Means over seeds, dashed for the training pass; the validation pass with all its seeds."""
    epochs, colour = range(seen.shape[1]), COLOURS[name]
    axes.plot(epochs, seen.mean(0), color=colour, linewidth=1, linestyle="--")
    axes.plot(epochs, unseen.mean(0), color=colour, linewidth=1.8, label=name)
    axes.fill_between(epochs, unseen.amin(0), unseen.amax(0), color=colour, alpha=0.15, lw=0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", metavar="ROOT", help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--download", action="store_true", help="fetch MNIST where it is missing")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5, help="networks per loss")
    parser.add_argument("--out", type=Path, default=Path("build/information_per_epoch"))
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.seeds < 1:
        parser.error("--epochs and --seeds: expected at least 1")
    if options.download and options.mnist is None:
        parser.error("--download: needs --mnist ROOT, the folder to download to")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, write it and the figure."""
    options = parse(arguments)
    try:
        train, test = (
            sklearn_digits(part)
            if options.mnist is None
            else mnist(options.mnist, part, options.download)
            for part in (True, False)
        )
    except ArgumentError as error:
        sys.exit(f"error: {error}")
    runs = [(loss, seed) for loss in LOSSES for seed in range(options.seeds)]
    found: dict[str, list[Tensor]] = {}
    for loss, seed in tqdm(runs, desc="Networks", disable=not sys.stderr.isatty()):
        for name, values in watch(loss, seed, train, test, options.epochs).items():
            found.setdefault(name, []).append(values)
    curves = {name: torch.stack(values) for name, values in found.items()}
    written = table(curves)
    print(written)
    data = "scikit-learn's digits" if options.mnist is None else "MNIST"
    figure = draw(curves, f"What the outputs tell about the label: {data}, {options.seeds} seeds")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "information_per_epoch.md").write_text(written + "\n", encoding="utf-8")
    figure.savefig(options.out / "information_per_epoch.png", dpi=150)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
