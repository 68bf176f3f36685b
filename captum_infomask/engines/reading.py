# An engine's outputs, read as information.
from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.engines.base import Engine
from captum_infomask.scores.information import Score
from captum_infomask.scores.samples import Reading, Samples, SinglePass
from captum_infomask.views.plan import ViewPlan


def read_views(
    engine: Engine,
    plan: ViewPlan,
    score: Score,
    table: Tensor | None,
    bar: Any,
    draws: int | None = None,
) -> Reading:
    """Return i(y; v) of every view of a plan, (V,).

    Args:
        engine: Runs the views.
        plan: The views, at least one.
        score: How outputs are read.
        table: Each image's target, (n, k), or None.
        bar: A progress bar, updated once per chunk.
        draws: Samples of a stochastic network, which give bounds too; None for a single pass.

    Raises:
        ArgumentError: The outputs do not fit ``score`` or the targets, or are not finite.
    """
    account: SinglePass | Samples | None = None
    for _ in range(draws or 1):
        for rows, output in engine.run(plan):
            targets = None if table is None else table[plan.images[rows]]
            if account is None:
                score.check(output, table)
                kind = SinglePass if draws is None else Samples
                account = kind(score, len(plan), output)
            account.add(rows.to(output.device), output, targets)
            bar.update()
    assert account is not None, "a plan has at least one view"
    reading = account.reading()
    wrong = (~reading.information.isfinite()).nonzero()
    if len(wrong):
        view = int(wrong[0])
        raise ArgumentError(
            f"Expected `forward_func` to return finite numbers; got information of "
            f"{float(reading.information[view])} for the view of {plan.describe(view)} "
            f"({len(wrong)} of {len(plan)} views)."
        )
    return reading
