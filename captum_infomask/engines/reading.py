# An engine's outputs, read as information.
from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.engines.base import Engine
from captum_infomask.scores.information import Score
from captum_infomask.views.plan import ViewPlan


def read_views(
    engine: Engine, plan: ViewPlan, score: Score, table: Tensor | None, bar: Any
) -> Tensor:
    """Return i(y; v) of every view of a plan, (V,).

    Args:
        engine: Runs the views.
        plan: The views, at least one.
        score: How outputs are read.
        table: Each image's target, (n, k), or None.
        bar: A progress bar, updated once per chunk.

    Raises:
        ArgumentError: The outputs do not fit ``score`` or the targets, or are not finite.
    """
    values: Tensor | None = None
    for rows, output in engine.run(plan):
        targets = None if table is None else table[plan.images[rows]]
        if values is None:
            score.check(output, table)
        chunk = score(output, targets)
        if values is None:
            values = chunk.new_empty(len(plan))
        values[rows.to(values.device)] = chunk
        bar.update()
    assert values is not None, "a plan has at least one view"
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        view = int(wrong[0])
        raise ArgumentError(
            f"Expected `forward_func` to return finite numbers; got information of "
            f"{float(values[view])} for the view of {plan.describe(view)} "
            f"({len(wrong)} of {len(plan)} views)."
        )
    return values
