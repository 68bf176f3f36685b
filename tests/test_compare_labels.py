"""compare(labels=...): whether the bits of a comparison's methods are true."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from refused import refused

from captum_infomask import Comparison, InfoMask, bits_reliability, compare, grid
from captum_infomask.datasets import GaussianPatches, IndependentPatches

PICTURES = IndependentPatches(
    GaussianPatches.random(classes=4, strength=0.8, seed=1), rows=2, columns=2
)
X, Y = PICTURES.draw(40, seed=0)
NET = PICTURES.network()
REGIONS = {"regions": grid(X, 2, 2)}
CROP = {"view": "crop", "crop_size": "native", **REGIONS}
KEEP = {"view": "keep", **REGIONS}
NAMES = ["a", "b", "c", "d"]
ARRAYS = ("said", "observed", "lower", "upper", "expected_count", "observed_count")


def too_sure(images):
    return 3 * NET(images)


METHODS = {
    "InfoMask crop": (InfoMask(too_sure), CROP),
    "mine": (InfoMask(too_sure, temperature=3.0, unit="nats"), KEEP),
    "drop": (InfoMask(too_sure), {"view": "drop", **REGIONS}),
    "blank": (InfoMask(too_sure), {**KEEP, "reference": "blank"}),
    "against": (InfoMask(too_sure), {**CROP, "contrast": 0}),
    "labels apart": (InfoMask(too_sure, head="sigmoid"), CROP),
    "function": lambda model, inputs, target: inputs,
}


def compared(inputs=X, **settings):
    given = {"methods": METHODS, "metrics": [], "seed": 3, **settings}
    return compare(too_sure, inputs, [1] * len(inputs), **given)


FOUND = compared(labels=Y)


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("error", "excess", "pictures", "view", "prior"):
        assert getattr(one, name) == getattr(other, name)


def test_the_methods_that_count_from_the_prior_are_checked():
    asked = {
        "InfoMask crop, 4×4": (InfoMask(too_sure), CROP),
        "mine, keep, 4×4, τ = 3": (InfoMask(too_sure, temperature=3.0), KEEP),
    }
    assert [one.name for one in FOUND.reliability] == list(asked)
    for one, (infomask, options) in zip(FOUND.reliability, asked.values(), strict=True):
        direct = bits_reliability(infomask, X, Y, seed=3, **options)
        np.testing.assert_allclose(one.said, direct.said, rtol=1e-6)
        np.testing.assert_array_equal(one.observed, direct.observed)
    assert_same(FOUND.reliability[0], bits_reliability(InfoMask(too_sure), X, Y, seed=3, **CROP))
    sure, fitted = FOUND.reliability
    assert sure.error.mean > 2 * fitted.error.mean
    assert not FOUND.troubles
    assert f"\n{sure.name}: {sure.verdict()}\n" in FOUND.text()


def test_without_such_a_method_the_crop_view_is_checked():
    settings = {"sliding_window_shapes": (1, 4, 4), "strides": (1, 4, 4)}
    found = compared(
        methods=["InfoMask drop"], labels=[NAMES[k] for k in Y], categories=NAMES, **settings
    )
    (one,) = found.reliability
    assert one.name == "crop, 4×4"
    assert_same(one, bits_reliability(InfoMask(too_sure), X, Y, seed=3, **settings))
    (note,) = [note for note in found.content().reliability.notes if "view='crop'" in note]
    assert "No method here" in note


def test_results_are_saved_and_read_again(tmp_path):
    FOUND.save(tmp_path / "it")
    again = Comparison.load(tmp_path / "it")
    assert len(again.reliability) == 2
    for one, other in zip(FOUND.reliability, again.reliability, strict=True):
        assert_same(one, other)
        assert one.name == other.name
    for name, found in (("a", FOUND), ("b", again)):
        found.to_html(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    FOUND.to_json(tmp_path / "json")
    first = json.loads((tmp_path / "json").read_text(encoding="utf-8"))["reliability"][0]
    assert first["bins"]["said"] == FOUND.reliability[0].said.tolist()
    assert first["verdict"] == FOUND.reliability[0].verdict()


def test_a_file_of_an_earlier_version_has_no_results(tmp_path, monkeypatch):
    from captum_infomask.results import comparison_files

    dataclasses.replace(FOUND, reliability=()).save(tmp_path / "it")
    whole = comparison_files.read

    def earlier(*given):
        tensors, facts = whole(*given)
        assert facts.pop("reliability") == []
        return tensors, facts

    monkeypatch.setattr(comparison_files, "read", earlier)
    assert Comparison.load(tmp_path / "it").reliability == ()


@pytest.mark.parametrize("part", ["said", "upper"])
def test_results_of_another_form_are_damage(tmp_path, monkeypatch, part):
    from captum_infomask.results import comparison_files

    FOUND.save(tmp_path / "it")
    whole = comparison_files.read

    def changed(*given):
        tensors, facts = whole(*given)
        return {**tensors, f"reliability.0.{part}": torch.zeros(1).double()}, facts

    monkeypatch.setattr(comparison_files, "read", changed)
    refused(("`path`", "damaged", "bins"), lambda: Comparison.load(tmp_path / "it"))


def test_the_report_has_the_section_and_requests_nothing(tmp_path):
    FOUND.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">Are the bits true?</h2>" in page
    for one in FOUND.reliability:
        assert f"<strong>{one.name}</strong>: {one.verdict()}." in page
    diagrams = re.findall(r'(?:src|srcset)="(.*?)"', page)
    assert len(diagrams) == 2
    assert all(one.startswith("data:image/png;base64,") for one in diagrams)
    assert diagrams[0] != diagrams[1]
    assert "http:" not in page.split("<main>")[1].split("<script")[0]
    assert "So few" not in page


@pytest.mark.parametrize("n", [1, 9])
def test_few_pictures_show_little(n):
    found = compared(X[:n], methods={"crop": METHODS["InfoMask crop"]}, labels=Y[:n])
    (one,) = found.reliability
    assert one.pictures == n
    assert one.error.low is None
    check = found.content().reliability
    assert any("So few pictures can show little" in note for note in check.notes)


def test_without_labels_nothing_is_checked(tmp_path):
    found = compared()
    assert found.reliability == ()
    assert found.content().reliability is None
    assert "Are the bits true" not in found.text()
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "bits true" not in page
    assert "cim-bits" not in page
    found.to_json(tmp_path / "json")
    assert "reliability" not in json.loads((tmp_path / "json").read_text(encoding="utf-8"))


def never(images):
    raise AssertionError("the network ran")


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("`labels`", "3 integers"), {"labels": [0, 1]}),
        (("`labels`", "3 integers"), {"labels": [0.5, 1, 1]}),
        (("`labels`", "-1"), {"labels": [0, -1, 1]}),
        (("`labels`", "'f'"), {"labels": ["a", "b", "f"], "categories": NAMES}),
        (("`labels`", "below 4"), {"labels": [0, 1, 4], "categories": NAMES}),
        (("`labels`", "categories"), {"labels": ["a", "b", "c"]}),
        (("`prior`", "the labels", "class 2"), {"labels": [0, 1, 2], "prior": [0.5, 0.5, 0, 0]}),
        (("`labels`", "head='sigmoid'"), {"labels": [0, 1, 1], "head": "sigmoid"}),
        (("`labels`", "groups"), {"labels": [0, 1, 1], "groups": [[0, 1], [2, 3]]}),
    ],
)
def test_bad_labels_are_refused_before_the_network_runs(words, settings):
    refused(words, lambda: compare(never, X[:3], 1, **settings))


def test_a_class_that_the_network_does_not_have_is_refused_before_methods_run():
    def method(model, inputs, target):
        raise AssertionError("a method ran")

    refused(
        ("`labels`", "0 to 3", "got 4"),
        lambda: compare(NET, X[:2], 1, methods={"it": method}, labels=[0, 4]),
    )


def test_a_check_that_fails_is_said_and_the_rest_is_kept():
    other = (InfoMask(lambda x: NET(x)[:, :2]), CROP)
    methods = {"two": other, "crop": METHODS["InfoMask crop"]}
    found = compared(methods=methods, labels=Y)
    assert [one.name for one in found.reliability] == ["crop, 4×4"]
    (trouble,) = [words for words in found.troubles if "reliability" in words]
    assert "of two" in trouble
    assert "`labels`" in trouble
