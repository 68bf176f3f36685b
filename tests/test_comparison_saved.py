"""Comparisons and runs as tables, and comparisons as files that are read again."""

import csv
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from refused import refused
from run_samples import NAMES, run_tiny, save_pictures
from tiny import Net, images

from captum_infomask import (
    AtLeast,
    Comparison,
    Hysteresis,
    InfoMap,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    compare,
    load_run,
)
from captum_infomask.results import MethodOutcome

X = images(2, height=16, width=16)
TRUTH = torch.zeros(2, 16, 16).bool()
TRUTH[:, 4:12, 4:12] = True


def failing(model, inputs, target):
    if bool((inputs == X[:1]).all()):
        raise RuntimeError("not this one")
    return inputs


FOUND = compare(
    Net(),
    X,
    [2, 3],
    methods={
        "InfoMask": InfoMask(Net(), categories=NAMES),
        "chain": (InfoMask(Net()), {"view": "chain", "n_samples": 4}),
        "boxes": (InfoMask(Net()), {"view": "drop"}),
        "half": failing,
        "Schöne-Methode": lambda model, inputs, target: inputs.abs(),
    },
    ground_truth=TRUTH,
    categories=NAMES,
    prior=[0.1, 0.2, 0.3, 0.2, 0.2],
)


def assert_same(one: object, other: object) -> None:
    """All fields, to the bit, their types too."""
    if isinstance(one, str):  # PyTorch's version is a kind of str
        assert one == other
        return
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor | np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        plain = [np.asarray(value).tobytes() for value in (one, other)]
        assert plain[0] == plain[1]
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for own, its in zip(one, other, strict=True):
            assert_same(own, its)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, float):
        assert repr(one) == repr(other)
    elif dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]  # what is cached is no field
        assert_same(
            [getattr(one, name) for name in names], [getattr(other, name) for name in names]
        )
    else:
        assert one == other


@pytest.fixture
def path(tmp_path):
    FOUND.save(tmp_path / "comparison.safetensors")
    return tmp_path / "comparison.safetensors"


def test_a_comparison_is_read_again_to_the_bit(path, tmp_path):
    again = Comparison.load(path)
    assert_same(FOUND, again)
    assert isinstance(again["InfoMask"].infomaps[0], InfoMap)
    assert again["half"].infomaps == (None, None)
    assert again["InfoMask"].infomaps[1].labels == ("dog",)
    assert str(again) == str(FOUND)
    for write in ("to_html", "to_csv", "to_json"):
        for name, one in (("a", FOUND), ("b", again)):
            getattr(one, write)(tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), write
    again.save(path)
    assert_same(FOUND, Comparison.load(path))


@pytest.mark.parametrize(
    "rule",
    [
        MaxFraction(0.3),
        TopFraction(0.1),
        Otsu(),
        AtLeast(0.25),
        Hysteresis(AtLeast(0.1), MaxFraction(0.7)),
    ],
)
def test_rules_are_read_again(rule, tmp_path):
    found = dataclasses.replace(FOUND, rule=rule)
    found.save(tmp_path / "it")
    assert Comparison.load(tmp_path / "it").rule == found.rule


def test_a_rule_of_ones_own_is_refused(tmp_path):
    class MaxFraction:  # it has a known name, but is another
        def threshold(self, values):
            return 0.0

    mine = dataclasses.replace(FOUND, rule=MaxFraction())
    refused(("`rule`", "Hysteresis", "to_json"), lambda: mine.save(tmp_path / "it"))
    assert not list(tmp_path.iterdir())


def test_damage_is_found(path, tmp_path):
    whole = path.read_bytes()
    for place in range(16, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(("`path`",), lambda: Comparison.load(path))
    path.write_bytes(whole[:-1])
    refused(("`path`", "damaged"), lambda: Comparison.load(path))
    infomap = InfoMask(Net()).score_regions(X, target=1)
    infomap.save(path)
    refused(("`path`", "captum_infomask.Comparison 1", "InfoMap"), lambda: Comparison.load(path))
    FOUND.to_json(path)
    refused(("`path`", "damaged"), lambda: Comparison.load(path))
    refused(("`path`", "does not exist"), lambda: Comparison.load(tmp_path / "none"))


@pytest.mark.parametrize("lost", ["rule", "outcomes", "labels", "settings"])
def test_a_file_without_a_part_is_damaged(path, lost, monkeypatch):
    from captum_infomask.results import comparison_files

    whole = comparison_files.read

    def without(*given):
        tensors, facts = whole(*given)
        return tensors, {name: value for name, value in facts.items() if name != lost}

    monkeypatch.setattr(comparison_files, "read", without)
    refused(("`path`", "damaged", lost), lambda: Comparison.load(path))


def test_a_table_has_a_row_per_method_and_picture(tmp_path):
    table = FOUND.to_pandas()
    assert len(table) == len(FOUND.names) * 2
    FOUND.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(table) == list(lines[0])
    for row, line in zip(table.to_dict("records"), lines, strict=True):
        outcome, k = FOUND[row["method"]], row["picture"]
        assert isinstance(outcome, MethodOutcome)
        assert row["label"] == NAMES[row["target"]] == FOUND.labels[k]
        for name in ("seconds", "share", *outcome.metrics):
            assert row[name] == outcome.values(name)[k] or (row["error"] and np.isnan(row[name]))
            assert line[name] == ("" if np.isnan(row[name]) else repr(row[name]))
    assert table.error[table.method == "half"].tolist()[1] == ""
    assert "not this one" in table.error[table.method == "half"].tolist()[0]


def test_a_run_is_a_table_with_a_row_per_picture(tmp_path):
    save_pictures(tmp_path / "data", 3)
    (tmp_path / "data" / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    run_tiny(tmp_path / "data", out, rule=TopFraction(0.5), max_errors=5)
    run = load_run(out)
    table = run.to_pandas()
    assert table.key.tolist() == ["000.png", "001.png", "002.png", "bad.png"]
    for row in table[:3].itertuples():
        infomap = run[row.key]
        assert (row.target, row.label) == (row.predicted, row.predicted_label)
        assert row.predicted_label == NAMES[row.predicted]
        assert row.total == infomap.total.item()
        mask = infomap.mask(TopFraction(0.5))[0, 0]
        assert row.share == mask.double().mean().item()
        if mask.any():
            box = infomap.boxes(TopFraction(0.5))[0][0].tolist()
            assert [row.x0, row.y0, row.x1, row.y1] == box
        assert infomap.targets.tolist() == [row.target]
        assert infomap.labels == (row.label,)
    bad = table.iloc[3]
    assert "bad.png" in bad.error or "picture" in bad.error
    assert pd.isna(bad.target)
    assert pd.isna(bad.total)
    assert pd.isna(bad.share)
    assert str(table.target.dtype) == "Int64"
    words = json.loads(table.drop(columns="seconds").to_json(orient="records"))
    assert words[0]["label"] == NAMES[words[0]["target"]]


def test_files_and_date_are_read_again(tmp_path):
    found = dataclasses.replace(FOUND, date="2026-11-28", sources=("a/cat.jpg", "b\n$x$.png"))
    found.save(tmp_path / "it")
    again = Comparison.load(tmp_path / "it")
    assert (again.date, again.sources) == (found.date, found.sources)
    found.to_html(tmp_path / "one.html")
    again.to_html(tmp_path / "other.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pictures", torch.rand(2, 16, 16, 3)),
        ("pictures", torch.zeros(2, 16, 16, dtype=torch.uint8)),
        ("targets", torch.zeros(2)),
        ("truth", torch.zeros(2, 3, 3).bool()),
        ("method.0.planes", torch.zeros(2, 16)),
        ("method.1.planes", torch.zeros(2, 8, 8)),
        ("method.0.masks", torch.zeros(2, 16, 16)),
        ("method.2.seconds", torch.zeros(2, 2)),
    ],
)
def test_a_file_with_an_array_of_another_form_is_damaged(path, name, other, monkeypatch):
    from captum_infomask.results import comparison_files

    whole = comparison_files.read

    def changed(*given):
        tensors, facts = whole(*given)
        assert name in tensors
        return {**tensors, name: other}, facts

    monkeypatch.setattr(comparison_files, "read", changed)
    refused(("`path`", "damaged", name), lambda: Comparison.load(path))
