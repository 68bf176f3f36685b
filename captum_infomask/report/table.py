# Plain text tables for a terminal.
from __future__ import annotations

from collections.abc import Sequence

from captum_infomask._words import printable


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], ends: Sequence[str]) -> str:
    """Lay out words and numbers in columns.

    Args:
        head: The columns' names.
        rows: The fields, as many per row as there are columns: the first is set to the left, all
            others to the right.
        ends: Per row what follows behind its last field.

    Returns:
        Lines, without a line break at the end.

    Example:
        >>> from captum_infomask.report.table import text_table
        >>> print(text_table(["method", "seconds"], [["crop", "0.10"]], ["  failed"]))
        method  seconds
        ------  -------
        crop       0.10  failed
    """
    table = [[printable(field) for field in fields] for fields in (head, *rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = [_line(fields, widths) for fields in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    width = len(lines[1])
    for place, end in enumerate(ends, start=2):
        if end:
            lines[place] = f"{lines[place].ljust(width)}{printable(end)}"
    return "\n".join(lines)


def _line(fields: Sequence[str], widths: Sequence[int]) -> str:
    """Set the first column to the left and numbers to the right."""
    first = fields[0].ljust(widths[0])
    rest = [text.rjust(width) for text, width in zip(fields[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()
