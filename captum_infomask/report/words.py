# Numbers in words, and tables in plain text for a terminal.
from __future__ import annotations

import math
from collections.abc import Sequence

from captum_infomask._messages import printable

MINUS = "−"


def thousands(number: int) -> str:
    """Return a whole number with commas between thousands.

    Example:
        >>> from captum_infomask.report.words import thousands
        >>> thousands(1281167)
        '1,281,167'
    """
    return f"{number:,}"


def plural(number: int, what: str) -> str:
    """Return the word in the form for this number.

    Example:
        >>> from captum_infomask.report.words import plural
        >>> plural(1, "picture"), plural(2, "picture")
        ('picture', 'pictures')
    """
    return what if number == 1 else f"{what}s"


def signed(value: float, form: str) -> str:
    """Return a number in one of Python's formats, with a true minus.

    Example:
        >>> from captum_infomask.report.words import signed
        >>> signed(-0.456, ".2g"), signed(1e-5, ".1g")
        ('−0.46', '1e−05')
    """
    return f"{value:{form}}".replace("-", MINUS)


def decimals(value: float) -> str:
    """Return a value with two decimal places.

    Example:
        >>> from captum_infomask.report.words import decimals
        >>> decimals(-0.5), decimals(-0.001), decimals(float("nan"))
        ('−0.50', '0.00', '–')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{abs(value):.2f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text


def significant(value: float) -> str:
    """Return a positive value with three digits that count.

    Example:
        >>> from captum_infomask.report.words import significant
        >>> significant(1234.5), significant(0.04567), significant(20)
        ('1,234', '0.0457', '20.0')
    """
    if not math.isfinite(value):
        return "–"
    places = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:,.{places}f}"


def percent(share: float) -> str:
    """Return a share with one decimal place, as a percentage.

    Example:
        >>> from captum_infomask.report.words import percent
        >>> percent(0.7654)
        '76.5%'
    """
    return f"{share:.1%}" if math.isfinite(share) else "–"


def tenths(value: float) -> str:
    """Return a value with one decimal place and commas.

    Example:
        >>> from captum_infomask.report.words import tenths
        >>> tenths(1234.56), tenths(-0.04), tenths(float("nan"))
        ('1,234.6', '0.0', '–')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{abs(value):,.1f}"
    return f"{MINUS}{text}" if value < 0 and text != "0.0" else text


# Jinja's own filters do not have these names.
FILTERS = {
    "thousands": thousands,
    "plural": plural,
    "decimals": decimals,
    "tenths": tenths,
    "significant": significant,
    "percent": percent,
}


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], ends: Sequence[str]) -> str:
    """Lay out words and numbers in columns.

    Args:
        head: The columns' names.
        rows: The fields, as many per row as there are columns. The first is aligned left, all
            others right.
        ends: For each row, the text after its last field.

    Returns:
        Lines, without a line break at the end.

    Example:
        >>> from captum_infomask.report.words import text_table
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
    """Align the first column left and the others right."""
    first = fields[0].ljust(widths[0])
    rest = [text.rjust(width) for text, width in zip(fields[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()
