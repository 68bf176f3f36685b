"""Runs over whole data sets with groups of classes, and with targets told from another class."""

import dataclasses

import pytest
import torch
from refused import refused
from run_samples import NAMES, SEEN, WINDOWS, plain, run_tiny, save_pictures, tiny

from captum_infomask import InfoMask, load_run, run_dataset
from captum_infomask.cli import main
from captum_infomask.dataset_run.manifest import template_hash
from captum_infomask.dataset_run.run_settings import tensors_hash
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.models.preprocessing import read_image

GROUPS = [[4, 0], [2, 1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    save_pictures(made, 5, folders=NAMES)  # a picture of each class
    return made


def seen(folder, key):
    return SEEN(read_image(folder / key))


@pytest.mark.parametrize("target", ["prediction", "label"])
@pytest.mark.parametrize("contrast", [1, NAMES[1].upper(), "runner_up"])
def test_rows_are_told_as_infomask_tells_them(folder, tmp_path, target, contrast):
    network = tiny().network
    run = run_tiny(folder, tmp_path / "out", target=target, contrast=contrast, view="drop")
    infomask, told = InfoMask(network), 0
    for row in run.table.to_pylist():
        x = seen(folder, row["key"])
        label = NAMES.index(row["key"].split("/")[0])
        asked = label if target == "label" else int(network(x).argmax())
        other = 1 if contrast == NAMES[1].upper() else contrast
        if asked == other:
            assert "another class" in row["error"]
            continue
        want = infomask.score_regions(x, target=asked, contrast=other, view="drop", **WINDOWS)
        torch.testing.assert_close(run[row["key"]].scores, want.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run[row["key"]].total, want.total, rtol=1e-4, atol=1e-5)
        assert torch.equal(run[row["key"]].contrast, want.contrast)
        assert row["contrast"] == int(want.contrast[0, 1])
        told += 1
    assert told >= 3
    content = run_content(load_run(tmp_path / "out"))
    assert "rather than" in content.summary
    assert content.overall[0].name.startswith("i(y; x) − i(y′; x)")
    assert content.axis.bound is None


def test_labels_are_classes_and_targets_their_groups(folder, tmp_path):
    network = tiny().network
    run = run_tiny(folder, tmp_path / "out", target="label", groups=GROUPS, view="drop")
    infomask = InfoMask(network, groups=GROUPS)
    rows = {row["key"].split("/")[0]: row for row in run.table.to_pylist()}
    assert {name: row["target"] for name, row in rows.items()} == {
        "ant": 0, "bee": 1, "cat": 1, "dog": None, "elk": 0,
    }  # fmt: skip
    assert "a class in one of the `groups`" in rows["dog"]["error"]
    assert run.categories == ("elk and 1 more", "cat and 1 more")
    for name in ("bee", "elk"):
        x = seen(folder, rows[name]["key"])
        want = infomask.score_regions(x, target=rows[name]["target"], view="drop", **WINDOWS)
        torch.testing.assert_close(run[rows[name]["key"]].scores, want.scores, rtol=1e-4, atol=1e-5)
        assert rows[name]["predicted"] == int(infomask.score_classes(x, top_k=1).classes)
    assert run.manifest["settings"]["groups"] == GROUPS
    assert run_content(run).axis.bound is None


def test_what_does_not_fit_is_refused_before_any_picture(folder, tmp_path):
    for settings, words in (
        ({"contrast": [1, 2]}, ("`contrast`", "all pictures of a run")),
        ({"contrast": "second"}, ("`contrast`", "'second'")),
        ({"contrast": 5}, ("`contrast`", "got 5")),
        ({"groups": [[0, 0]]}, ("`groups`", "class 0")),
        ({"groups": [[5]]}, ("`groups`", "got 5")),
        ({"groups": [[0]], "contrast": 0}, ("`contrast`", "another class")),
    ):
        refused(words, lambda given=settings: run_tiny(folder, tmp_path / "out", **given))
        assert not (tmp_path / "out").exists()


def test_a_run_of_earlier_versions_still_has_its_template():
    x = torch.rand(1, 3, 8, 8)
    infomap = InfoMask(tiny().network).score_regions(x, target=0, view="crop", **WINDOWS)
    later = ("contrast", "explained", "residual", "superpixels", "targets", "labels", "probability")
    before = {
        field.name: getattr(infomap, field.name)
        for field in dataclasses.fields(infomap)
        if field.name not in ("engine", *later)
    }
    template = dataclasses.replace(infomap, **dict.fromkeys(later))
    assert template_hash(template) == tensors_hash(before)
    told = dataclasses.replace(infomap, contrast=torch.tensor([[0, 1]]))
    assert template_hash(told) != template_hash(infomap)


MODULE = """
import torch
from torch import nn
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

def network():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 5))
    return Classifier("told", made, ("ant", "bee", "cat", "dog", "elk"), Preprocess(32, 32))
"""


def test_the_command_line_takes_groups_and_contrasts(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_told.py").write_text(MODULE)
    (tmp_path / "groups.txt").write_text("4 0\n2, 1\n")
    network = ["--model", "own_told:network"]
    words = ["run", "--data", str(folder), *network, "--workers", "0", "--view", "drop"]
    more = ["--groups", "groups.txt", "--contrast", "runner_up", "--window", "16"]
    assert main([*words, *more, "--out", "one"]) == 0
    run = load_run("one")
    assert run.manifest["settings"]["groups"] == GROUPS
    assert set(run.table["contrast"].to_pylist()) <= {0, 1}
    more = ["--groups", "4,0;2,1", "--contrast", "cat and 1 more", "--target", "label"]
    assert main([*words, *more, "--window", "16", "--out", "two"]) == 0
    assert load_run("two").manifest["settings"]["contrast"] == 1
    picture = str(next(folder.glob("ant/*")))
    more = ["--groups", "4,0;2,1", "--target", "elk and 1 more", "--methods", "InfoMask"]
    assert main(["compare", picture, *network, *more, "--metrics", "none", "--window", "16"]) == 0
    assert "elk and 1 more (class 0" in capsys.readouterr().out
    assert main(["attribute", picture, *network, "--groups", "4,x"]) == 2
    assert "`--groups`" in capsys.readouterr().err


def test_the_command_line_takes_what_maps_of_features_are_made_of(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_told.py").write_text(MODULE)
    words = ["run", "--data", str(folder), "--model", "own_told:network", "--workers", "0"]
    more = ["--view", "evidence", "--layer", "1,0", "--input-sizes", "32,48"]
    assert main([*words, *more, "--sharpen", "superpixels", "--out", "one"]) == 0
    same = load_run("one")
    namespace = {}
    exec(MODULE, namespace)
    given = {"layer": ["1", "0"], "input_sizes": [32, 48], "sharpen": "superpixels"}
    network = namespace["network"]()
    run = run_dataset(folder, network, "two", view="evidence", workers=0, **given)
    assert plain(run.table) == plain(same.table)
    chosen = {name: same.manifest["settings"][name] for name in given}
    assert chosen == {name: run.manifest["settings"][name] for name in given}
    capsys.readouterr()
    assert main([*words, "--view", "evidence", "--input-sizes", "a", "--out", "three"]) == 2
    assert "`--input-sizes`" in capsys.readouterr().err
