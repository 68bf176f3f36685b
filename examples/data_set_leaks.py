"""What a data set gives away: a mark in a corner, the size of pictures, and nothing at all.

Adds up the evidence of held-out pictures by class and place. Prints the tables of
docs/results/data_set_leaks.md and draws its figure. Run from the repository's root:

    python examples/data_set_leaks.py --out build/data_set_leaks
    python examples/data_set_leaks.py --mnist data --out build/data_set_leaks
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from experiments.leaky_data_sets import (
    BACKGROUND,
    CELL,
    CORNER,
    MARKED,
    Digits,
    answers,
    evidence,
    fit_cells,
    fit_pictures,
    noisy_digits,
    some_of_class,
    with_borders,
    with_marks,
)
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from captum_infomask.datasets import mnist, sklearn_digits
from captum_infomask.results.combined_evidence import CombinedEvidence
from captum_infomask.scores.betting import log2_of_mean

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#69707a"
_LOG2_10 = math.log2(10)


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Args:
        train: Pictures for critics and networks.
        test: Held-out pictures.
        steps: Batches of a critic's training.
        seeds: Data sets and critics for each share of marked pictures.
        repeats: Clean data sets, and data sets with random labels.
    """

    train: int = 10_000
    test: int = 2_000
    steps: int = 1_000
    seeds: int = 5
    repeats: int = 100


def generator(*seeds: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(seed * 1000**k for k, seed in enumerate(seeds)))


def corner(found: CombinedEvidence) -> float:
    """log₁₀ of the e-value of the class and the corner that hold the mark."""
    assert found.classes is not None
    row = found.classes.tolist().index(MARKED)
    return float(found.log2_e_values[row, CORNER]) / _LOG2_10


def in_background(found: CombinedEvidence) -> int:
    """The number of classes and places found where no digit is."""
    return int(found.discoveries(0.05)[:, BACKGROUND].sum())


def leaky(digits: Digits, count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy digits, with the mark in a share of one class."""
    draws = generator(seed, 1)
    x, labels = noisy_digits(digits, count, draws)
    return with_marks(x, some_of_class(labels, share, draws), draws), labels


def curve(train: Digits, test: Digits, sizes: Sizes) -> dict[float, list[CombinedEvidence]]:
    """Evidence for each share of marked pictures: new pictures, and a new critic, for each seed."""
    found: dict[float, list[CombinedEvidence]] = {}
    for share in SHARES:
        for seed in range(sizes.seeds):
            x, labels = leaky(train, sizes.train, share, 2 * seed)
            critic = fit_cells(x, labels, steps=sizes.steps, seed=seed)
            held_out = leaky(test, sizes.test, share, 2 * seed + 1)
            found.setdefault(share, []).append(evidence(critic, *held_out))
    return found


def curve_table(found: dict[float, list[CombinedEvidence]], test: int) -> str:
    rows = [
        "| marked, of the class | of all pictures, about | log₁₀ e: median [range] | corner found "
        "| false background places |",
        "|---|---|---|---|---|",
    ]
    for share, runs in found.items():
        values = sorted(map(corner, runs))
        hits = sum(bool(one.discoveries(0.05)[_row(one), CORNER]) for one in runs)
        false = sum(in_background(one) - _of_the_corner(one) for one in runs)
        rows.append(
            f"| {share:.1%} | {share * test / 10:.0f} of {test:,} | {values[len(values) // 2]:.1f} "
            f"[{values[0]:.1f}, {values[-1]:.1f}] | {hits} of {len(runs)} | {false} |"
        )
    return "\n".join(rows).replace("-", "−").replace("|−−−", "|---")


def known_table(train: Digits, test: Digits, sizes: Sizes) -> str:
    """The same held-out pictures, read by a critic that has learned the mark well."""
    critic = fit_cells(*leaky(train, sizes.train, 0.5, 0), steps=sizes.steps, seed=0)
    lines = ["| marked, of the class | log₁₀ e: median [range] | corner found |", "|---|---|---|"]
    for share in (0.01, 0.02, 0.03, 0.04, 0.05, 0.1):
        runs = [
            evidence(critic, *leaky(test, sizes.test, share, 2 * seed + 1))
            for seed in range(sizes.seeds)
        ]
        values = sorted(map(corner, runs))
        hits = sum(bool(one.discoveries(0.05)[_row(one), CORNER]) for one in runs)
        words = f"{values[len(values) // 2]:.1f} [{values[0]:.1f}, {values[-1]:.1f}]"
        lines.append(f"| {share:.0%} | {words} | {hits} of {len(runs)} |".replace("-", "−"))
    return "\n".join(lines)


def _row(found: CombinedEvidence) -> int:
    assert found.classes is not None
    return found.classes.tolist().index(MARKED)


def _of_the_corner(found: CombinedEvidence) -> int:
    """Classes found at the corner; a mark of one class also says "none of the others"."""
    return int(found.discoveries(0.05)[:, CORNER].sum())


def network_rows(
    critic: nn.Module, train: Digits, test: Digits, sizes: Sizes
) -> list[tuple[str, str, CombinedEvidence]]:
    """Labels and networks' answers, on leaky pictures and on those with marks at random."""
    x, labels = noisy_digits(train, sizes.train, generator(90))
    marked = with_marks(x, some_of_class(labels, 0.2, generator(91)), generator(92))
    held_out, truth = noisy_digits(test, sizes.test, generator(93))
    leaking = with_marks(held_out, some_of_class(truth, 0.2, generator(94)), generator(95))
    at_random = with_marks(
        held_out, torch.rand(len(truth), generator=generator(96)) < 0.3, generator(97)
    )
    to_fit = with_marks(x, torch.rand(len(x), generator=generator(98)) < 0.3, generator(99))
    rows = [
        ("on 20% of the threes", "the labels", evidence(critic, leaking, truth)),
        ("none", "the labels", evidence(critic, held_out, truth)),
        ("on 30%, at random", "the labels", evidence(critic, at_random, truth)),
    ]
    steps = max(sizes.steps // 2, 1)
    for words, shown in (("marked threes", marked), ("no marks", x)):
        network = fit_pictures(shown, labels, steps=steps, seed=0)
        name = f"answers of a network trained with {words}"
        own = fit_cells(to_fit, answers(network, to_fit), steps=sizes.steps, seed=1)
        if shown is marked:
            told = answers(network, leaking)
            rows.append(("on 20% of the threes", name, evidence(critic, leaking, told)))
        rows.append(
            ("on 30%, at random", name, evidence(own, at_random, answers(network, at_random)))
        )
    return rows


def network_table(rows: Sequence[tuple[str, str, CombinedEvidence]]) -> str:
    lines = [
        "| marks in held-out pictures | what is foretold | log₁₀ e of “3” in the corner | found |",
        "|---|---|---|---|",
    ]
    for marks, told, one in rows:
        found = bool(one.discoveries(0.05)[_row(one), CORNER])
        value = f"{corner(one):.1f}".replace("-", "−")
        lines.append(f"| {marks} | {told} | {value} | {'yes' if found else 'no'} |")
    return "\n".join(lines)


def border_table(train: Digits, test: Digits, sizes: Sizes) -> str:
    """Two sizes of pictures, padded to one, that go with the class or do not."""
    lines = [
        "| small pictures among the digits 0–4 : 5–9 | background places found, of 16 "
        "| log₁₀ e by place: median of the 16 | smallest |",
        "|---|---|---|---|",
    ]
    for low, high in ((0.7, 0.3), (0.6, 0.4), (0.5, 0.5)):
        parts = []
        for k, (digits, count) in enumerate(((train, sizes.train), (test, sizes.test))):
            x, labels = noisy_digits(digits, count, generator(70 + k))
            chance = torch.where(labels < 5, low, high)
            small = torch.rand(count, generator=generator(80 + k)) < chance
            parts.append((with_borders(x, small), labels))
        critic = fit_cells(*parts[0], steps=sizes.steps, seed=0)
        both = evidence(critic, *parts[1])
        found = both.discoveries(0.05)[:, BACKGROUND].any(0)
        of_place = log2_of_mean(both.log2_e_values[:, BACKGROUND].numpy(), 0)
        values = torch.from_numpy(of_place) / _LOG2_10
        lines.append(
            f"| {low:.0%} : {high:.0%} | {int(found.sum())} | {float(values.median()):.1f} "
            f"| {float(values.min()):.1f} |".replace("-", "−")
        )
    return "\n".join(lines)


def clean_words(critic: nn.Module, test: Digits, sizes: Sizes) -> str:
    """Clean data sets, read by a critic that has learned the mark."""
    any_false, shares = 0, []
    for seed in range(sizes.repeats):
        found = evidence(critic, *noisy_digits(test, sizes.test, generator(seed, 50)))
        false = in_background(found)
        any_false += false > 0
        shares.append(false / max(int(found.discoveries(0.05).sum()), 1))
    return (
        f"Clean data sets: {any_false} of {sizes.repeats} have a background place among their "
        f"discoveries at rate 0.05; the mean share of false ones is "
        f"{sum(shares) / len(shares):.4f}."
    )


def random_words(train: Digits, test: Digits, sizes: Sizes) -> str:
    """Random labels, for the critic as for the test."""
    x, labels = noisy_digits(train, sizes.train, generator(60))
    shuffled = labels[torch.randperm(len(labels), generator=generator(61))]
    critic = fit_cells(x, shuffled, steps=sizes.steps, seed=0)
    any_found, largest = 0, -math.inf
    for seed in range(sizes.repeats):
        x, labels = noisy_digits(test, sizes.test // 2, generator(seed, 62))
        found = evidence(critic, x, torch.randint(10, labels.shape, generator=generator(seed, 63)))
        any_found += bool(found.discoveries(0.05).any())
        largest = max(largest, float(found.e_values.max()))
    return (
        f"Random labels: {any_found} of {sizes.repeats} data sets of {sizes.test // 2:,} pictures "
        f"have any discovery at rate 0.05; the largest of all e-values is {largest:.3g}."
    )


def draw(
    picture: Tensor, strongest: CombinedEvidence, found: dict[float, list[CombinedEvidence]]
) -> Figure:
    """A marked picture, the evidence of its class by place, and the curve."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"})
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(11, 3.7), layout="constrained", width_ratios=(1, 1, 1.35)
    )
    row = _row(strongest)
    places = strongest.discoveries(0.05)[row].reshape(5, 5)
    left.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
    for down, across in places.nonzero().tolist():
        at = (across * CELL - 0.5, down * CELL - 0.5)
        left.add_patch(Rectangle(at, CELL, CELL, fill=False, ec=ORANGE, lw=1.8))
    left.set_title("A marked 3; places found for “3”")
    values = (strongest.log2_e_values[row] / _LOG2_10).reshape(5, 5)
    middle.imshow(values.clamp(-5, 30).numpy(), cmap="Blues", vmin=-5, vmax=45)
    for down in range(5):
        for across in range(5):
            value = f"{values[down, across]:.0f}".replace("-", "−")
            bold = "bold" if places[down, across] else "normal"
            middle.text(across, down, value, ha="center", va="center", weight=bold)
    middle.set_title("log₁₀ e of “3”, by place (bold: found)")
    for axes in (left, middle):
        axes.set(xticks=[], yticks=[])
    spread = [sorted(map(corner, runs)) for runs in found.values()]
    shares = [100 * share for share in found]
    right.fill_between(
        shares, [one[0] for one in spread], [one[-1] for one in spread], color=BLUE, alpha=0.2, lw=0
    )
    medians = [one[len(one) // 2] for one in spread]
    right.plot(
        shares, medians, "o-", color=BLUE, ms=4, label=f"the mark's corner, {len(spread[0])} runs"
    )
    right.axhline(
        math.log10(250 / 0.05), color=GREY, ls="--", lw=1, label="found alone, at rate 0.05"
    )
    right.set(xscale="log", xlabel="marked pictures of the class in %", ylabel="log₁₀ e")
    right.set_yscale("symlog", linthresh=10)
    right.set_yticks([-5, 0, 5, 10, 30, 100], ["−5", "0", "5", "10", "30", "100"])
    right.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    right.minorticks_off()
    right.spines[["top", "right"]].set_visible(False)
    right.set_title("From 2,000 held-out pictures, median and range")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def main(arguments: Sequence[str] | None = None, sizes: Sizes | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", metavar="ROOT", help="MNIST's folder, not scikit-learn's digits")
    parser.add_argument("--out", type=Path, default=Path("build/data_set_leaks"))
    options = parser.parse_args(arguments)
    sizes = sizes or Sizes()
    torch.set_num_threads(1)
    start = time.perf_counter()
    train, test = (
        sklearn_digits(part) if options.mnist is None else mnist(options.mnist, part)
        for part in (True, False)
    )
    found = curve(train, test, sizes)
    x, labels = leaky(train, sizes.train, 0.2, 0)
    critic = fit_cells(x, labels, steps=sizes.steps, seed=0)
    tables = [
        curve_table(found, sizes.test),
        known_table(train, test, sizes),
        network_table(network_rows(critic, train, test, sizes)),
        border_table(train, test, sizes),
        clean_words(critic, test, sizes),
        random_words(train, test, sizes),
    ]
    written = "\n\n".join(tables)
    print(written)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "data_set_leaks.md").write_text(written + "\n", encoding="utf-8")
    threes = noisy_digits(test, 50, generator(7))
    three = threes[0][threes[1] == MARKED][:1]
    picture = with_marks(three, torch.ones(1, dtype=torch.bool), generator(8))[0, 0]
    draw(picture, found[0.2][0], found).savefig(options.out / "data_set_leaks.png", dpi=150)
    print(f"\n{time.perf_counter() - start:.0f} s. Written: {options.out}")


if __name__ == "__main__":
    main()
