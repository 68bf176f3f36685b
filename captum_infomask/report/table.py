# The comparison as a plain text table for a terminal.
from __future__ import annotations

from collections.abc import Sequence

from captum_infomask.report.rows import MethodRow

_HEAD = ("method", "forward passes", "seconds", "largest value", "share in mask")


def methods_table(rows: Sequence[MethodRow]) -> str:
    """Lay out as text what each method cost and gave; a method that failed shows its error.

    Args:
        rows: One per method.

    Returns:
        Lines, without a line break at the end.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.rows import MethodResult, MethodRow
        >>> from captum_infomask.report.table import methods_table
        >>> values = np.eye(2, dtype=np.float32)
        >>> row = MethodRow("crop", "bits", 5, 0.1, MethodResult(values, values > 0))
        >>> print(methods_table([row]))
        method  forward passes  seconds  largest value  share in mask
        ------  --------------  -------  -------------  -------------
        crop                 5     0.10      1.00 bits          50.0%
    """
    table = [_HEAD, *(_fields(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEAD))]
    lines = [_line(fields, widths) for fields in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for place, row in enumerate(rows, start=2):
        if row.result is None:
            lines[place] += f"  failed: {row.error}"
    return "\n".join(lines)


def _fields(row: MethodRow) -> tuple[str, ...]:
    """Write one method's numbers with the digits that mean something."""
    cost = (row.name, f"{row.forward_passes:,}", f"{row.seconds:.2f}")
    if row.result is None:
        return (*cost, "", "")
    return (*cost, f"{row.result.largest:.2f} {row.unit}", f"{row.result.share:.1%}")


def _line(fields: Sequence[str], widths: Sequence[int]) -> str:
    """Set the first column to the left and numbers to the right."""
    first = fields[0].ljust(widths[0])
    rest = [text.rjust(width) for text, width in zip(fields[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()
