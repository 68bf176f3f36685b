# A run's summary without a browser: its statistics against literal ones, and text that stays text.
from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from page_content import HOSTILE, HOSTILE_END
from run_folders import CATEGORIES, bad, good, many_classes, template, write_run

from captum_infomask import DatasetRun
from captum_infomask._run_length import encode
from captum_infomask.dataset_run.page_pictures import EXAMPLES
from captum_infomask.dataset_run.summary.manifest_words import bound_of, summary_words, threshold_of
from captum_infomask.dataset_run.summary.run_statistics import (
    distributions,
    mask_areas,
    shared_axis,
)
from captum_infomask.dataset_run.summary.summary_content import (
    KEYS,
    MESSAGES,
    group_failures,
    run_content,
)
from captum_infomask.report.page import run_html
from captum_infomask.report.run_content import (
    BINS,
    FEW_VALUES,
    LEVELS,
    Axis,
    RunContent,
    class_groups,
    figure,
    strip,
)


class Tags(HTMLParser):
    """The tags and the text of a page, as a parser sees them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.lasttag not in ("style", "script"):
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


ROWS = (
    good("a.png", 0, 1.5, (0.5, 1.25, -1.0, 0.0), seconds=0.25),
    good("b.png", 0, 0.5, (float("nan"), 0.25, -2.0, 0.0), predicted=1, seconds=0.75),
    bad("c.png"),
    good("d.png", 2, -1.0, (-3.0, -0.5, -1.0, -2.0), seconds=0.5, mask=np.zeros(8, bool)),
    good("e.png", 0, 1.0, (0.0, 0.75, 0.0, 0.0), seconds=1.0, mask=np.ones(8, bool)),
)


def test_statistics_are_those_of_the_rows(tmp_path):
    content = run_content(write_run(tmp_path / "ants", ROWS))
    assert (content.pictures, content.done, content.failed, content.missing) == (5, 4, 1, 0)
    whole, region = content.overall
    assert whole.quantiles.tolist() == np.quantile([1.5, 0.5, -1.0, 1.0], LEVELS).tolist()
    assert region.quantiles.tolist() == np.quantile([1.25, 0.25, -0.5, 0.75], LEVELS).tolist()
    assert whole.histogram.sum() == region.histogram.sum() == 4
    ant, cat = content.classes
    assert (ant.name, ant.count, cat.name, cat.count) == ("ant", 3, "cat", 1)
    assert ant.quantiles.tolist() == np.quantile([0.5, 1.0, 1.5], LEVELS).tolist()
    assert ant.values.tolist() == [0.5, 1.0, 1.5]
    assert ant.accuracy == pytest.approx(2 / 3)
    assert cat.accuracy == 1
    axis = content.axis
    assert (axis.low, axis.high, axis.bound_words) == (-1.0, axis.bound, "log₂ 3 = 1.58 bits")
    assert axis.bound == pytest.approx(np.log2(3))
    assert (axis.below, axis.above) == (0, 0)
    assert [value for value, _ in content.facts] == [
        "0.75 bits",
        "0.50 bits",
        "50.0%",
        "75.0%",
        "1.60 pictures/s",
    ]
    (speed,) = content.speed
    assert (speed.engine, speed.count, speed.rate) == ("incremental", 4, 4 / 2.5)
    assert (speed.median, speed.slow) == (
        np.median([0.25, 0.75, 0.5, 1]),
        np.quantile([0.25, 0.75, 0.5, 1], 0.95),
    )


def test_each_engine_has_its_own_speed(tmp_path):
    rows = [
        *[good(f"{k}", 0, 1.0, engine="incremental", seconds=2.0) for k in range(3)],
        *[good(f"{k}", 0, 1.0, engine="batched", seconds=8.0) for k in range(3, 5)],
        bad("x"),
    ]
    speed = run_content(write_run(tmp_path, rows)).speed
    found = [(row.engine, row.count, row.rate, row.median) for row in speed]
    assert found == [
        ("all", 5, 5 / 22, 2.0),
        ("incremental", 3, 0.5, 2.0),
        ("batched", 2, 0.125, 8.0),
    ]


def test_predictions_say_nothing_of_accuracy(tmp_path):
    content = run_content(write_run(tmp_path, ROWS, target="prediction"))
    assert all(one.accuracy is None for one in content.classes)
    assert "accuracy" not in str(content.facts)
    assert "Accuracy" not in run_html(content)
    assert "Accuracy" in run_html(run_content(write_run(tmp_path, ROWS, target="species")))


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_distributions_are_numpys(data):
    groups = data.draw(arrays.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 3)))
    numbers = st.floats(-30, 10, width=32)
    values = data.draw(arrays.arrays(np.float64, len(groups), elements=numbers))
    axis = shared_axis(values, bound=None, bound_words="")
    found = distributions(["a", "b", "c", "d"], groups, values, axis, right=values > 0)
    edges = np.linspace(axis.low, axis.high, BINS + 1)
    for k, one in enumerate(found):
        own = values[groups == k]
        assert one.count == len(own) == one.histogram.sum()
        if not len(own):
            assert np.isnan(one.quantiles).all()
            assert one.accuracy is None
            continue
        assert one.quantiles == pytest.approx(np.quantile(own, LEVELS), abs=1e-9)
        assert one.accuracy == pytest.approx((own > 0).mean())
        inside = own[(np.abs(own[:, None] - edges) > 1e-6).all(1)]
        assert (one.histogram >= np.histogram(inside, edges)[0]).all()
        few = np.sort(own) if len(own) <= FEW_VALUES else []
        assert one.values.tolist() == list(few)


def test_an_axis_leaves_rare_values_out_and_counts_them():
    values = np.concatenate([np.linspace(0, 9, 995), [-30.0, -20.0], [40.0] * 3])
    axis = shared_axis(values, bound=None, bound_words="")
    assert (axis.low, axis.below) == (0.0, 2)
    assert 8.9 < axis.high < 9
    assert axis.above == 3 + (values[:995] > axis.high).sum()
    (one,) = distributions(["all"], np.zeros(1000, np.int64), values, axis)
    assert one.histogram.sum() == 1000
    assert shared_axis(np.zeros(0), bound=3.0, bound_words="") is None
    assert shared_axis(np.zeros(4), bound=None, bound_words="") == Axis(0.0, 1.0)


boolean_masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(boolean_masks, max_size=8), st.integers(1, 60), st.integers(0, 3))
def test_areas_are_those_of_the_masks(masks, factor, skipped):
    # Enlarged, so that runs take several characters.
    masks = [mask.repeat(factor, 0) for mask in masks]
    column = pa.array([encode(torch.from_numpy(mask))["counts"] for mask in masks], pa.string())
    assert mask_areas(column[skipped:]).tolist() == [mask.sum() for mask in masks[skipped:]]


def test_areas_of_large_masks_are_exact():
    masks = [np.ones((3000, 2000), bool), np.zeros((5, 7), bool), np.eye(900, dtype=bool)]
    column = pa.array([encode(torch.from_numpy(mask))["counts"] for mask in masks])
    assert mask_areas(column).tolist() == [6_000_000, 0, 900]


def test_failures_are_grouped_by_what_went_wrong():
    errors = [
        *[(f"t{k}.jpg", f"truncated after {k} of 90 bytes") for k in range(5)],
        *[(f"{k}", f"No such file: '/data/{k}.jpg'") for k in range(2)],
        ("x", "it's no picture"),
        ("y", "it's no picture"),
        ("z", "it's not 8 bits"),
    ]
    groups, further = group_failures(errors)
    assert [(one.message, one.count, one.keys) for one in groups] == [
        ("truncated after … of 90 bytes", 5, ("t0.jpg", "t1.jpg", "t2.jpg")),
        ("No such file: …", 2, ("0", "1")),
        ("it's no picture", 2, ("x", "y")),
        ("it's not 8 bits", 1, ("z",)),
    ]
    assert further == (0, 0)
    assert KEYS == 3


def test_many_kinds_of_failure_are_cut_short(tmp_path):
    rows = [bad(f"{a}{b}", f"error {a}") for a in "abcdefghijklmnopqrstuvw" for b in range(2)]
    content = run_content(write_run(tmp_path, rows))
    assert len(content.failures) == MESSAGES
    assert content.further == (3, 6)
    assert "3 more messages, of 6 pictures, are in the run's files" in run_html(content)


def shown(content):
    return [(one.group, {what: value for value, what in one.facts}["key"]) for one in content]


def test_best_and_worst_are_the_extremes(tmp_path):
    totals = np.random.default_rng(0).permutation(40) / 8.0
    rows = [bad("b0"), *[good(f"k{k:02d}", 0, total) for k, total in enumerate(totals)], bad("b1")]
    examples = run_content(write_run(tmp_path, rows)).examples
    order = [f"k{k:02d}" for k in np.argsort(-totals)]
    best = [("Highest i(y; x)", key) for key in order[:EXAMPLES]]
    worst = [("Lowest i(y; x)", key) for key in order[: -EXAMPLES - 1 : -1]]
    assert shown(examples) == best + worst
    assert examples[0].title == "ant, 4.88 bits"
    plane = np.array([[0.5, 1.0], [-1.0, 0.0]], np.float32).repeat(4, 0).repeat(4, 1)
    assert (examples[0].maps[0].plane == plane).all()


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_no_picture_is_shown_twice(tmp_path, count):
    rows = [good(f"k{k:02d}", 0, 1.0) for k in range(count)]
    examples = run_content(write_run(tmp_path, rows)).examples
    keys = [key for _, key in shown(examples)]
    assert sorted(keys) == [f"k{k:02d}" for k in range(count)]
    assert keys == sorted(keys)  # of equal ones the first comes first


def test_only_the_pictures_that_are_shown_are_loaded(tmp_path, monkeypatch):
    loaded = []
    original = DatasetRun.__getitem__
    monkeypatch.setattr(
        DatasetRun, "__getitem__", lambda run, key: loaded.append(key) or original(run, key)
    )
    run_content(many_classes(tmp_path, 30, 20))
    assert len(loaded) == len(set(loaded)) == 2 * EXAMPLES


def test_what_is_not_finite_is_left_out_and_said(tmp_path):
    rows = [*ROWS, good("f.png", 1, -np.inf), good("g.png", 1, 1.0, [float("nan")] * 4)]
    content = run_content(write_run(tmp_path, rows))
    assert content.done == 6
    assert [one.count for one in content.overall] == [5, 5]
    assert "f.png" not in str(shown(content.examples))
    assert content.notes == ("Left out of all bits: 1 whose i(y; x) is not finite.",)
    run_html(content)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "log₂ 3 = 1.58 bits"),
        ({"unit": "nats"}, "ln 3 = 1.10 nats"),
        ({"head": "probs"}, "log₂ 3 = 1.58 bits"),
        ({"head": "sigmoid"}, ""),
        ({"head": "raw"}, ""),
        ({"prior": [0.5, 0.25, 0.25]}, ""),
    ],
)
def test_the_bound_stands_where_it_holds(tmp_path, changed, words):
    bound, said = bound_of({"settings": {"unit": "bits"} | changed}, 3)
    assert said == words
    assert (bound is None) == (not words)
    page = run_html(run_content(write_run(tmp_path, ROWS, **changed)))
    assert ('class="cim-bound-words"' in page) == bool(words)
    assert words in Tags(page).words()


@pytest.mark.parametrize(("view", "is_bounded"), [("crop", True), ("keep", False), ("drop", False)])
def test_a_regions_score_has_the_bound_only_if_it_is_information(tmp_path, view, is_bounded):
    blank = {"blank": [0.1] * 4} if view == "keep" else {}
    run = write_run(tmp_path, [good("a", 0, 1.0, **blank)], infomap=template(view), view=view)
    whole, region = run_content(run).overall
    assert whole.is_bounded
    assert region.is_bounded == is_bounded


def test_the_slider_starts_where_the_runs_rule_cuts():
    def start(rule):
        return threshold_of({"settings": {"rule": rule}})

    assert start("MaxFraction(fraction=0.35)") == (("max_fraction", 0.35), "")
    assert start("AtLeast(bits=1e-05)") == (("at_least", 1e-05), "")
    threshold, note = start("Otsu()")
    assert threshold == ("max_fraction", 0.2)
    assert "Otsu()" in note


def test_the_summary_says_what_was_run():
    found = {"settings": {"model": "net", "view": "drop", "target": "kind"}, "pictures": 1}
    assert summary_words(found) == "InfoMask drop with net on 1 picture; target: the column kind"


def test_a_run_without_a_single_number_has_a_page(tmp_path):
    page = run_html(run_content(write_run(tmp_path / "scans", [bad("a"), bad("b")])))
    words = Tags(page).words()
    assert "0 done 2 failed 0 still missing" in words
    assert "not finished" not in words
    assert "it is not one. 2 a b" in words
    for absent in ("Key figures", "Distribution", "Best and worst", "Speed"):
        assert f"<h2>{absent}" not in page
    assert 'id="viewer"' not in page


def test_an_unfinished_run_says_so(tmp_path):
    words = Tags(run_html(run_content(write_run(tmp_path, ROWS, pictures=2000)))).words()
    assert "4 done 1 failed 1,995 still missing This run is not finished." in words
    assert "All numbers are of the 4 pictures that are done." in words
    nothing = Tags(run_html(run_content(write_run(tmp_path / "b", [], pictures=7)))).words()
    assert "0 done 0 failed 7 still missing This run is not finished." in nothing
    assert "No picture has numbers yet." in nothing
    assert "No picture failed so far." in nothing


def test_one_class_is_one_row(tmp_path):
    page = run_html(run_content(write_run(tmp_path, [good("a", 1, 1.0), good("b", 1, 0.5)])))
    assert len(re.findall(r"<svg class=\"cim-strip\"", page)) == 3
    assert "The 1 class as a table" in Tags(page).words()


def test_of_a_thousand_classes_some_are_drawn_and_all_are_listed(tmp_path):
    content = run_content(many_classes(tmp_path))
    assert len(content.classes) == 1000
    page = run_html(content)
    assert len(re.findall(r"<svg class=\"cim-strip\"", page)) == 2 + 20 + 5 + 5
    assert page.count('<th scope="row">class number') == 1000
    assert len(page) < 1_000_000
    medians = [one.quantiles[2] for one in content.classes]
    assert medians == sorted(medians, reverse=True)
    groups = dict(class_groups(content.classes))
    assert [one.name for one in groups["The 5 highest medians"]] == [
        one.name for one in content.classes[:5]
    ]
    assert [one.name for one in groups["The 5 lowest medians"]] == [
        one.name for one in content.classes[-5:]
    ]
    most = groups["The 20 classes with most pictures"]
    assert {one.name for one in most} == {f"class number {k}" for k in range(20)}


def test_extreme_medians_are_of_more_than_a_few_pictures(tmp_path):
    few = [good(f"f{k:02d}", k, 9.0) for k in range(40)]
    more = [good(f"m{k:03d}", 40 + k % 40, 1.0 + k / 1000) for k in range(400)]
    run = write_run(tmp_path, few + more, categories=[str(k) for k in range(80)])
    (head, highest), *_ = class_groups(run_content(run).classes)
    assert head == "The 5 highest medians, of classes with at least 5 pictures"
    assert {one.count for one in highest} == {10}


def test_a_strip_shows_where_values_lie():
    axis = Axis(-10.0, 10.0, 10.0, "log₂ 1,024 = 10.00 bits")
    drawn = figure(axis)
    assert (-5.0 / 20 + 0.5, "−5") in [(place / 100, label) for place, label in drawn.ticks]
    assert (drawn.zero, drawn.bound_place) == ("M500.0 0V44", 100.0)
    values = np.repeat([-10.0, 0.0, 5.0], [10, 80, 10])
    (one,) = distributions(["all"], np.zeros(100, np.int64), values, axis)
    row = strip(one, axis)
    assert row.dots == ""
    steps = re.findall(r"V([\d.]+)h25", row.silhouette)
    assert len(steps) == BINS // 2
    assert [k for k, top in enumerate(steps) if float(top) < 32] == [0, 20, 30]
    assert float(steps[20]) == 4  # the fullest step is as high as the row
    assert row.median.startswith("M500.0 ")
    assert row.quartiles == "M500.0 38H500.0"
    (two,) = distributions(["two"], np.zeros(2, np.int64), np.array([-10.0, 20.0]), axis)
    assert [float(x) for x in re.findall(r"M([\d.]+) [\d.]+h0", strip(two, axis).dots)] == [0, 1000]


def hostile_run(folder):
    rows = [
        good(HOSTILE, 0, 1.0, engine=HOSTILE),
        good(HOSTILE_END, 1, 0.5, engine=HOSTILE_END),
        bad(HOSTILE_END + "2", HOSTILE),
        bad(HOSTILE + "2", HOSTILE_END),
    ]
    return write_run(
        folder / "<b>&amp;",
        rows,
        pictures=9,
        categories=[HOSTILE, HOSTILE_END],
        target=HOSTILE,
        model=HOSTILE_END,
        rule=HOSTILE,
        **{HOSTILE: {HOSTILE_END: [HOSTILE]}},
    )


def test_hostile_text_becomes_no_tag(tmp_path):
    plain = Tags(run_html(run_content(write_run(tmp_path / "plain", ROWS, pictures=9))))
    hostile = Tags(run_html(run_content(hostile_run(tmp_path))))
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in plain.tags}
    scripts = [tag for tag, _ in hostile.tags if tag == "script"]
    assert len(scripts) == 2
    assert not any(name.startswith("on") for _, attrs in hostile.tags for name in attrs)
    assert "".join(hostile.text).count(HOSTILE) >= 8


def test_the_policy_is_that_of_the_report(tmp_path):
    parsed = Tags(run_html(run_content(write_run(tmp_path, ROWS))))
    (policy,) = [attrs["content"] for tag, attrs in parsed.tags if "http-equiv" in attrs]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attrs in parsed.tags:
        address = attrs.get("src") or attrs.get("href")
        assert address is None or address.startswith("data:"), (tag, attrs)
        assert "style" not in attrs


def test_what_the_run_adds_loads_nothing():
    from captum_infomask.report.page import run_script, run_style

    for text in (run_script(), run_style()):
        assert "://" not in text
        assert not re.search(r"\bimport\b|@import|url\(|\bfetch\(|innerHTML|</", text)


def test_twelve_photographs_stay_small(tmp_path, monkeypatch):
    y, x = np.mgrid[:224, :224] / 224
    smooth = np.stack([np.sin(9 * x) + y, np.cos(7 * y * x), x - y], axis=2) * 60 + 128
    noise = np.random.default_rng(0).normal(0, 6, (224, 224, 3))
    photo = (smooth + noise).clip(0, 255).astype(np.uint8)
    x = torch.zeros(1, 3, 224, 224)
    from captum_infomask import InfoMask, grid

    infomap = InfoMask(lambda x: 2 + x.mean((2, 3))).score_regions(
        x, target=0, view="drop", regions=grid(x, 4, 4)
    )
    rows = [good(f"{k}", 0, 1.0, np.random.default_rng(k).normal(size=16)) for k in range(40)]
    monkeypatch.setattr(DatasetRun, "picture", lambda run, key: photo)
    page = run_html(run_content(write_run(tmp_path, rows, infomap=infomap)))
    assert 1_000_000 < len(page.encode()) < 5_000_000


def test_the_page_is_the_same_every_time(tmp_path):
    run = write_run(tmp_path, ROWS)
    assert run_html(run_content(run)) == run_html(run_content(DatasetRun(tmp_path)))


def test_settings_and_versions_are_listed(tmp_path):
    words = Tags(run_html(run_content(write_run(tmp_path, ROWS, sliding_window_shapes=[3, 2, 2]))))
    for pair in (
        "sliding_window_shapes [3, 2, 2]",
        "seed 0",
        "python 3.13.0",
        "machine.device abacus",
        "model, SHA-256 22",
        "started 2026-01-02T03:04:05+01:00",
    ):
        assert pair in words.words()


def test_content_needs_no_more_than_counts():
    empty = RunContent("nothing", "yet", pictures=0, done=0, failed=0)
    assert "0 done 0 failed 0 still missing" in Tags(run_html(empty)).words()
    assert CATEGORIES == ("ant", "bee", "cat")
