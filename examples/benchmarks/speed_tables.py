# The measurements as Markdown tables.
from __future__ import annotations

from collections.abc import Sequence

from interleave import spread
from records import Record

BASE = "Occlusion"
_MEGABYTE = 2**20
# What runs under names that are not an engine's own.
EXPECTED = {"plain": "batched", "no Winograd": "incremental", "tokens removed": "tokens"}


def speed_table(records: Sequence[Record]) -> str:
    """How many times faster than Occlusion each contender is, by network and windows."""
    tables = []
    for window, stride in sorted({(r["window"], r["stride"]) for r in records}):
        own = [r for r in records if (r["window"], r["stride"]) == (window, stride)]
        names = _names(own)
        head = ["network", "windows", f"{BASE}, ms per window", *names, "auto / better engine"]
        rows = [
            [r["network"], f"{r['windows']:,}", _per_window(r, BASE)]
            + [_ratio(r, name) for name in names]
            + [_auto(r)]
            for r in own
        ]
        tables.append(f"Windows {window}/{stride}\n\n{markdown(head, rows)}\n\n{_footnotes(own)}")
    return "\n\n".join(tables)


def growth_table(records: Sequence[Record]) -> str:
    """Seconds of a whole map by picture size and by number of windows."""
    names = [BASE, *_names(records)]
    head = ["network", "picture", "windows", *(f"{name}, s" for name in names)]
    rows = [
        [r["network"], f"{r['picture']}²", f"{r['windows']:,}"]
        + [spread(r["contenders"][n]["seconds"], 2) if n in r["contenders"] else "" for n in names]
        for r in sorted(records, key=lambda r: (r["network"], r["picture"], r["windows"]))
    ]
    return f"{markdown(head, rows)}\n\n{_footnotes(records)}"


def linear_table(records: Sequence[Record]) -> str:
    """Milliseconds of a forward pass, in all windows and in a few."""
    head = ["network", "method", "forward passes", "ms per forward pass", "ratio"]
    rows = []
    for r in records:
        for name, measured in r["methods"].items():
            (_, few), *_ = parts = measured.items()
            for passes, milliseconds in parts:
                ratios = [a / b for a, b in zip(milliseconds, few, strict=True)]
                rows.append([r["network"], name, passes, spread(milliseconds, 1), spread(ratios)])
    return markdown(head, rows)


def memory_table(records: Sequence[Record]) -> str:
    """Mebibytes on top of the network's, by contender."""
    head = [
        "network",
        "contender",
        "windows",
        "process",
        "live tensors",
        "a folded copy's weights",
        "activations of one picture",
    ]
    rows = []
    for r in records:
        shared = (r["copied"], r["activations"])
        for name, m in r["contenders"].items():
            rows.append(
                [
                    r["network"],
                    _ran(name, m),
                    f"{m['timed']:,}",
                    _mebibytes(m["resident"]),
                    _mebibytes(m["live"]),
                    *("" if part is None else _mebibytes(part) for part in shared),
                ]
            )
    return markdown(head, rows)


def exactness_table(records: Sequence[Record]) -> str:
    """Errors of the logits beside the plain pass's own, and beside what a window changes."""
    head = [
        "network",
        "contender",
        "largest logit",
        "effect / largest logit, least",
        "error / largest logit, most",
        "error / effect, most",
    ]
    rows = []
    for r in records:
        least = f"{min(r['effects']) / r['scale']:.1e}"
        for name, m in r["errors"].items():
            relative = max(m["errors"]) / r["scale"]
            shares = [e / effect for e, effect in zip(m["errors"], r["effects"], strict=True)]
            ran = _ran(name, m)
            numbers = [f"{r['scale']:.2f}", least, f"{relative:.1e}", f"{max(shares):.1e}"]
            rows.append([r["network"], ran, *numbers])
    return markdown(head, rows)


def cam_table(records: Sequence[Record]) -> str:
    """Seconds of a whole map by method."""
    head = ["method", "batch size", "seconds", "times Grad-CAM"]
    rows = []
    for r in records:
        base = r["methods"]["Grad-CAM"]["seconds"]
        for name, m in r["methods"].items():
            ratios = [a / b for a, b in zip(m["seconds"], base, strict=True)]
            seconds = spread(m["seconds"])
            rows.append([name, str(m["views"] or ""), seconds, spread(ratios, 1)])
    return markdown(head, rows)


def _names(records: Sequence[Record]) -> list[str]:
    """Every contender but the one that the others are compared with, in the order measured."""
    return [n for n in dict.fromkeys(n for r in records for n in r["contenders"]) if n != BASE]


def _per_window(record: Record, name: str) -> str:
    seconds = record["contenders"][name]["seconds"]
    return spread([1000 * s / record["windows"] for s in seconds], 1)


def _ratio(record: Record, name: str) -> str:
    if name not in record["contenders"]:
        return ""
    base = record["contenders"][BASE]["seconds"]
    own = record["contenders"][name]["seconds"]
    return spread([b / a for a, b in zip(own, base, strict=True)], 2)


def _auto(record: Record) -> str:
    measured = [record["contenders"].get(n) for n in ("auto", "batched", "incremental")]
    if None in measured:
        return ""
    columns = [m["seconds"] for m in measured]
    return spread([min(b, i) / a for a, b, i in zip(*columns, strict=True)], 2)


def _footnotes(records: Sequence[Record]) -> str:
    """What is not in the table: settings, what ran under a name, and what was timed in part."""
    lines = []
    for r in records:
        notes = [
            f"{_ran(name, m)} {_part(m, r['windows'])}{_views(m)}"
            for name, m in r["contenders"].items()
        ]
        lines.append(f"- {r['network']}, {r['picture']}², {r['windows']}: {'; '.join(notes)}")
    return "\n".join(lines)


def _ran(name: str, measured: Record) -> str:
    ran = measured["ran"]
    return name if ran in ("", name, EXPECTED.get(name)) else f"{name} (ran: {ran})"


def _part(measured: Record, windows: int) -> str:
    return "all" if measured["timed"] == windows else f"{measured['timed']} timed"


def _views(measured: Record) -> str:
    return "" if measured["views"] is None else f", {measured['views']} at a time"


def _mebibytes(amount: int) -> str:
    return f"{amount / _MEGABYTE:,.0f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right."""
    rule = ["---" if k == 0 else "---:" for k in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows])
