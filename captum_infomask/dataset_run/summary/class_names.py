# What a run's classes are called.
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

UNKNOWN = -1  # a class that is null


def class_names(categories: Sequence[str], classes: Sequence[int]) -> list[str]:
    """Names of classes; those that several share get their number too.

    Args:
        categories: The network's, in the order of its outputs.
        classes: Indices, or −1 for an unknown one.

    Example:
        >>> from captum_infomask.dataset_run.summary.class_names import class_names
        >>> class_names(["crane", "ibis", "crane"], [0, 1, -1, 5])
        ['crane (0)', 'ibis', 'unknown', 'class 5']
    """
    times = Counter(categories)
    names = []
    for place in map(int, classes):
        if place == UNKNOWN:
            names.append("unknown")
        elif place >= len(categories):
            names.append(f"class {place}")
        else:
            name = categories[place]
            names.append(name if times[name] == 1 else f"{name} ({place})")
    return names
