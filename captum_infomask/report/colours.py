# The colour maps that a viewer can switch between, as tables.
from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps

from captum_infomask.report.data_uris import base64_text
from captum_infomask.report.tints import COLOUR_REACH

STEPS = 256

# Name, matplotlib's colour map, whether it has two arms. All can be told apart without colour
# vision for red and green; the last shows positive values only, light on dark.
_MAPS = (
    ("blue, white, red", "RdBu_r", True),
    ("purple, white, orange", "PuOr_r", True),
    ("cividis, positive only", "cividis_r", False),
)


def colour_tables() -> list[dict[str, Any]]:
    """The colour maps, from −1 to 1 in 256 steps.

    Returns:
        Per map its name, whether values below 0 have colours, and base64 of (256, 3) bytes.

    Example:
        >>> from captum_infomask.report.colours import colour_tables
        >>> [table["name"] for table in colour_tables()]
        ['blue, white, red', 'purple, white, orange', 'cividis, positive only']
    """
    scaled = np.linspace(-1, 1, STEPS)
    tables = []
    for name, source, signed in _MAPS:
        place = 0.5 + COLOUR_REACH * scaled / 2 if signed else scaled.clip(0)
        table = colormaps[source](place, bytes=True)[:, :3]
        tables.append({"name": name, "signed": signed, "table": base64_text(table.tobytes())})
    return tables
