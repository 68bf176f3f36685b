# A run's failures, grouped by what went wrong.
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from captum_infomask.report.run_content import Failure

KEYS, MESSAGES = 3, 20  # shown of each message, and of all

# What differs from picture to picture though the fault is one: names in quotes, and numbers.
_OWN = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")


def group_failures(
    errors: Iterable[tuple[str, str]],
) -> tuple[tuple[Failure, ...], tuple[int, int]]:
    """Group failures whose messages differ in names and numbers only.

    Args:
        errors: Pairs of a key and its message, in the order of the keys.

    Returns:
        The groups of most pictures first, at most 20; and how many messages, of how many pictures,
        are left.

    Example:
        >>> from captum_infomask.dataset_run.summary.failures import group_failures
        >>> errors = [("a.jpg", "truncated after 5 bytes"), ("b.jpg", "truncated after 7 bytes")]
        >>> group_failures(errors)[0][0].message
        'truncated after … bytes'
    """
    counts: dict[tuple[str, ...], int] = {}
    keys: dict[tuple[str, ...], list[str]] = {}
    own: dict[tuple[str, ...], list[str]] = {}
    for key, message in errors:
        kind, found = tuple(_OWN.split(message)), _OWN.findall(message)
        counts[kind] = counts.get(kind, 0) + 1
        before = own.setdefault(kind, found)
        if found != before:
            own[kind] = [a if a == b else "…" for a, b in zip(before, found, strict=True)]
        first = keys.setdefault(kind, [])
        if len(first) < KEYS:
            first.append(key)
    # Stable: of as many pictures, the first met comes first.
    ranked = sorted(counts, key=lambda kind: -counts[kind])
    shown, left = ranked[:MESSAGES], ranked[MESSAGES:]
    groups = tuple(
        Failure(_filled(kind, own[kind]), counts[kind], tuple(keys[kind])) for kind in shown
    )
    return groups, (len(left), sum(counts[kind] for kind in left))


def _filled(kind: Sequence[str], own: Sequence[str]) -> str:
    """A message with what its pictures have in common."""
    return "".join(chain.from_iterable(zip_longest(kind, own, fillvalue="")))
