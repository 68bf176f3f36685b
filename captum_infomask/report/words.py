# Numbers in words: how counts, values and shares are written on a page.
from __future__ import annotations

import math

MINUS = "−"


def thousands(number: int) -> str:
    """A whole number with commas between thousands.

    Example:
        >>> from captum_infomask.report.words import thousands
        >>> thousands(1281167)
        '1,281,167'
    """
    return f"{number:,}"


def plural(number: int, what: str) -> str:
    """The word for so many.

    Example:
        >>> from captum_infomask.report.words import plural
        >>> plural(1, "picture"), plural(2, "picture")
        ('picture', 'pictures')
    """
    return what if number == 1 else f"{what}s"


def decimals(value: float) -> str:
    """A value with two decimal places.

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
    """A positive value with three digits that count.

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
    """A share with one decimal place.

    Example:
        >>> from captum_infomask.report.words import percent
        >>> percent(0.7654)
        '76.5%'
    """
    return f"{share:.1%}" if math.isfinite(share) else "–"


# Under names that Jinja's own filters do not have.
FILTERS = {
    "thousands": thousands,
    "plural": plural,
    "decimals": decimals,
    "significant": significant,
    "percent": percent,
}
