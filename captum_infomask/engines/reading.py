# An engine's outputs, read as information.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.base import Running
from captum_infomask.engines.pixels import draw
from captum_infomask.imputers.remove_tokens import Removed
from captum_infomask.scores.readings import Account, Reader, Reading
from captum_infomask.views.view_plan import ViewPlan


def read_views(
    engine: Running,
    passes: Sequence[ViewPlan],
    reader: Reader,
    account: Account,
    table: Tensor | None,
    bar: Any,
    seen: Callable[[Tensor, str], None],
) -> Reading:
    """Return i(y; v) of every view of a plan, (V, ...).

    Args:
        engine: Runs the views.
        passes: The views, at least one, once for every pass; they differ in what stands in.
        reader: How outputs are read.
        account: What is kept of them.
        table: Each image's target or classes, (n, k), or None.
        bar: A progress bar, updated by the views of each chunk.
        seen: Looks at the outputs of each chunk, which the head says what they are.

    Raises:
        ArgumentError: The outputs do not fit the reader or the targets, or are not finite.
    """
    checked = False
    for plan in passes:
        for rows, output in engine.run(plan):
            seen(output, reader.head)
            if not checked:
                reader.check(output, table)
                checked = True
            targets = None if table is None else table[plan.images[rows]]
            account.add(rows.to(output.device), output, targets)
            bar.update(len(rows))
    reading = account.reading()
    check_finite(reading.information, passes)
    return reading


def check_finite(values: Tensor, passes: Sequence[ViewPlan]) -> None:
    """Say which view is not finite, and whether it was the imputer that made it so."""
    wrong = ~values.flatten(1).isfinite().all(1) if values.dim() > 1 else ~values.isfinite()
    rows = wrong.nonzero()[:, 0]
    if not len(rows):
        return
    view, plan = int(rows[0]), passes[0]
    count = f"({len(rows)} of {len(plan)} views)"
    named = plan.describe(view)
    for each in passes:
        if _imputed_badly(each, view):
            raise ArgumentError(
                f"Expected `imputer` to give finite values; it gave NaN or infinity for the view "
                f"of {named}, and `forward_func` an answer that is not finite {count}."
            )
    image = int(plan.images[view])
    for number, x in enumerate(plan.scene.inputs):
        if not bool(x[image].isfinite().all()):
            which = (
                f"input {number}, image {image}" if len(plan.scene.inputs) > 1 else f"image {image}"
            )
            raise ArgumentError(
                f"Expected `inputs` to be finite, or `forward_func` to know what to do where they "
                f"are not; {which} holds NaN or infinity, and the answer for the view of {named} "
                f"is not finite {count}."
            )
    value = values[view].flatten()
    first = float(value[~value.isfinite()][0])
    raise ArgumentError(
        f"Expected `forward_func` to return finite numbers; got information of {first} for the "
        f"view of {named} {count}."
    )


def _imputed_badly(plan: ViewPlan, view: int) -> bool:
    """Whether a view of finite inputs is not finite."""
    if isinstance(plan.scene.stand_in, Removed):
        return False
    shown = draw(plan, torch.tensor([view]))
    image = int(plan.images[view])
    return any(
        bool(x[image].isfinite().all()) and not bool(picture.isfinite().all())
        for x, picture in zip(plan.scene.inputs, shown, strict=True)
    )
