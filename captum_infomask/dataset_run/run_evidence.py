# Adds up the evidence of a run's rows, shard by shard, without keeping them.
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask.dataset_run.run_settings import LIKELY
from captum_infomask.results import InfoMap
from captum_infomask.results.e_values import check_bets
from captum_infomask.results.evidence_sums import EvidenceSums
from captum_infomask.scores.score_settings import NATS_PER_UNIT

# The columns that evidence is made of.
COLUMNS = ("key", "target", "scores", "blank", *LIKELY, "error")

_IMPOSSIBLE = "got information of -inf for"  # in the error of a label with a logit of -inf
_TOGETHER = 256  # pictures that are added up together


def check_evidence(template: InfoMap, folder: Path) -> None:
    """Refuse a run whose scores are no bets.

    Raises:
        ArgumentError: They are differences, or those of a head without a distribution.
    """
    try:
        check_bets(template.view, template.score, template.contrast)
    except ArgumentError as error:
        raise ArgumentError(f"{error} The run in {folder} has no evidence about classes.") from None


def evidence_sums(
    tables: Iterable[pa.Table], template: InfoMap, classes: int, folder: Path
) -> EvidenceSums:
    """The sums over the good pictures of a run, in the order of their keys.

    Args:
        tables: The shards' rows, one after another, with ``COLUMNS``.
        template: The InfoMap that has the regions and settings of all others.
        classes: M, the number of classes or groups.
        folder: The run's folder, for errors.

    Raises:
        ArgumentError: An earlier version wrote the rows, without the classes of each view.

    Warns:
        UserWarning: Pictures were left out because the network says that their label is impossible.
    """
    places = len(template.regions)
    sums = EvidenceSums(classes, template.regions)
    per_bit = NATS_PER_UNIT[template.unit] / NATS_PER_UNIT["bits"]
    impossible = 0
    for table in tables:
        if not set(LIKELY) <= set(table.column_names):
            raise ArgumentError(
                f"Expected a run whose rows hold each view's likeliest classes, for the evidence "
                f"about all classes; an earlier version wrote the one in {folder}. Run it again, "
                f"with a new `out`."
            )
        good = table.filter(table["error"].is_null())
        impossible += pc.sum(pc.match_substring(table["error"], _IMPOSSIBLE)).as_py() or 0
        for start in range(0, len(good), _TOGETHER):
            rows = good.slice(start, _TOGETHER)
            shape = (len(rows), places)
            bits = _numbers(rows["scores"]).reshape(shape)
            if rows["blank"].null_count == 0:
                bits = bits + _numbers(rows["blank"]).reshape(shape)
            chosen, q = (_numbers(rows[name]).reshape(*shape, -1) for name in LIKELY)
            labels = rows["target"].to_numpy().astype(np.int64)
            sums.add(
                labels, bits.astype(np.float64) * per_bit, chosen.astype(np.int64), q.astype(float)
            )
    if impossible:
        warn(
            f"The network says that the label of {impossible} pictures is impossible (a logit of "
            f"-inf), so they have no scores. They are left out because of their label, and the "
            f"evidence may be too large. Give such logits a large negative number instead."
        )
    return sums


def _numbers(column: pa.ChunkedArray) -> Any:
    """All numbers of a column of lists, one after another."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
