"""Whether e-values, discoveries and evidence over pictures keep what they promise.

Draws pictures whose truth is known, and counts. Prints the tables of
docs/results/evidence_validity.md and draws its figure. Run from the repository's root:

    python examples/evidence_validity.py --out build/evidence_validity
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from experiments.evidence_abuses import Abuse, abuses
from experiments.evidence_courses import Bets, bets
from experiments.evidence_draws import (
    ALPHAS,
    CRITICS,
    FalseShare,
    Null,
    Setting,
    false_share,
    lookup_maps,
    null_regions,
    settings,
)
from matplotlib.figure import Figure

Shares = list[tuple[Setting, FalseShare, FalseShare]]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(holds: bool) -> str:
    return "holds" if holds else "**fails**"


def null_table(found: Sequence[Null]) -> str:
    head = ["classes", "prior", "critic", "mean e", *(f"≥ {1 / a:g}" for a in ALPHAS), ""]
    rows = [
        [
            *(f"{one.name[0]:,}", *one.name[1:]),
            f"{one.mean:.3f} ± {one.error:.3f}",
            *("0" if rate == 0 else f"{100 * rate:.3g}%" for rate in one.rates),
            verdict(one.holds),
        ]
        for one in found
    ]
    return markdown(head, rows)


def keeps_rate(setting: Setting, found: FalseShare) -> bool:
    """Within three standard errors."""
    return found.mean <= setting.rate + 3 * found.error


def share_table(found: Shares) -> str:
    head = ["classes", "pictures × regions", "false regions", "true", "critic", "rate"]
    head += ["e-BH: false", "found", "closed: false", "found", ""]
    rows = [
        [
            f"{one.classes:,}",
            f"{one.pictures} × {one.regions}",
            one.dependence,
            f"{one.true:.0%}",
            one.critic,
            f"{one.rate:g}",
            *(
                words
                for share in shares
                for words in (
                    f"{share.mean:.3f} ± {share.error:.3f}",
                    "–" if math.isnan(share.power) else f"{share.power:.0%}",
                )
            ),
            verdict(all(keeps_rate(one, share) for share in shares)),
        ]
        for one, *shares in found
    ]
    return markdown(head, rows)


def bets_table(found: Sequence[Bets]) -> str:
    head = ["bets", "labels", "mean E at the end", "ever ≥ 10", "ever ≥ 20", "ever ≥ 100", ""]
    rows = [
        [
            *one.name,
            f"{one.mean:.4f} ± {one.error:.4f}",
            *(f"{100 * rate:.2g}%" for rate in one.ever),
            verdict(one.holds),
        ]
        for one in found
    ]
    return markdown(head, rows)


def number(value: float) -> str:
    """A table's number; large ones as a power."""
    if abs(value) >= 1e5:
        return f"10^{math.log10(value):.0f}"
    words = f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
    return words.replace("-", "−")


def abuse_table(found: Sequence[Abuse]) -> str:
    head = ["what is done", "number", "at most", "measured", "instead", "measured"]
    rows = [
        [
            *(one.what, one.number, f"{one.most:.4g}", f"**{number(one.wrong)}**"),
            *(one.instead, number(one.right)),
        ]
        for one in found
    ]
    return markdown(head, rows)


def draw(nulls: Sequence[Null], shares: Shares) -> Figure:
    """How often e-values are large, and how many discoveries are false, against the promise."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.3), layout="constrained")
    for colour, critic in zip(COLOURS, CRITICS, strict=True):
        of_critic = [one for one in nulls if one.name[2] == critic]
        points = [(a, rate) for one in of_critic for a, rate in zip(ALPHAS, one.rates, strict=True)]
        shown = [(a, rate) for a, rate in points if rate > 0]
        left.plot(
            *zip(*shown, strict=True), "o", ms=4.5, alpha=0.75, color=colour, mew=0, label=critic
        )
    bound = (min(ALPHAS) / 1.5, 0.7)
    left.plot(bound, bound, color="black", lw=1, label="the promise: at most α")
    left.set(xscale="log", yscale="log", xlabel="α", ylabel="share of e-values of 1/α or more")
    left.set_ylim(3e-5, 0.9)
    left.set_title("Regions that say nothing", loc="left", fontsize=10)
    left.legend(fontsize=7.5, frameon=False, loc="upper left", handletextpad=0.3)
    for shift, colour, name, column in (
        (-0.005, COLOURS[0], "e-BH", 1),
        (0.005, COLOURS[1], "closed", 2),
    ):
        right.errorbar(
            [row[0].rate + shift for row in shares],
            [row[column].mean for row in shares],
            [3 * row[column].error for row in shares],
            fmt="o", ms=4, lw=0.8, color=colour, alpha=0.75, mew=0, label=name,
        )  # fmt: skip
    right.plot((0, 0.55), (0, 0.55), color="black", lw=1, label="the promise: at most the rate")
    right.set(xlabel="false discovery rate asked for", ylabel="measured (± 3 standard errors)")
    right.set_xticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
    right.set_title("40 settings with true and false regions", loc="left", fontsize=10)
    right.legend(fontsize=7.5, frameon=False, loc="upper left")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/evidence_validity"))
    parser.add_argument("--draws", type=int, default=2000, help="pictures or batches per setting")
    options = parser.parse_args(arguments)
    if options.draws < 20:
        parser.error("--draws: expected at least 20")
    torch.set_num_threads(1)
    start = time.perf_counter()
    nulls = list(null_regions(100 * options.draws))
    maps, true = lookup_maps(options.draws, 100)
    e, found = maps.e_values()[:, ~true], maps.discoveries(rate=0.1)
    false = (found[:, ~true].sum(1) / found.sum(1).clamp_min(1)).double()
    shares = [
        (one, *(false_share(one, options.draws, closed) for closed in (False, True)))
        for one in settings()
    ]
    parts = [
        null_table(nulls),
        f"InfoMaps of a lookup network: mean e of false regions {float(e.mean()):.3f} ± "
        f"{float(e.std()) / math.sqrt(e.numel()):.3f}; at rate 0.1, {float(false.mean()):.3f} ± "
        f"{float(false.std()) / math.sqrt(len(false)):.3f} false discoveries, and "
        f"{float(found[:, true].double().mean()):.0%} of the true regions found.",
        share_table(shares),
        bets_table(list(bets(max(options.draws // 33, 4)))),
        abuse_table(list(abuses(10 * options.draws))),
    ]
    tables = "\n\n".join(parts)
    print(tables)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "evidence_validity.md").write_text(tables + "\n", encoding="utf-8")
    draw(nulls, shares).savefig(options.out / "evidence_validity.png", dpi=150)
    print(f"\n{time.perf_counter() - start:.0f} s. Written: {options.out}")


if __name__ == "__main__":
    main()
