# Content for pages: maps of every kind, on small pictures that need no network.
from __future__ import annotations

import math

import numpy as np

from captum_infomask import AtLeast, MaxFraction
from captum_infomask.report.page_content import (
    Agreement,
    Cell,
    Column,
    MapContent,
    PageContent,
    PictureContent,
    RegionScores,
    TableRow,
)

HEIGHT, WIDTH = 40, 56
HOSTILE = "<img src=x onerror=\"alert('label')\">"
HOSTILE_END = "</script><script>alert('end')</script><!--\u2028"


def windows_map(
    height: int = HEIGHT, width: int = WIDTH, *, side: int = 16, step: int = 8, seed: int = 0
) -> MapContent:
    """What overlapping windows paint: the mean of their scores, constant between their edges."""
    rng = np.random.default_rng(seed)
    boxes = np.array(
        [
            (y, x, min(y + side, height), min(x + side, width))
            for y in range(0, height - side + step, step)
            for x in range(0, width - side + step, step)
        ]
    )
    scores = rng.normal(1, 3, len(boxes))
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (y0, x0, y1, x1), score in zip(boxes, scores, strict=True):
        total[y0:y1, x0:x1] += score
        count[y0:y1, x0:x1] += 1
    plane = (total / count).astype(np.float32)
    return MapContent("windows", "bits", plane, "a mean", RegionScores(scores, boxes=boxes))


def label_map(height: int = HEIGHT, width: int = WIDTH) -> MapContent:
    """Regions that are no rectangles, and pixels in none of them."""
    y, x = np.mgrid[:height, :width]
    labels = ((y + x) // 13 + 7 * (x > y)).astype(np.int64)
    labels[:3] = -1
    scores = np.random.default_rng(1).normal(0.5, 1, int(labels.max()) + 1)
    plane = np.where(labels >= 0, scores[labels.clip(0)], 0).astype(np.float32)
    return MapContent("labels", "bits", plane, "", RegionScores(scores, labels=labels))


def maps() -> tuple[MapContent, ...]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.exp(-((y - 15) ** 2 + (x - 30) ** 2) / 300).astype(np.float32) * 0.013
    noise = np.random.default_rng(2).normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    steps = np.arange(9.0)
    curves = {"deletion": 0.9 * 0.6**steps, "insertion": 1 - 0.9 * 0.6**steps}
    return (
        windows_map(),
        label_map(),
        MapContent("smooth", "a.u.", smooth, "all pixels differ", curves=curves),
        MapContent("noise", "nats", noise, curves={"deletion": 1 - steps / 8}),
        MapContent("against", "bits", -np.abs(noise)),
        MapContent("nothing", "a.u.", np.zeros((HEIGHT, WIDTH), np.float32)),
        MapContent("constant", "a.u.", np.full((HEIGHT, WIDTH), 0.3, np.float32)),
        MapContent("broken", "bits", None, error="RuntimeError: sizes 7 and 14 differ"),
    )


def picture() -> PictureContent:
    pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    truth = (y - 18) ** 2 + (x - 28) ** 2 < 200
    return PictureContent(pixels, "espresso", (("9.91 bits", "i(y; x)"),), maps(), truth)


def digit() -> PictureContent:
    """A second picture of another size, without a known truth."""
    pixels = np.zeros((28, 28, 3), np.uint8)
    pixels[6:22, 12:16] = 255
    return PictureContent(pixels, "one", (), (windows_map(28, 28, side=7, step=3),))


def page_content(**settings) -> PageContent:
    columns = (
        Column("Deletion AUC", "lower", "Area under p(target) while pixels go."),
        Column("Insertion AUC", "higher", digits=2),
        Column("Seconds", "", digits=1),
    )
    rows = (
        TableRow("windows", (Cell(0.2), Cell(0.5), Cell(3.0))),
        TableRow("labels", (Cell(0.1, -0.1, -0.15, -0.05), Cell(0.7, 0.2), Cell(2.0, -1.0))),
        TableRow("smooth", (Cell(0.3, 0.1), Cell(None), Cell(10.0, 7.0))),
        TableRow("broken", (Cell(None), Cell(None), Cell(None)), "RuntimeError: sizes differ"),
    )
    square = Agreement("rank correlation", ("windows", "labels"), np.array([[1, -0.5], [-0.5, 1]]))
    given = {
        "title": "Eight methods on espresso",
        "pictures": (picture(), digit()),
        "columns": columns,
        "rows": rows,
        "reference": "windows",
        "agreement": (square,),
        "notes": ("A note.",),
        "call": 'compare(net, x, target=3).to_html("report.html")',
        "provenance": (("captum_infomask", "0.0"), ("seed", "0")),
    }
    return PageContent(**(given | settings))


def rule_of(unit, rule):
    """What a rule asks of maps in a unit: bits are counted in bits and nats alone."""
    if isinstance(rule, MaxFraction):
        return rule
    per_bit = {"bits": 1.0, "nats": math.log(2)}.get(unit)
    return MaxFraction(0.2) if per_bit is None else AtLeast(rule.bits * per_bit)


def hostile_content() -> PageContent:
    """Every text that comes from outside tries to be markup."""
    plane = windows_map().plane
    evil = (HOSTILE, HOSTILE_END)
    bad = MapContent(HOSTILE, HOSTILE, plane, HOSTILE_END, curves={HOSTILE: np.array([1.0, 0.5])})
    failed = MapContent(HOSTILE_END, HOSTILE, None, error=HOSTILE)
    shown = PictureContent(None, HOSTILE, (evil,), (bad, failed))
    return PageContent(
        HOSTILE_END,
        (shown, PictureContent(None, HOSTILE_END, (), ())),
        columns=(Column(HOSTILE, "lower", HOSTILE_END),),
        rows=(TableRow(HOSTILE, (Cell(1.0),), HOSTILE_END), TableRow("b", (Cell(None),), HOSTILE)),
        reference=HOSTILE,
        agreement=(Agreement(HOSTILE, (HOSTILE_END,), np.ones((1, 1))),),
        notes=(HOSTILE, HOSTILE_END),
        call=HOSTILE_END,
        provenance=(evil,),
    )
