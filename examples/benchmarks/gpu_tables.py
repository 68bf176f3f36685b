# The page with the measurements on a GPU.
from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from interleave import spread
from speed_tables import markdown

Record = Mapping[str, Any]

_HEAD = """# A GPU

```console
$ {command}
```

`{machine}`

One picture of 3 × {side} × {side}, windows of {window} pixels {stride} apart, `drop` unless
tokens are removed. The networks have random weights and calibrated batch norms. All rows of a
table run in turn in one process. Each is timed from one synchronisation of the device to the
next. A cell is the median over rounds and [the least, the most]; ratios are taken within rounds.
TF32 and float32 name the precision of convolutions and matrix products; bfloat16 is autocast.
Occlusion runs at the fastest of {sizes} views in a forward pass, chosen for each line. InfoMask's
engines choose for themselves, unless their line says otherwise. *plain* is the batched engine
without a folded copy, and so is *batched* on a GPU.
"""

_MEMORY = """Memory is the peak during a first call, less the memory before the call. It does not
contain the network and the picture. It contains copies of weights."""

_MAPS = """The rows are whole calls with default settings, in float32 unless a line says TF32.
Superpixels are computed on the processor. Grad-CAM is Captum's, with its layer given, resized to
the picture's size. A vision transformer has no layer that Grad-CAM can read."""

_COMPILED = """`torch.compile` is a fair baseline: it makes any network faster without InfoMask.
The seconds of the first call, less those of a later call, are the time of compilation. Every
process pays it, once for every size of batch. Backend: `{backend}`."""

_EXACTNESS = """We compare logits of 12 windows with float64 forward passes on the same device.
*plain* is the network's own forward pass in that precision, one view at a time. The engine causes
only the error beyond that of *plain*."""


def page(found: Record) -> str:
    """All that was found, as Markdown."""
    parts = [_HEAD.format(**found), tests(found["tests"])]
    for record in found["maps"]:
        parts.append(f"## {record['network']}: one map\n\n{maps(record)}")
    if found["maps"]:
        parts.append(_MAPS)
    for record in found["speed"]:
        parts.append(f"## {record['network']}: speed and memory\n\n{speed(record)}")
    if found["speed"]:
        parts.append(_MEMORY)
    if found["exactness"]:
        parts.append(f"## Exactness\n\n{_EXACTNESS}\n\n{exactness(found['exactness'])}")
    for record in found["compiled"]:
        parts.append(f"## {record['network']}: `torch.compile`\n\n{compiled(record)}")
    if found["compiled"]:
        parts.append(_COMPILED.format(**found))
    if found["left_out"]:
        listed = "\n".join(f"- {what}" for what in found["left_out"])
        parts.append(f"## Left out\n\n{listed}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def tests(found: Record | None) -> str:
    """How the tests that need the device ended."""
    if found is None:
        return "## Tests\n\nThey were not run."
    words = ", ".join(f"{found[kind]} {kind}" for kind in ("passed", "failed", "skipped"))
    failures = "".join(f"\n- `{name}`: {why}" for name, why in found["failures"])
    return f"## Tests\n\n`{found['command']}`: {words}, in {found['seconds']:.0f} s.\n{failures}"


def maps(record: Record) -> str:
    """A line for every method: its time, and how many times the first one's."""
    base = next(iter(record["rows"].values()))
    head = ["", "ms", f"times as long as {_first(record)}", "memory, MiB"]
    lines = [
        [
            name,
            spread([1000 * s for s in row["seconds"]], 1),
            spread(_ratios(row, base), 2),
            _mebibytes(row),
        ]
        for name, row in record["rows"].items()
    ]
    return markdown(head, lines)


def speed(record: Record) -> str:
    """A line for every contender: its time, how many times the first one's speed, its memory."""
    base = next(iter(record["rows"].values()))
    head = ["", "views in a pass", "ms", f"times as fast as {_first(record)}", "memory, MiB"]
    lines = [
        [
            _ran(name, row),
            "own" if row["views"] is None else str(row["views"]),
            spread([1000 * s for s in row["seconds"]], 1),
            spread(_ratios(base, row), 2),
            _mebibytes(row),
        ]
        for name, row in record["rows"].items()
    ]
    return f"{record['windows']:,} windows.\n\n{markdown(head, lines)}"


def compiled(record: Record) -> str:
    """A line for every contender: its first call, its time, and how it stands to the first one."""
    base = next(iter(record["rows"].values()))
    head = ["", "first call, s", "ms", f"times as fast as {_first(record)}"]
    lines = [
        [
            _ran(name, row),
            f"{row['first'] - statistics.median(row['seconds']):.1f}",
            spread([1000 * s for s in row["seconds"]], 1),
            spread(_ratios(base, row), 2),
        ]
        for name, row in record["rows"].items()
    ]
    return f"{record['windows']:,} windows.\n\n{markdown(head, lines)}"


def exactness(records: Sequence[Record]) -> str:
    """Errors beside the largest logit, and beside what a window changes."""
    head = ["network", "precision", "engine", "error / largest logit", "error / effect, most"]
    lines = []
    for record in records:
        for name, measured in record["errors"].items():
            errors = measured["errors"]
            shares = [
                error / effect for error, effect in zip(errors, record["effects"], strict=True)
            ]
            largest = f"{max(errors) / record['scale']:.1e}"
            ran = _ran(name, measured)
            lines.append(
                [record["network"], record["precision"], ran, largest, f"{max(shares):.1e}"]
            )
    return markdown(head, lines)


def _first(record: Record) -> str:
    return str(next(iter(record["rows"])))


def _ratios(base: Record, row: Record) -> list[float]:
    return [a / b for a, b in zip(base["seconds"], row["seconds"], strict=True)]


def _mebibytes(row: Record) -> str:
    return "" if math.isnan(row["bytes"]) else f"{row['bytes'] / 2**20:,.0f}"


def _ran(name: str, row: Record) -> str:
    """A contender's name, and the engine that ran where another was asked for."""
    ran = row["ran"]
    asked = name.split(",", maxsplit=1)[0]
    expected = {"plain": "batched", "no Winograd": "incremental", "tokens removed": "tokens"}
    return name if ran in ("", expected.get(asked, asked), "plain") else f"{name} (ran: {ran})"
